"""One peer in a process of its own: told on standard input what to measure, answers with a line of JSON.

  first FOLDER    from the folder's name to the middle slice as an 8-bit picture
  volume FOLDER   from the folder's name to the whole volume of modality values in memory, slices in order of position
"""
import glob
import json
import os
import resource
import sys
import time

import numpy as np


def window(x):
    return (np.clip((x.astype(np.float32) + 160) / 400, 0, 1) * 255).astype(np.uint8)


def files(folder):
    return sorted(glob.glob(os.path.join(folder, "*.dcm")))


class SimpleITK:
    """itk::ImageSeriesReader with GDCM; its own order of slices."""

    def __init__(self):
        import SimpleITK
        self.sitk = SimpleITK
        self.version = SimpleITK.__version__

    def first(self, folder):
        names = self.sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
        return window(self.sitk.GetArrayFromImage(self.sitk.ReadImage(names[len(names) // 2]))[0])

    def volume(self, folder):
        reader = self.sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
        return self.sitk.GetArrayFromImage(reader.Execute())


class GDCM:
    """GDCM alone: IPPSorter, then one ImageReader a file."""

    def __init__(self):
        import gdcm
        self.gdcm = gdcm
        self.version = gdcm.Version.GetVersion()

    def order(self, folder):
        sorter = self.gdcm.IPPSorter()
        sorter.SetComputeZSpacing(False)
        sorter.Sort(files(folder))
        return list(sorter.GetFilenames())

    def read(self, path):
        reader = self.gdcm.ImageReader()
        reader.SetFileName(path)
        if not reader.Read():
            raise RuntimeError(path)
        image = reader.GetImage()
        signed = image.GetPixelFormat().GetPixelRepresentation()
        stored = np.frombuffer(image.GetBuffer().encode("utf-8", errors="surrogateescape"), np.int16 if signed else np.uint16)
        stored = stored.reshape(image.GetDimension(1), image.GetDimension(0))
        slope, intercept = image.GetSlope(), image.GetIntercept()
        return stored.astype(np.int16, copy=False) if (slope, intercept) == (1, 0) else (stored * slope + intercept).astype(np.int16)

    def first(self, folder):
        names = self.order(folder)
        return window(self.read(names[len(names) // 2]))

    def volume(self, folder):
        return np.stack([self.read(name) for name in self.order(folder)])


class VTK:
    """vtkDICOMImageReader: uncompressed files only, and no order but its own."""

    def __init__(self):
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkVersion
        from vtkmodules.vtkIOImage import vtkDICOMImageReader
        self.reader, self.array, self.version = vtkDICOMImageReader, vtk_to_numpy, vtkVersion.GetVTKVersion()

    def volume(self, folder):
        reader = self.reader()
        reader.SetDirectoryName(folder)
        reader.Update()
        output = reader.GetOutput()
        return self.array(output.GetPointData().GetScalars()).reshape(output.GetDimensions()[::-1])


class Pydicom:
    """pydicom with the decoders of GDCM and pylibjpeg; its own for RLE."""

    def __init__(self):
        import pydicom
        self.pydicom = pydicom
        self.version = pydicom.__version__

    def values(self, dataset):
        stored = dataset.pixel_array
        slope, intercept = float(getattr(dataset, "RescaleSlope", 1)), float(getattr(dataset, "RescaleIntercept", 0))
        return stored.astype(np.int16) if (slope, intercept) == (1, 0) else (stored * slope + intercept).astype(np.int16)

    def order(self, folder):
        tags = ["ImagePositionPatient", "ImageOrientationPatient"]
        heads = [(name, self.pydicom.dcmread(name, specific_tags=tags, stop_before_pixels=True)) for name in files(folder)]
        o = np.array(heads[0][1].ImageOrientationPatient, float)
        normal = np.cross(o[:3], o[3:])
        return [name for name, head in sorted(heads, key=lambda h: float(normal @ np.array(h[1].ImagePositionPatient, float)))]

    def first(self, folder):
        names = self.order(folder)
        return window(self.values(self.pydicom.dcmread(names[len(names) // 2])))

    def volume(self, folder):
        names = self.order(folder)
        slices = [self.values(self.pydicom.dcmread(names[0]))]
        volume = np.empty((len(names),) + slices[0].shape, np.int16)
        for k, name in enumerate(names):
            volume[k] = self.values(self.pydicom.dcmread(name))
        return volume


PEERS = {"SimpleITK": SimpleITK, "GDCM": GDCM, "vtkDICOMImageReader": VTK, "pydicom": Pydicom}

if __name__ == "__main__":
    peer = PEERS[sys.argv[1]]()
    print(json.dumps({"version": peer.version}), flush=True)
    for line in sys.stdin:
        task, folder = line.split()
        answer = {}
        try:
            start, cpu = time.perf_counter(), time.process_time()
            result = getattr(peer, task)(folder)
            answer = {"ms": (time.perf_counter() - start) * 1e3, "cpu": (time.process_time() - cpu) * 1e3}
            answer["checksum"] = int(result.astype(np.int64).sum())
            answer["peakKiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        except Exception as error:  # a peer that cannot do it is reported, not hidden
            answer["error"] = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps(answer), flush=True)
