// What one core can do at most, for comparison.
#pragma once
#include <stddef.h>

/// Sums `bytes` of memory (a multiple of 256, aligned to 64) with the widest loads of the processor; the result only keeps the loads.
unsigned limitsRead(const void *memory, size_t bytes);
/// Independent fused multiplications and additions; returns how many floating-point operations were done (two each).
double limitsArithmetic(long rounds);
