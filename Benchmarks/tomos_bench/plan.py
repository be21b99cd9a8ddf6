"""`tomos-bench plan`: how many sessions a machine holds, from its cores, memory and line and what its readers do.

The model is what `capacity` fitted. A session whose hand moves takes `a + b · pixels` of a core, one law for planes and one for turning
volumes: its share of the machine when as many of them are at work as keep the target. (What a session uses on an idle machine is no
measure: it takes more pictures and finer ones while there is room.) Whoever looks at a picture at rest costs memory only. A machine is full

* in its cores, when the shares add up to them;
* on its line, when every moving session is down to what it can live with (`least` bits a second: the stream adapts until there), and
  already no longer at full quality when the bytes that `capacity` saw add up to the line;
* in its memory, when volumes and sessions take half of it.

A GPU is in the model by what was measured with it: run `capacity --device vulkan` on such a machine and plan with that file.
"""

import json
import sys

GIB = 2 ** 30
MODES = ("plane", "volume")


def share(model, mode, pixels):
    """Of a core, that a session with a moving hand takes."""
    m = model["perSession"][mode]
    return m["a"] + m["b"] * pixels


def sessions(model, cores, mix, pixels):
    """How many sessions the cores hold, of a mix {mode: share of the sessions}; what is missing to 1 looks and does not move."""
    return cores / sum(part * share(model, mode, pixels) for mode, part in mix.items())


def plan(model, cores, memory, link, mix, pixels, slices, shared, least=1e6):
    """{"cores", "link", "linkFullQuality", "memory": sessions each would hold, "sessions", "limit"}.

    `memory` in GiB, `link` in bit/s out of the machine, `slices` of 512 × 512 voxels of two bytes per study, `shared` readers per study.
    """
    moving = sum(mix.values())
    bits = sum(part * 8 * model["bytesPerSecond"][mode] * pixels / model["pixels"] for mode, part in mix.items())
    volume = slices * 512 * 512 * model["bytesPerVoxel"] / shared
    held = {"cores": sessions(model, cores, mix, pixels) if moving else float("inf"),
            "link": link / (moving * least) if moving else float("inf"),
            "memory": 0.5 * memory * GIB / (volume + model["bytesPerSession"])}
    limit = min(held, key=held.get)
    return {**held, "linkFullQuality": link / bits if bits else float("inf"), "sessions": int(held[limit]), "limit": limit}


def load(path):
    try:
        with open(path) as f:
            return json.load(f)["model"]
    except OSError as e:
        sys.exit(f"tomos-bench: {e}; run `tomos-bench capacity` first")
    except (ValueError, KeyError):
        sys.exit(f"tomos-bench: {path} is no file of `tomos-bench capacity`")


def mix_of(text):
    """{"plane": 0.5, "volume": 0.2} of "plane=0.5,volume=0.2"."""
    try:
        mix = {mode: float(share) for mode, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise SystemExit(f"tomos-bench: --mix is like plane=0.5,volume=0.2, not {text}") from None
    if set(mix) - set(MODES) or min(mix.values()) < 0 or sum(mix.values()) > 1 + 1e-9:
        raise SystemExit(f"tomos-bench: --mix has shares of {' and '.join(MODES)} that add up to 1 at most, not {text}")
    return mix


def main(options):
    model, mix = load(options.model), mix_of(options.mix)
    p = plan(model, options.cores, options.memory, options.link * 1e6, mix, options.size ** 2, options.slices, options.shared)
    def text(x):
        return "any number" if x == float("inf") else f"{x:.0f}"
    print(f"{options.cores} cores, {options.memory:g} GiB, {options.link:g} Mbit/s; panes of {options.size}², "
          + ", ".join(f"{100 * s:g} % {'scrolling planes' if m == 'plane' else 'turning volumes'}" for m, s in mix.items())
          + f", the rest looking; studies of {options.slices} slices, {options.shared:g} readers each:")
    print(f"  {p['sessions']} sessions, limited by {'its ' + p['limit'] if p['limit'] != 'link' else 'the line'}")
    print(f"  cores would hold {text(p['cores'])}; the line {text(p['link'])} ({text(p['linkFullQuality'])} at full quality); memory {text(p['memory'])}")
