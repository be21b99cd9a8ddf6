// What the C files of all kernels share.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline, overloadable, unused))
#define EXPONENTIAL(a) exponential(a)

INLINE float exponential(float x) { return expf(x); }
