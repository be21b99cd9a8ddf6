"""Scenario views made into scenes of the stream protocol, which Tomos and every peer get alike.

The geometry is that of the raw volume's side car (LPS mm). Each repetition moves on (`k`): planes by 1.37 mm along their normal,
cameras by 3 degrees, so that nobody can answer from what was drawn before.
"""

import numpy as np


class Geometry:
    def __init__(self, header):
        self.size, self.spacing = np.array(header["size"]), np.array(header["spacing"], float)
        self.origin, self.axes = np.array(header["origin"], float), np.array(header["direction"], float).reshape(3, 3)
        self.center = self.origin + self.axes @ (self.spacing * (self.size - 1) / 2)
        self.extent = self.spacing * self.size


def turned(axis, degrees, v):
    a, t = np.asarray(axis, float), np.deg2rad(degrees)
    k = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    return (np.eye(3) + np.sin(t) * k + (1 - np.cos(t)) * (k @ k)) @ np.asarray(v, float)


PLANES = {"axial": ([1, 0, 0], [0, 1, 0]), "coronal": ([1, 0, 0], [0, 0, -1]), "sagittal": ([0, 1, 0], [0, 0, -1])}


def plane(g, name, size, k):
    if name == "oblique":  # the axial plane turned 35 degrees about x, then 25 about z
        right, down = (turned([0, 0, 1], 25, turned([1, 0, 0], 35, v)) for v in PLANES["axial"])
    else:
        right, down = (np.array(v, float) for v in PLANES[name])
    spacing = max(g.extent[0], g.extent[1]) / size[0]
    center = g.center + np.cross(right, down) * 1.37 * (k % 5)
    origin = center - right * spacing * (size[0] - 1) / 2 - down * spacing * (size[1] - 1) / 2
    return {"plane": {"origin": list(origin), "right": list(right), "down": list(down), "spacing": spacing}}


def camera(g, azimuth, elevation, perspective, k):
    """Azimuth 0 is from the front, positive towards the patient's left; `perspective` is the angle of view, 0 parallel."""
    def pose(v):
        return turned([0, 0, 1], azimuth + 3 * k, turned([-1, 0, 0], elevation, v))
    half = 0.5 * float(g.extent.max())
    distance = half / np.tan(np.deg2rad(perspective) / 2) if perspective else 2 * float(np.linalg.norm(g.extent))
    return {"camera": {"position": list(g.center + distance * pose([0, -1, 0])), "target": list(g.center), "up": list(pose([0, 0, 1])),
                       "height": 2 * half, "projection": "perspective" if perspective else "orthographic"}}


# HU -> opacity per mm and RGB, linear between points; the peer scripts get the same.
TRANSFER = {
    "bone-vessel": {"opacity": [(-1000, 0.), (130, 0.), (220, .25), (350, .6), (1500, .95)],
                    "color": [(-1000, .0, .0, .0), (100, .55, .15, .1), (220, .85, .3, .2), (350, 1., .85, .7), (1500, 1., 1., .95)]},
    "soft": {"opacity": [(-1000, 0.), (-500, 0.), (-300, .004), (-100, .008), (60, .02), (300, .3), (1500, .8)],
             "color": [(-1000, .0, .0, .0), (-500, .4, .25, .2), (-100, .9, .7, .55), (60, .8, .3, .25), (300, 1., .9, .8)]},
}
SHADING = {"ambient": 0.2, "diffuse": 0.7, "specular": 0.2, "shininess": 10.0}


def transfer_points(name):
    t = TRANSFER[name]
    values = sorted({v for v, _ in t["opacity"]} | {c[0] for c in t["color"]})
    at = lambda table, column: np.interp(values, [r[0] for r in table], [r[column] for r in table])  # noqa: E731
    return [{"value": v, "opacity": float(o), "color": [float(r), float(gr), float(b)]}
            for v, o, r, gr, b in zip(values, at(t["opacity"], 1), *(at(t["color"], i) for i in (1, 2, 3)))]


def scene(case, g, k):
    size = case["size"]
    presentation = {"fold": case.get("fold", "mean")}
    if case["view"] == "camera":
        view = camera(g, case.get("azimuth", 30), case.get("elevation", 15), case.get("perspective", 0), k)
        if presentation["fold"] == "composite":
            presentation["transferFunction"] = {"points": transfer_points(case["transfer"])}
            if case.get("shaded", True):
                presentation["shading"] = SHADING
        else:
            presentation["window"] = {"center": 300, "width": 1000}
    else:
        view = plane(g, case["view"], size, k)
        presentation["interpolation"] = case.get("interpolation", "linear")
        if case.get("slab"):
            presentation["slab"] = case["slab"]
        presentation["window"] = {"center": 40, "width": 400}
    return {"volume": {"series": "1.2"}, "view": view, "presentation": presentation}
