"""Data sets of the scenarios, made once per work folder: the phantom as raw volume and DICOM series, series of users as raw volumes."""

import json
import pathlib
import shutil
import subprocess

import numpy as np

from .scenes import Geometry


class Data:
    def __init__(self, work, worker, say):
        self.work, self.worker, self.say = pathlib.Path(work), worker, say
        self.work.mkdir(parents=True, exist_ok=True)

    def volume(self, name):
        """Path of the raw volume's side car. `name`: "phantom", "phantom-256", or a folder with one CT series."""
        if name.startswith("phantom"):
            edge = int(name.split("-")[1]) if "-" in name else 512
            path = self.work / f"{name}.json"
            if not path.exists():
                self.say(f"making the {name}")
                folder = self.work / f"{name}-dicom"
                shutil.rmtree(folder, ignore_errors=True)
                self.worker.ask(do="data", path=str(path), folder=str(folder), size=[edge, edge, edge * 300 // 512])
            return path
        source = pathlib.Path(name)
        path = self.work / (source.resolve().name + ".json")
        if not path.exists():
            import SimpleITK as sitk
            self.say(f"reading {source.name}")
            reader = sitk.ImageSeriesReader()
            files = max((reader.GetGDCMSeriesFileNames(str(source), i) for i in reader.GetGDCMSeriesIDs(str(source))), key=len)
            reader.SetFileNames(files)
            image = reader.Execute()
            values = np.clip(np.rint(sitk.GetArrayFromImage(image)), -32768, 32767).astype("<i2")
            values.tofile(path.with_suffix(".raw"))
            path.write_text(json.dumps({"file": path.with_suffix(".raw").name, "dtype": "<i2", "size": list(values.shape[::-1]),
                                        "spacing": list(image.GetSpacing()), "origin": list(image.GetOrigin()), "direction": list(image.GetDirection())}))
        return path

    def geometry(self, name):
        return Geometry(json.loads(self.volume(name).read_text()))

    def dicom(self, name, syntax="explicit"):
        """Folder of one series in a transfer syntax: explicit, rle, jpeg-lossless, jpeg-ls (by DCMTK's tools) or jpeg-2000 (by pydicom)."""
        plain = pathlib.Path(name) if not name.startswith("phantom") else self.volume(name).with_name(f"{name}-dicom")
        if syntax == "explicit":
            return plain
        folder = self.work / f"{plain.name}-{syntax}"
        if folder.exists():
            return folder
        self.say(f"coding {plain.name} as {syntax}")
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        tools = {"rle": ["dcmcrle"], "jpeg-lossless": ["dcmcjpeg", "+e1"], "jpeg-ls": ["dcmcjpls", "+el"]}
        for f in sorted(plain.iterdir()):
            if syntax == "jpeg-2000":
                import pydicom
                from pydicom.uid import JPEG2000Lossless
                d = pydicom.dcmread(f)
                d.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
                d.save_as(partial / f.name)
            else:
                subprocess.run([*tools[syntax], f, partial / f.name], check=True, capture_output=True)
        partial.rename(folder)
        return folder

    def sinogram(self, views, detectors, pixels):
        """Exact line integrals of discs in a circle, plus a little noise: float32, views × detectors, unit pixel pitch."""
        path = self.work / f"sinogram-{views}x{detectors}.f32"
        if not path.exists():
            rng, angles = np.random.default_rng(7), np.arange(views) * np.pi / views
            s = np.arange(detectors) - (detectors - 1) / 2
            out = np.zeros((views, detectors))
            for x, y, r, value in [(0, 0, 0.45, 0.02), (0.1, -0.15, 0.12, 0.004), (-0.18, 0.1, 0.09, -0.006), (0.2, 0.2, 0.03, 0.01), (-0.1, -0.25, 0.015, 0.02)]:
                distance = s[None] - pixels * (x * np.cos(angles) + y * np.sin(angles))[:, None]
                out += value * 2 * np.sqrt(np.maximum(0, (r * pixels) ** 2 - distance ** 2))
            (out + rng.normal(0, 0.01, out.shape)).astype("<f4").tofile(path)
        return path

    def cone(self, views, rows, detectors, pixels):
        """Exact line integrals of balls seen by a cone on a full circle, plus a little noise: float32, views × rows × detectors. The source
        at (-R sin a, R cos a, 0) is R = 2 · pixels from the axis, the flat detector 3 · pixels from the source, elements 1.5 apart."""
        path = self.work / f"cone-{views}x{rows}x{detectors}.f32"
        if not path.exists():
            rng, a = np.random.default_rng(7), np.arange(views)[:, None, None] * 2 * np.pi / views
            u = ((np.arange(detectors) - (detectors - 1) / 2) * 1.5)[None, None]
            v = ((np.arange(rows) - (rows - 1) / 2) * 1.5)[None, :, None]
            source = -2 * pixels * np.sin(a), 2 * pixels * np.cos(a)
            ray = 3 * pixels * np.sin(a) + u * np.cos(a), -3 * pixels * np.cos(a) + u * np.sin(a), v + 0 * a
            length = np.sqrt(sum(c ** 2 for c in ray))
            out = np.zeros((views, rows, detectors))
            for x, y, z, r, value in [(0, 0, 0, 0.42, 0.02), (0.1, -0.15, 0, 0.12, 0.004), (-0.18, 0.1, 0.05, 0.09, -0.006), (0.2, 0.2, 0, 0.03, 0.01)]:
                to = x * pixels - source[0], y * pixels - source[1], z * pixels
                along = (to[0] * ray[0] + to[1] * ray[1] + to[2] * ray[2]) / length
                apart = to[0] ** 2 + to[1] ** 2 + to[2] ** 2 - along ** 2
                out += value * 2 * np.sqrt(np.maximum(0, (r * pixels) ** 2 - apart))
            (out + rng.normal(0, 0.01, out.shape)).astype("<f4").tofile(path)
        return path
