"""GDCM: a folder sorted by position (IPPSorter), then one slice decoded: what a viewer must do before its first picture."""

import pathlib

import gdcm
import numpy as np
from peer import Unable, serve


class GDCM:
    def prepare(self, request):
        if request["suite"] != "load" or request.get("what") != "first-slice":
            raise Unable("only the first slice")
        self.folder = pathlib.Path(request["data"])
        return f"IPPSorter and ImageReader, GDCM {gdcm.Version.GetVersion()}"

    def run(self, _):
        sorter = gdcm.IPPSorter()
        sorter.SetComputeZSpacing(False)
        sorter.Sort([str(f) for f in self.folder.iterdir()])
        names = list(sorter.GetFilenames())
        reader = gdcm.ImageReader()
        reader.SetFileName(names[len(names) // 2])
        if not reader.Read():
            raise RuntimeError("the slice cannot be read")
        image = reader.GetImage()
        kind = np.int16 if image.GetPixelFormat().GetPixelRepresentation() else np.uint16
        stored = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), kind)
        self.picture = (stored.reshape(image.GetDimension(1), image.GetDimension(0)) * image.GetSlope() + image.GetIntercept()).astype(np.float32)

    def output(self):
        return self.picture


if __name__ == "__main__":
    serve(GDCM())
