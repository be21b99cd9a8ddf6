"""SimpleITK: Resample for planes, the series reader for files, curvature diffusion for denoising."""

import numpy as np
import SimpleITK as sitk
from peer import Unable, Volume, serve, slab_offsets


class SimpleITK:
    def prepare(self, request):
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(request["threads"])
        suite = request["suite"]
        if suite in ("load", "cache"):  # it keeps nothing: after a restart it reads anew
            self.frame, self.folder = self.first if request.get("what") == "first-slice" else self.load, request["data"]
            return "series sorted, one slice read" if self.frame == self.first else "ImageSeriesReader"
        if suite == "denoise":
            volume = Volume(request["data"])
            middle = len(volume.data) // 2
            self.image = sitk.GetImageFromArray(volume.data[middle - 4:middle + 4].astype(np.float32))
            self.image.SetSpacing([float(v) for v in volume.spacing])
            self.frame = self.diffuse
            return "CurvatureAnisotropicDiffusion"
        if suite != "frame" or "plane" not in request["scene"]["view"]:
            raise Unable("SimpleITK has no such function")
        self.volume = Volume(request["data"])
        self.image = sitk.GetImageFromArray(self.volume.data)
        self.image.SetSpacing([float(v) for v in self.volume.spacing])
        self.image.SetOrigin([float(v) for v in self.volume.origin])
        self.image.SetDirection([float(v) for v in self.volume.direction.reshape(-1)])
        self.frame = self.plane
        p = request["scene"]["presentation"]
        self.interpolator = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}[p["interpolation"]]
        return "Resample" + (", B-spline" if p["interpolation"] == "cubic" else "")

    def run(self, request):
        self.picture = self.frame(request)

    def output(self):
        return self.picture

    def plane(self, request):
        scene, (w, h) = request["scene"], request["size"]
        v, p = scene["view"]["plane"], scene["presentation"]
        right, down = np.array(v["right"]), np.array(v["down"])
        normal, offsets = np.cross(right, down), slab_offsets(scene, self.volume)
        step = offsets[1] - offsets[0] if len(offsets) > 1 else 1.0
        image = sitk.Resample(self.image, [w, h, len(offsets)], sitk.Transform(), self.interpolator, [float(c) for c in np.array(v["origin"]) + normal * offsets[0]],
                              [float(v["spacing"]), float(v["spacing"]), float(step)], [float(v) for v in np.stack([right, down, normal], 1).reshape(-1)], -1024.0, sitk.sitkFloat32)
        values = sitk.GetArrayFromImage(image)
        return values[0] if len(offsets) == 1 else values.max(0) if p["fold"] == "maximum" else values.min(0) if p["fold"] == "minimum" else values.mean(0)

    def load(self, _):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(self.folder))
        image = reader.Execute()  # kept: the view below does not own its voxels
        values = sitk.GetArrayViewFromImage(image)
        return values[len(values) // 2].astype(np.float32)

    def first(self, _):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(self.folder)
        return sitk.GetArrayFromImage(sitk.ReadImage(names[len(names) // 2]))[0].astype(np.float32)

    def diffuse(self, _):
        out = sitk.CurvatureAnisotropicDiffusion(self.image, timeStep=0.04, conductanceParameter=3.0, numberOfIterations=5)
        values = sitk.GetArrayFromImage(out)
        return values[len(values) // 2]


if __name__ == "__main__":
    serve(SimpleITK())
