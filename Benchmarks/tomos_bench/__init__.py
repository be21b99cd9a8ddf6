"""The benchmark harness of Tomos; see Documentation/Benchmarks.md."""
