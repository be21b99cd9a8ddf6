"""VTK's GPU ray caster on whatever OpenGL the machine has (Mesa llvmpipe through EGL where there is no GPU)."""

import importlib.util
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("vtk_peer", os.path.join(here, "vtk.py"))
vtk_peer = importlib.util.module_from_spec(spec)
sys.path.insert(0, here)
spec.loader.exec_module(vtk_peer)


class OpenGL(vtk_peer.VTK):
    opengl = True


if __name__ == "__main__":
    vtk_peer.serve(OpenGL())
