"""Do two subjects draw the same? Nobody wins by drawing something else."""

import numpy as np


def grey(a):
    return a.astype(np.float64).mean(-1) if a.ndim == 3 else a.astype(np.float64)


def compare(case, ours, theirs):
    """{"figure": text, "agrees": bool} by the case's `agree`: {within = HU, share = 0.99, inside = pixels} for values, {psnr = dB} for pictures."""
    rule = case.get("agree")
    if not rule:
        return None
    if ours.shape[:2] != theirs.shape[:2]:
        return {"figure": f"shapes {ours.shape} and {theirs.shape}", "agrees": False}
    a, b = grey(ours), grey(theirs)
    if "psnr" in rule:
        error = float(np.mean((a - b) ** 2))
        psnr = 10 * np.log10(rule.get("range", 255.0) ** 2 / error) if error else 99.0
        return {"figure": f"{psnr:.1f} dB", "psnr": round(psnr, 2), "agrees": bool(psnr >= rule["psnr"])}
    edge = rule.get("inside", 0)
    if edge:
        a, b = a[edge:-edge, edge:-edge], b[edge:-edge, edge:-edge]
    share = float((np.abs(a - b) <= rule["within"]).mean())
    return {"figure": f"{100 * share:.2f} % within {rule['within']:g}", "share": round(share, 5), "agrees": bool(share >= rule.get("share", 1.0))}
