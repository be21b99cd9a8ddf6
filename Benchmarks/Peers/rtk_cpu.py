"""RTK on the CPU: Feldkamp reconstruction of a full circle. RTK turns about y: its (x, y, z) is (x, z, y) here."""

import itk
import numpy as np
from itk import RTK
from peer import Unable, serve


class RTKPeer:
    def prepare(self, request):
        if request["suite"] != "reconstruct" or request.get("what") != "fdk":
            raise Unable("only cones are asked of RTK")
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(request["threads"])
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(request["threads"])
        views, rows, detectors, self.n = request["size"]
        data = np.fromfile(request["data"], "<f4").reshape(views, rows, detectors)
        self.geometry = RTK.ThreeDCircularProjectionGeometry.New()
        for i in range(views):
            self.geometry.AddProjection(2.0 * self.n, 3.0 * self.n, -360.0 * i / views)
        # Seen from the other side: RTK's source is at +z for angle 0, and its x runs as ours.
        self.projections = itk.image_from_array(np.ascontiguousarray(data))
        self.projections.SetSpacing([1.5, 1.5, 1.0])
        self.projections.SetOrigin([-1.5 * (detectors - 1) / 2, -1.5 * (rows - 1) / 2, 0.0])
        return "FDKConeBeamReconstructionFilter, CPU"

    def run(self, _):
        image, n = itk.Image[itk.F, 3], self.n
        source = RTK.ConstantImageSource[image].New()
        source.SetSize([n, n, n])
        source.SetSpacing([1.0] * 3)
        source.SetOrigin([-(n - 1) / 2] * 3)
        source.SetConstant(0.0)
        fdk = RTK.FDKConeBeamReconstructionFilter[image].New()
        fdk.SetInput(0, source.GetOutput())
        fdk.SetInput(1, self.projections)
        fdk.SetGeometry(self.geometry)
        fdk.GetRampFilter().SetTruncationCorrection(0.0)
        fdk.GetRampFilter().SetHannCutFrequency(0.0)
        fdk.Update()
        self.volume = itk.array_from_image(fdk.GetOutput()).transpose(1, 0, 2)

    def output(self):
        return self.volume[self.n // 2].astype(np.float32)


if __name__ == "__main__":
    serve(RTKPeer())
