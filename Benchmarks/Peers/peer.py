"""What every peer script shares: the loop that answers the harness, volumes, planes.

A peer is a class with `prepare(request) -> variant`, `run(request) -> counters or None` and `output() -> numpy array`.
"""

import json
import os
import resource
import sys
import time

import numpy as np


def cpu_seconds():
    s, c = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return s.ru_utime + s.ru_stime + c.ru_utime + c.ru_stime


class Unable(Exception):
    """This peer has no such function; the text says what is missing."""


def serve(peer):
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # libraries print what they like
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        do = request["do"]
        try:
            if do == "quit":
                return
            if do == "prepare":
                answer = {"ok": True, "variant": peer.prepare(request)}
            elif do == "run":
                w, c = time.perf_counter(), cpu_seconds()
                counters = peer.run(request)
                answer = {"ok": True, "wall": time.perf_counter() - w, "cpu": cpu_seconds() - c, "counters": counters or {}}
            elif do == "output":
                np.save(request["path"], peer.output())
                answer = {"ok": True}
            else:
                answer = {"error": f"unknown request {do}"}
        except Exception as e:  # noqa: BLE001  (whatever a library throws is the answer)
            answer = {"error": f"{type(e).__name__}: {e}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


class Volume:
    """A raw volume: `data` (slices, rows, columns) int16, LPS mm."""

    def __init__(self, path):
        h = json.load(open(path))
        nx, ny, nz = h["size"]
        self.data = np.fromfile(os.path.join(os.path.dirname(os.path.abspath(path)), h["file"]), dtype=h["dtype"]).reshape(nz, ny, nx)
        self.spacing, self.origin = np.array(h["spacing"]), np.array(h["origin"])
        self.direction = np.array(h["direction"]).reshape(3, 3)


def slab_offsets(scene, volume):
    """Offsets in mm along the normal of the planes that make a slab, where Tomos takes its samples: extremes at both ends and half a voxel apart,
    or along an axis of the volume at the stored layers between the ends; means in the middle of parts one voxel thick. A voxel is measured along
    the axis of the volume that the normal follows most."""
    view, presentation = scene["view"]["plane"], scene["presentation"]
    slab = presentation.get("slab", 0)
    if not slab:
        return [0.0]
    normal = np.cross(view["right"], view["down"])
    voxel = 1 / np.abs(volume.direction.T @ normal / volume.spacing).max()
    if presentation["fold"] == "mean":
        n = max(1, int(np.ceil(slab / voxel - 1e-6)))
        return list((np.arange(n) + 0.5) * slab / n - slab / 2)
    along = volume.direction.T @ normal
    axis = int(np.abs(along).argmax())
    if np.abs(np.delete(along, axis)).max() < 1e-6:
        position = (np.array(view["origin"]) - volume.origin) @ volume.direction[:, axis] / voxel
        layers = np.arange(np.ceil(position - slab / 2 / voxel - 1e-6), np.floor(position + slab / 2 / voxel + 1e-6) + 1)
        if len(layers):
            return sorted((layers - position) * voxel * np.sign(along[axis]))
    n = max(1, int(np.ceil(2 * slab / voxel - 1e-6))) + 1
    return list(np.linspace(-slab / 2, slab / 2, n))
