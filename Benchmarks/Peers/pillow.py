"""Pillow: JPEG, WebP and PNG of the same picture."""

import io

import numpy as np
from peer import Unable, serve
from PIL import Image


class Pillow:
    def prepare(self, request):
        self.picture = np.load(request["picture"])
        self.image = Image.fromarray(self.picture)
        q = request.get("quality", 80)
        forms = {"jpeg": ("JPEG", {"quality": q, "subsampling": 2 if q < 80 else 0}), "webp": ("WEBP", {"quality": q, "method": 2}),
                 "webp-lossless": ("WEBP", {"lossless": True, "quality": 0, "method": 0}), "png": ("PNG", {"compress_level": 1})}
        if request["what"] not in forms:
            raise Unable("no such codec")
        self.form = forms[request["what"]]
        return "one thread"

    def run(self, _):
        out = io.BytesIO()
        self.image.save(out, self.form[0], **self.form[1])
        return {"bytes": out.tell()}

    def output(self):
        return self.picture


if __name__ == "__main__":
    serve(Pillow())
