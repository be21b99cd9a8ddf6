"""The benchmark harness: `Benchmarks/tomos-bench --help`, Documentation/Benchmarks.md."""

import os

# The harness computes on one thread: OpenBLAS keeps its threads spinning after a product, and they would take the core of whoever is measured
# next. Set before numpy is loaded; subjects get their own number of threads.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
