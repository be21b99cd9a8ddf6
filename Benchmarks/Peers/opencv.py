"""OpenCV: encoders, and fast non-local means on 16-bit slices."""

import cv2
import numpy as np
from peer import Unable, Volume, serve


class OpenCV:
    def prepare(self, request):
        cv2.setNumThreads(request["threads"])
        if request["suite"] == "encode":
            self.picture = np.load(request["picture"])
            self.image = self.picture if self.picture.ndim == 2 else np.ascontiguousarray(self.picture[..., ::-1])
            q = request.get("quality", 80)
            forms = {"jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, q]), "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, q]),
                     "webp-lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]), "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])}
            if request["what"] not in forms:
                raise Unable("no such codec")
            self.form, self.frame = forms[request["what"]], self.encode
            return f"OpenCV {cv2.__version__}"
        if request["suite"] == "denoise":
            volume = Volume(request["data"])
            middle = len(volume.data) // 2
            self.slices = volume.data[middle - 4:middle + 4].astype(np.float32)
            self.frame = self.nlm
            return "fastNlMeansDenoising, L1, 16 bit"
        raise Unable("OpenCV has no such function")

    def run(self, request):
        return self.frame(request)

    def output(self):
        return self.picture

    def encode(self, _):
        return {"bytes": len(cv2.imencode(*self.form[:1], self.image, self.form[1])[1])}

    def nlm(self, request):
        h = float(request.get("sigma", 20.0))
        out = [cv2.fastNlMeansDenoising((s + 1024).clip(0, 65535).astype(np.uint16), h=[0.9 * h], templateWindowSize=5, searchWindowSize=13,
                                        normType=cv2.NORM_L1).astype(np.float32) - 1024 for s in self.slices]
        self.picture = out[len(out) // 2]


if __name__ == "__main__":
    serve(OpenCV())
