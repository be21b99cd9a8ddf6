"""ASTRA's CPU algorithms: filtered back-projection of a parallel sinogram."""

import astra
import numpy as np
from peer import Unable, serve


class ASTRA:
    def prepare(self, request):
        if request["suite"] != "reconstruct":
            raise Unable("not asked")
        views, detectors, n = request["size"]
        sinogram = np.fromfile(request["data"], "<f4").reshape(views, detectors)
        self.volume = astra.create_vol_geom(n, n)
        # ASTRA turns the other way round in image rows.
        projection = astra.create_proj_geom("parallel", 1.0, detectors, -np.arange(views) * np.pi / views)
        self.projector = astra.create_projector("linear", projection, self.volume)
        self.sinogram = astra.data2d.create("-sino", projection, sinogram)
        self.result = astra.data2d.create("-vol", self.volume)
        config = astra.astra_dict("FBP")
        config.update(ProjectorId=self.projector, ProjectionDataId=self.sinogram, ReconstructionDataId=self.result)
        config["option"] = {"FilterType": "ram-lak"}
        self.algorithm = astra.algorithm.create(config)
        return f"FBP, linear projector, ASTRA {astra.__version__}"

    def run(self, _):
        astra.algorithm.run(self.algorithm)

    def output(self):
        return astra.data2d.get(self.result).astype(np.float32)


if __name__ == "__main__":
    serve(ASTRA())
