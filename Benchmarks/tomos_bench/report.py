"""A run as a terminal table, a Markdown table and one HTML file without references."""

import html
import json
import math

from . import statistics as st


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def head(lines):
    return lines[0]["environment"], next((x["limits"] for x in lines if "limits" in x), {})


def by_case(lines):
    cases = {}
    for r in lines:
        if "case" in r:
            cases.setdefault(r["case"], []).append(r)
    return cases


def time_text(seconds):
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def samples(r):
    return r.get("wall") or []


def central(r):
    if samples(r):
        return st.median(samples(r))
    return (r.get("quantiles") or {}).get("p50")


def ratio(theirs, ours):
    """How many times faster, with its interval where there are samples; nothing where the peer took finer steps than it would."""
    if "step" in theirs:
        return None, None
    if samples(theirs) and samples(ours):
        return st.ratio_interval(samples(theirs), samples(ours))
    a, b = central(theirs), central(ours)
    return (a / b, None) if a and b else (None, None)


def processor_ratio(theirs, ours):
    """The same of processor time over all threads: what a server that many share saves."""
    return st.median(theirs["cpu"]) / st.median(ours["cpu"]) if "step" not in theirs and theirs.get("cpu") and ours.get("cpu") and st.median(ours["cpu"]) > 0 else None


def label(r):
    return r["subject"] + (f", step {r['step']:g}" if "step" in r else "")


def noisy(r, limit=0.15):
    """Whether others took more than `limit` of the machine in most turns."""
    return bool(r.get("noise")) and st.median(r["noise"]) > limit


def row(name, records):
    """One line for the terminal."""
    ours = next((r for r in records if r["subject"] == "tomos" and "skipped" not in r), None)
    if not ours:
        return f"{name:38} {records[0].get('skipped', 'no result') if records else 'no result'}"
    texts = []
    for r in records:
        if r is ours:
            continue
        if "skipped" in r:
            texts.append(f"{r['subject']}: {r['skipped'][:60]}")
            continue
        point, interval = ratio(r, ours)
        spread = f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else ""
        verdict = "" if not r.get("agreement") or r["agreement"]["agrees"] else f" DIFFERS: {r['agreement']['figure']}"
        texts.append(f"{r['subject']} {time_text(central(r))} = {point:.2f}×{spread}{verdict}" if point else f"{label(r)}{verdict}")
    own = central(ours)
    return f"{name:38} {time_text(own) if own else '–':>9}{' noisy' if noisy(ours) else ''}   {'; '.join(texts)}"


def attained(r, limits):
    """Share of the lower roof (arithmetic peak, or bandwidth times intensity) that a case reaches; on a GPU of its memory's bandwidth."""
    w = r.get("work")
    if not w or not limits:
        return None
    seconds = st.median(samples(r))
    intensity, flops = w["flops"] / w["bytes"], w["flops"] / seconds
    if gpu := next((d for d in limits.get("devices", []) if not d["software"] and d["name"] in r.get("variant", "")), None):
        return {"intensity": intensity, "flops": flops, "share": w["bytes"] / seconds / (gpu["copyGBs"] * 1e9), "bound": "device memory", "device": True}
    memory, peak = limits["readGBs"] * 1e9 * intensity, limits["fmaGFLOPs"] * 1e9
    return {"intensity": intensity, "flops": flops, "share": flops / min(memory, peak), "bound": "memory" if memory < peak else "arithmetic", "device": False}


def markdown(lines):
    """The table of Benchmarks/Results and the README."""
    environment, limits = head(lines)
    out = [f"{environment['cpu']}, {environment['cpus']} cores, {environment['system']}, commit {environment['commit']}, {environment['time'][:10]}; "
           f"read {limits.get('readGBs', '–')} GB/s, {limits.get('fmaGFLOPs', '–')} GFLOP/s. Medians; ratio = peer / Tomos in the same run, of elapsed time with its 95 % interval and of processor time.", "",
           "| Case | Tomos | Limit reached | Peer | Ratio | Processor | Same picture |", "|---|---|---|---|---|---|---|"]
    for name, records in by_case(lines).items():
        ours = next((r for r in records if r["subject"] == "tomos" and "skipped" not in r), None)
        if not ours:
            out.append(f"| {name} | not measured: {records[0]['skipped']} | | | | | |")
            continue
        share = attained(ours, limits)
        reached = f"{100 * share['share']:.0f} % of {share['bound']}" if share else ""
        cells = f"| {name}{' (noisy)' if noisy(ours) else ''} | {time_text(central(ours)) if central(ours) else '–'} | {reached} |"
        others = [r for r in records if r is not ours]
        if not others:
            out.append(cells + " | | | |")
        for r in others:
            if "skipped" in r:
                out.append(f"{cells} {r['subject']}: {r['skipped'][:80]} | | | |")
                continue
            point, interval = ratio(r, ours)
            text = f"{point:.2f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "") if point else "–"
            processor = processor_ratio(r, ours)
            out.append(f"{cells} {label(r)} {time_text(central(r)) if central(r) else '–'} | {text} | {f'{processor:.2f}' if processor else ''} | {(r.get('agreement') or {}).get('figure', '')} |")
            cells = "| | | |"
    return "\n".join(out) + "\n"


# Plots: SVG drawn by hand, so that the report is one file that opens anywhere.

COLOURS = ["#2a9d8f", "#e76f51", "#8ab17d", "#e9c46a", "#577590", "#b56576"]


def svg(width, height, body):
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{body}</svg>'


def text(x, y, s, anchor="start", size=11, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{html.escape(str(s))}</text>'


def ratio_bars(cases):
    bars = []
    for name, records in cases.items():
        ours = next((r for r in records if r["subject"] == "tomos" and "skipped" not in r), None)
        for r in records if ours else []:
            if r is not ours and "skipped" not in r:
                point, interval = ratio(r, ours)
                if point:
                    bars.append((f"{name}  ·  {r['subject']}", point, interval))
    if not bars:
        return ""
    top = max(b[1] for b in bars)
    x = lambda v: 330 + 520 * math.log(max(v, 0.1) / 0.1) / math.log(max(top, 10) / 0.1)  # noqa: E731
    body = "".join(f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="14" y2="{22 + 18 * len(bars)}" stroke="#444" stroke-dasharray="{"0" if v == 1 else "2 4"}"/>' + text(x(v), 10, f"{v:g}×", "middle")
                   for v in (0.1, 1, 10, 100, 1000) if v <= max(top, 10))
    for i, (name, point, interval) in enumerate(bars):
        y = 22 + 18 * i
        a, b = sorted((x(1), x(point)))
        body += text(322, y + 10, name, "end") + f'<rect x="{a:.1f}" y="{y}" width="{max(1, b - a):.1f}" height="12" fill="{"#2a9d8f" if point >= 1 else "#e76f51"}"/>'
        if interval:
            body += f'<line x1="{x(interval[0]):.1f}" x2="{x(interval[1]):.1f}" y1="{y + 6}" y2="{y + 6}" stroke="#fff"/>'
        body += text(max(a, b) + 6, y + 10, f"{point:.2f}")
    return svg(920, 30 + 18 * len(bars), body)


def curves(records, width=430, height=190):
    """Left: samples in order; right: their distribution functions."""
    have = [r for r in records if samples(r)]
    if not have:
        return ""
    low, high = min(min(samples(r)) for r in have), max(max(samples(r)) for r in have)
    high = max(high, low * 1.01)
    scale = lambda v: (math.log(v) - math.log(low)) / (math.log(high) - math.log(low))  # noqa: E731
    series = cdf = ""
    for i, r in enumerate(have):
        c, s = COLOURS[i % len(COLOURS)], samples(r)
        series += "".join(f'<circle cx="{40 + (width - 50) * k / max(1, len(s) - 1):.1f}" cy="{height - 22 - (height - 40) * scale(v):.1f}" r="1.8" fill="{c}"/>' for k, v in enumerate(s))
        points = " ".join(f"{40 + (width - 50) * scale(v):.1f},{height - 22 - (height - 40) * (k + 1) / len(s):.1f}" for k, v in enumerate(sorted(s)))
        cdf += f'<polyline points="{points}" fill="none" stroke="{c}" stroke-width="1.6"/>' + text(46, 14 + 13 * i, r["subject"], extra=f'fill="{c}"')
    axes = f'<path d="M40 6V{height - 22}H{width - 6}" fill="none" stroke="#555"/>'
    return (svg(width, height, axes + series + text(36, height - 24, time_text(low), "end", 9) + text(36, 16, time_text(high), "end", 9) + text(width / 2, height - 6, "repetition", "middle", 9))
            + svg(width, height, axes + cdf + text(40, height - 8, time_text(low), "start", 9) + text(width - 8, height - 8, time_text(high), "end", 9) + text(36, 14, "1", "end", 9)))


def roofline(cases, limits):
    points = [(name, a) for name, records in cases.items() for r in records if r["subject"] == "tomos" and samples(r) and (a := attained(r, limits)) and not a["device"]]
    if not points:
        return ""
    x = lambda i: 60 + 780 * (math.log10(i) + 1) / 3.5  # noqa: E731  (0.1 … 316 FLOP/byte)
    y = lambda f: 330 - 300 * (math.log10(f) - 8) / 4  # noqa: E731  (0.1 … 1000 GFLOP/s)
    peak, band = limits["fmaGFLOPs"] * 1e9, limits["readGBs"] * 1e9
    body = f'<path d="M{x(0.1):.1f} {y(band * 0.1):.1f}L{x(peak / band):.1f} {y(peak):.1f}H860" fill="none" stroke="#e9c46a" stroke-width="2"/>'
    body += text(x(0.12), y(band * 0.12) - 10, f"{limits['readGBs']} GB/s") + text(856, y(peak) - 6, f"{limits['fmaGFLOPs']} GFLOP/s", "end")
    for e in range(8, 13):
        body += text(52, y(10.0 ** e) + 4, f"{10 ** (e - 9):g}", "end", 9)
    for e in (-1, 0, 1, 2):
        body += text(x(10.0 ** e), 348, f"{10.0 ** e:g}", "middle", 9)
    for k, (name, a) in enumerate(points):
        px, py = x(min(300, a["intensity"])), y(max(1e8, a["flops"]))
        body += f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{COLOURS[k % len(COLOURS)]}"><title>{html.escape(name)}: {100 * a["share"]:.0f} % of {a["bound"]}</title></circle>' + text(px + 6, py + 3 + 9 * (k % 3 - 1), f"{name} {100 * a['share']:.0f} %", size=9)
    return svg(900, 360, f'<path d="M60 20V335H880" fill="none" stroke="#555"/>{body}{text(450, 358, "FLOP per byte that the task needs", "middle", 10)}{text(62, 16, "GFLOP/s", "start", 10)}')


def page(lines):
    environment, limits = head(lines)
    cases = by_case(lines)
    table = "".join(f"<tr><td>{'</td><td>'.join(html.escape(c.strip()) for c in line.strip('|').split('|'))}</td></tr>" for line in markdown(lines).splitlines() if line.startswith("|") and not line.startswith("|---") and not line.startswith("| Case"))
    suspicious = [n for n, rs in cases.items() if any(noisy(r) for r in rs)]
    warning = f'<p class="warn">Other programs used much of the machine in {len(suspicious)} cases: {html.escape(", ".join(suspicious))}. Their figures are not to be quoted.</p>' if suspicious else ""
    details = "".join(f"<details><summary>{html.escape(n)}</summary>{curves(rs)}</details>" for n, rs in cases.items() if any(samples(r) for r in rs))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Tomos benchmark, {environment['commit']}</title>
<style>body{{background:#15181c;color:#d8dde3;font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}}svg{{fill:#d8dde3;display:inline-block}}
table{{border-collapse:collapse;width:100%;font-size:13px}}td,th{{border-bottom:1px solid #333;padding:.25em .5em;text-align:left}}h2{{margin-top:2em}}.warn{{color:#e9c46a}}pre{{white-space:pre-wrap;font-size:12px}}</style>
<h1>Tomos benchmark</h1><p>{html.escape(environment['cpu'])}, {environment['cpus']} cores, {html.escape(environment['system'])}, commit {environment['commit']}{' with changes' if environment['changed'] else ''}, {environment['time']}.</p>{warning}
<h2>Times faster than peers</h2>{ratio_bars(cases)}
<h2>Figures</h2><table><tr><th>Case<th>Tomos<th>Limit reached<th>Peer<th>Ratio (95 %)<th>Processor<th>Same picture</tr>{table}</table>
<h2>Roofline</h2>{roofline(cases, limits)}
<h2>Repetitions and distributions</h2>{details}
<h2>Machine</h2><pre>{html.escape(json.dumps({**environment, 'limits': limits}, indent=1))}</pre></html>"""
