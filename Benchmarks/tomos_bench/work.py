"""How much a case must do at least: floating-point operations and bytes from memory; for the roofline and the achieved share.

The counts are of the task, not of a program: each sample of linear interpolation is seven lerps of two operations and three
multiply-adds of addressing; the bytes are the voxels that the picture touches, once, and the picture.
"""

import numpy as np

SAMPLE = 7 * 2 + 3 * 2
CUBIC = 21 * 8 + 3 * 2 + 36


def of(case, geometry):
    if case["suite"] == "reconstruct":
        if case.get("what") == "fdk":
            views, rows, detectors, n = case["size"]
            # An update: place on the detector (one division), bilinear value, weight, sum.
            return {"flops": 20.0 * views * n ** 3, "bytes": 4.0 * views * rows * detectors + 4.0 * n ** 3}
        views, detectors, n = case["size"]
        return {"flops": 6.0 * views * n * n, "bytes": 4.0 * views * detectors + 4.0 * n * n}
    if case["suite"] != "frame" or case.get("fold") == "composite":
        return None  # what a composite must sample depends on the picture
    w, h = case["size"]
    voxels, voxel = float(np.prod(geometry.size)), float(np.prod(geometry.spacing))
    if case["view"] == "camera":
        # Every ray that meets the volume, one sample per smallest spacing of the path: the volume's silhouette is at least its mean section.
        length = 2 * 0.5 * float(geometry.extent.max())
        samples = voxels * voxel / (length / w * length / h) / float(geometry.spacing.min())
        return {"flops": samples * (SAMPLE + 1), "bytes": 2 * voxels + 4.0 * w * h}
    field, slab = max(geometry.extent[0], geometry.extent[1]), case.get("slab", 0)
    planes = int(np.ceil(slab / geometry.spacing.min())) + 1 if slab else 1
    touched = min(voxels, field * field * h / w * (slab + 2 * float(geometry.spacing.min())) / voxel)
    return {"flops": w * h * planes * (CUBIC if case.get("interpolation") == "cubic" else SAMPLE), "bytes": 2 * touched + 4.0 * w * h}
