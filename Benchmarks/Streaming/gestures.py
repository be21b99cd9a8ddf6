"""What the scripted hand does: 30 events a second, each a complete scene. Positions follow a minimum-jerk path with the tremor of
a hand (seeded), not a straight line: speed varies as it does in reading."""

import math
import random

RATE = 30.0


def path(seconds, strokes, seed):
    """Positions 0…1 and back, `strokes` times, one per event."""
    random.seed(seed)
    count, tremor, positions = int(seconds * RATE), 0.0, []
    for i in range(count):
        stroke, phase = divmod(i * strokes / count, 1.0)
        s = phase ** 3 * (10 - 15 * phase + 6 * phase * phase)
        tremor = 0.8 * tremor + random.gauss(0, 0.002)
        positions.append(min(max((s if stroke % 2 == 0 else 1 - s) + tremor, 0.0), 1.0))
    return positions


def plane(series, volume, size, offset=0.0, zoom=1.0, center=40, width=400):
    spacing = max(volume["spacing"][0] * volume["columns"] / size[0], volume["spacing"][1] * volume["rows"] / size[1]) / zoom
    c = volume["center"]
    return {"volume": {"series": series},
            "view": {"plane": {"origin": [c[0] - spacing * (size[0] - 1) / 2, c[1] - spacing * (size[1] - 1) / 2, c[2] + offset],
                               "right": [1, 0, 0], "down": [0, 1, 0], "spacing": spacing}},
            "presentation": {"window": {"center": center, "width": width}}}


def camera(series, volume, size, angle=0.0):
    c = volume["center"]
    extent = max(n * s for n, s in zip((volume["columns"], volume["rows"]), volume["spacing"]))
    height = max(volume["slices"] * volume["spacing"][2], extent * size[1] / size[0]) * 1.05
    return {"volume": {"series": series},
            "view": {"camera": {"position": [c[0] + 2 * extent * math.sin(angle), c[1] - 2 * extent * math.cos(angle), c[2]], "target": c,
                                "up": [0, 0, 1], "height": height}},
            "presentation": {"fold": "composite", "preset": "bone", "shading": {"ambient": 0.25, "diffuse": 0.75, "specular": 0.25, "shininess": 24}}}


def gesture(name, series, volume, size, seconds=6.0):
    """The scenes of a gesture, one per event; the first is where it begins."""
    half = 0.8 * (volume["slices"] - 1) * volume["spacing"][2]
    if name == "scroll":
        return [plane(series, volume, size, offset=half * (p - 0.5)) for p in path(seconds, 2, 1)]
    if name == "window":
        return [plane(series, volume, size, center=40 - 400 * p, width=400 + 900 * p) for p in path(seconds, 2, 2)]
    if name == "zoom":
        return [plane(series, volume, size, zoom=1 + 1.5 * p) for p in path(seconds, 2, 3)]
    if name == "rotate":
        return [camera(series, volume, size, angle=1.6 * p) for p in path(seconds, 2, 4)]
    raise ValueError(name)


NAMES = ("scroll", "rotate", "window", "zoom")
