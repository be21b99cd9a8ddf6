// ComputeCPU
