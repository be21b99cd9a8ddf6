// Vectors of one width for kernels that are written once and compiled for several instruction sets. The including file
// defines LANES (4, 8 or 16, each once) and NAME(x); here F, I and P become its floats, integers and points.
// Every path and vector width must round alike: no contraction, no approximate instructions.
#include "kernel.h"

typedef float NAME(F) __attribute__((ext_vector_type(LANES)));
typedef int32_t NAME(I) __attribute__((ext_vector_type(LANES)));
#define F NAME(F)
#define I NAME(I)
#define P NAME(P)
typedef struct { F x, y, z; } P;

INLINE I bitsOf(F a) { return __builtin_bit_cast(I, a); }
INLINE F select(I m, F a, F b) { return __builtin_bit_cast(F, (m & bitsOf(a)) | (~m & bitsOf(b))); }
INLINE F smaller(F a, F b) { return select(a < b, a, b); }
INLINE F larger(F a, F b) { return select(a > b, a, b); }
INLINE F clamped(F a, float low, float high) { return smaller(larger(a, (F)low), (F)high); }
INLINE I smaller(I a, I b) { return __builtin_elementwise_min(a, b); }
INLINE F toFloat(I i) { return __builtin_convertvector(i, F); }
INLINE I truncated(F f) { return __builtin_convertvector(f, I); }
INLINE int any(I m) { return __builtin_reduce_or(m) != 0; }


/// e to the power of x, |x| < 87 (clamped): 2 units in the last place. Polynomial: Taylor, degree 6, on half an octave.
INLINE F exponential(F x) {
    F n = clamped(x, -87.0f, 87.0f) * 1.44269504f;
    I whole = truncated(n + select(n < 0.0f, (F)-0.5f, (F)0.5f));
    F r = (clamped(x, -87.0f, 87.0f) - toFloat(whole) * 0.693359375f) + toFloat(whole) * 2.12194440e-4f;
    F sum = ((((((r * (1.0f / 720) + (1.0f / 120)) * r + (1.0f / 24)) * r + (1.0f / 6)) * r + 0.5f) * r) + 1.0f) * r + 1.0f;
    return sum * __builtin_bit_cast(F, (whole + 127) << 23);
}

#define real F
#include "arithmetic.h"
#undef real
