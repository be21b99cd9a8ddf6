"""scikit-image: iradon, and fast non-local means slice by slice."""

import numpy as np
from peer import Unable, Volume, serve


class SciKitImage:
    def prepare(self, request):
        if request["suite"] == "reconstruct":
            views, detectors, self.n = request["size"]
            self.sinogram = np.fromfile(request["data"], "<f4").reshape(views, detectors).T.astype(np.float32)
            self.angles = np.arange(views) * 180 / views
            self.frame = self.radon
            return "iradon"
        if request["suite"] == "denoise":
            volume = Volume(request["data"])
            middle = len(volume.data) // 2
            self.slices = volume.data[middle - 4:middle + 4].astype(np.float32)
            self.frame = self.nlm
            return "denoise_nl_means, fast mode"
        raise Unable("scikit-image has no such function")

    def run(self, request):
        self.picture = self.frame(request)

    def output(self):
        return self.picture

    def radon(self, _):
        from skimage.transform import iradon
        return iradon(self.sinogram, self.angles, output_size=self.n, filter_name="ramp", circle=False).astype(np.float32)

    def nlm(self, request):
        from skimage.restoration import denoise_nl_means
        sigma = request.get("sigma", 20.0)
        out = [denoise_nl_means(s, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True, preserve_range=True) for s in self.slices]
        return out[len(out) // 2].astype(np.float32)


if __name__ == "__main__":
    serve(SciKitImage())
