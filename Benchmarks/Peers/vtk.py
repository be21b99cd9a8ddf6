"""VTK: vtkImageReslice for planes, vtkFixedPointVolumeRayCastMapper for rays (`vtk-opengl.py` is the GPU mapper), readers for files."""

import os
import sys

sys.path.pop(0)  # this folder, where `vtk` would be this script
import numpy as np  # noqa: E402

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from peer import Unable, Volume, serve, slab_offsets  # noqa: E402


def image_of(volume):
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    image = vtkImageData()
    image.SetDimensions(*(int(v) for v in volume.data.shape[::-1]))
    image.SetSpacing(*volume.spacing)
    image.SetOrigin(*volume.origin)
    image.SetDirectionMatrix(*volume.direction.reshape(-1))
    image.GetPointData().SetScalars(numpy_to_vtk(volume.data.reshape(-1), deep=0))
    image.kept = volume.data
    return image


class VTK:
    opengl = False

    def prepare(self, request):
        from vtkmodules.vtkCommonCore import vtkMultiThreader
        vtkMultiThreader.SetGlobalMaximumNumberOfThreads(request["threads"])
        vtkMultiThreader.SetGlobalDefaultNumberOfThreads(request["threads"])
        self.threads, self.size, self.step = request["threads"], request.get("size"), request.get("step", 1)
        if request["suite"] == "load":
            self.frame, self.folder = self.load, request["data"]
            return "vtkDICOMImageReader"
        if request["suite"] != "frame":
            raise Unable("VTK has no such function")
        self.volume = Volume(request["data"])
        self.image = image_of(self.volume)
        scene = request["scene"]
        if "plane" in scene["view"]:
            return self.prepare_planes(scene)
        return self.prepare_rays(scene)

    def run(self, request):
        self.picture = self.frame(request)

    def output(self):
        return self.picture

    def load(self, _):
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkIOImage import vtkDICOMImageReader
        reader = vtkDICOMImageReader()
        reader.SetDirectoryName(self.folder)
        reader.Update()
        image = reader.GetOutput()
        nx, ny, nz = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(nz, ny, nx)
        if values.size == 0:
            raise Unable("the reader gave no voxels for this transfer syntax")
        # The reader counts slices from the head, and rows from the bottom.
        return values[(nz - 1) // 2][::-1].astype(np.float32)

    def prepare_planes(self, scene):
        from vtkmodules.vtkImagingCore import vtkImageReslice
        p = scene["presentation"]
        if "slab" in p and p["fold"] == "minimum":
            raise Unable("not asked")
        self.reslice = r = vtkImageReslice()
        r.SetInputData(self.image)
        r.SetNumberOfThreads(self.threads)
        r.SetBackgroundLevel(-1024)
        r.SetOutputDimensionality(3)
        {"nearest": r.SetInterpolationModeToNearestNeighbor, "linear": r.SetInterpolationModeToLinear, "cubic": r.SetInterpolationModeToCubic}[p["interpolation"]]()
        (r.SetSlabModeToMax if p["fold"] == "maximum" else r.SetSlabModeToMean)()
        r.SetSlabTrapezoidIntegration(0)
        self.frame = self.plane
        return "vtkImageReslice"

    def plane(self, request):
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonMath import vtkMatrix4x4
        v, (w, h) = request["scene"]["view"]["plane"], request["size"]
        right, down = np.array(v["right"]), np.array(v["down"])
        normal, offsets = np.cross(right, down), slab_offsets(request["scene"], self.volume)
        m = vtkMatrix4x4()
        # VTK's slab lies around its plane.
        for i, column in enumerate((right, down, normal, np.array(v["origin"]) + normal * (offsets[0] + offsets[-1]) / 2)):
            for j in range(3):
                m.SetElement(j, i, column[j])
        r = self.reslice
        r.SetResliceAxes(m)
        r.SetSlabNumberOfSlices(len(offsets))
        r.SetOutputOrigin(0, 0, 0)
        r.SetOutputSpacing(v["spacing"], v["spacing"], offsets[1] - offsets[0] if len(offsets) > 1 else 1.0)
        r.SetOutputExtent(0, w - 1, 0, h - 1, 0, 0)
        r.Modified()
        r.Update()
        return vtk_to_numpy(r.GetOutput().GetPointData().GetScalars()).reshape(h, w).astype(np.float32)

    def prepare_rays(self, scene):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401  (registers the factories)
        from vtkmodules.vtkCommonDataModel import vtkPiecewiseFunction
        from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkRenderer, vtkRenderWindow, vtkVolume, vtkVolumeProperty, vtkWindowToImageFilter
        from vtkmodules.vtkRenderingVolume import vtkFixedPointVolumeRayCastMapper
        from vtkmodules.vtkRenderingVolumeOpenGL2 import vtkOpenGLGPUVolumeRayCastMapper
        self.renderer, self.window = vtkRenderer(), vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*self.size)
        self.window.AddRenderer(self.renderer)
        p, properties = scene["presentation"], vtkVolumeProperty()
        properties.SetInterpolationTypeToLinear()
        opacity, color = vtkPiecewiseFunction(), vtkColorTransferFunction()
        maximum = p["fold"] == "maximum"
        if maximum:
            c, w = p["window"]["center"], p["window"]["width"]
            opacity.AddPoint(c - w / 2, 0)
            opacity.AddPoint(c + w / 2, 1)
            color.AddRGBPoint(c, 1, 1, 1)
        else:
            for q in p["transferFunction"]["points"]:
                opacity.AddPoint(q["value"], q["opacity"])
                color.AddRGBPoint(q["value"], *q["color"])
            properties.SetScalarOpacityUnitDistance(1.0)
            if s := p.get("shading"):
                properties.ShadeOn()
                properties.SetAmbient(s["ambient"])
                properties.SetDiffuse(s["diffuse"])
                properties.SetSpecular(s["specular"])
                properties.SetSpecularPower(s["shininess"])
        properties.SetScalarOpacity(opacity)
        properties.SetColor(color)
        self.mapper = mapper = vtkOpenGLGPUVolumeRayCastMapper() if self.opengl else vtkFixedPointVolumeRayCastMapper()
        step = float(self.volume.spacing.min()) * self.step
        mapper.SetInputData(self.image)
        mapper.SetAutoAdjustSampleDistances(0)
        mapper.SetSampleDistance(step)
        mapper.SetImageSampleDistance(1.0)
        if self.opengl:
            mapper.SetUseJittering(0)
        else:
            mapper.SetNumberOfThreads(self.threads)
            mapper.SetInteractiveSampleDistance(step)
            mapper.IntermixIntersectingGeometryOff()
        (mapper.SetBlendModeToMaximumIntensity if maximum else mapper.SetBlendModeToComposite)()
        self.actor = vtkVolume()
        self.actor.SetMapper(mapper)
        self.actor.SetProperty(properties)
        self.renderer.AddVolume(self.actor)
        self.grab = vtkWindowToImageFilter()
        self.grab.SetInput(self.window)
        self.grab.SetInputBufferTypeToRGB()
        self.grab.ReadFrontBufferOff()
        self.grab.ShouldRerenderOff()
        self.frame = self.rays
        return ("vtkOpenGLGPUVolumeRayCastMapper" if self.opengl else "vtkFixedPointVolumeRayCastMapper") + (f", step of {self.step:g} voxels" if self.step != 1 else "")

    def rays(self, request):
        from vtkmodules.util.numpy_support import vtk_to_numpy
        v, (w, h) = request["scene"]["view"]["camera"], request["size"]
        camera = self.renderer.GetActiveCamera()
        position, target = np.array(v["position"]), np.array(v["target"])
        camera.SetFocalPoint(*target)
        camera.SetPosition(*position)
        camera.SetViewUp(*v["up"])
        if v["projection"] == "orthographic":
            camera.ParallelProjectionOn()
            camera.SetParallelScale(v["height"] / 2)
        else:
            camera.ParallelProjectionOff()
            camera.SetViewAngle(float(np.rad2deg(2 * np.arctan(v["height"] / 2 / np.linalg.norm(target - position)))))
        self.renderer.ResetCameraClippingRange()
        self.window.Render()
        self.grab.Modified()
        self.grab.Update()
        return vtk_to_numpy(self.grab.GetOutput().GetPointData().GetScalars()).reshape(h, w, 3)[::-1].copy()


if __name__ == "__main__":
    serve(VTK())
