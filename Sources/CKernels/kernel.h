// What the C files of all kernels share.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma clang diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline, overloadable, unused))
/// Targets of the wider paths, for `#pragma clang attribute push` around a body.
#define AVX2 "avx2,fma"
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define EXPONENTIAL(a) exponential(a)

INLINE float exponential(float x) { return expf(x); }
