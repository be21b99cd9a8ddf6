"""BM3D (PyPI, non-commercial licence), slice by slice with the noise's standard deviation known."""

import bm3d
import numpy as np
from peer import Unable, Volume, serve


class BM3D:
    def prepare(self, request):
        if request["suite"] != "denoise":
            raise Unable("BM3D only denoises")
        volume = Volume(request["data"])
        middle = len(volume.data) // 2
        self.slices = volume.data[middle - 4:middle + 4].astype(np.float32)
        return "BM3D, white noise"

    def run(self, request):
        out = [bm3d.bm3d(s, sigma_psd=float(request.get("sigma", 20.0))) for s in self.slices]
        self.picture = out[len(out) // 2].astype(np.float32)

    def output(self):
        return self.picture


if __name__ == "__main__":
    serve(BM3D())
