// Arithmetic of one sample, written once in the common subset of C and GLSL. `real` is float in GLSL; a C kernel defines
// it (a vector of floats, or float) before each inclusion, so there is no include guard: the functions are overloads.
// No contraction of a·b + c: every device and every vector width rounds alike.
#ifdef GL_core_profile
#define KERNEL_FUNCTION
#define real float
#define MINIMUM(a, b) min(a, b)
#define MAXIMUM(a, b) max(a, b)
#define EXPONENTIAL(a) exp(a)
#define SPLAT(a) (a)
#elif !defined(real)
// Imported as a module: nothing to see.
#define ARITHMETIC_WITHOUT_KERNEL 1
#else
#undef KERNEL_FUNCTION
#undef MINIMUM
#undef MAXIMUM
#undef SPLAT
#define KERNEL_FUNCTION static inline __attribute__((always_inline, overloadable, unused))
#define MINIMUM(a, b) __builtin_elementwise_min(a, b)
#define MAXIMUM(a, b) __builtin_elementwise_max(a, b)
#define SPLAT(a) ((real)(a))
#endif

#ifndef ARITHMETIC_WITHOUT_KERNEL

// a at t = 0, b at t = 1.
KERNEL_FUNCTION real lerp(real a, real b, real t) { return a + t * (b - a); }

KERNEL_FUNCTION real clampUnit(real x) { return MINIMUM(MAXIMUM(x, SPLAT(0.0f)), SPLAT(1.0f)); }

// atan of |q| <= 0.7 (fan half-angles below 35 degrees): odd polynomial of degree 13, error < 2e-7; grows on beyond. GLSL's own may be off by
// a tenth of a detector element.
KERNEL_FUNCTION real fanAngle(real q) {
    real s = q * q;
    return q * (1.0f + s * (-0.33333334f + s * (0.19999580f + s * (-0.14273260f + s * (0.11013120f + s * (-0.08138380f + s * 0.03771710f))))));
}

// Linear VOI window, PS3.3 C.11.2.1.2.1; modality units, width >= 1. Display value 0...1. Width 1 is a
// threshold: 0 up to center - 0.5, 1 above.
KERNEL_FUNCTION real voiLinear(real value, float center, float width) {
    if (width > 1.0f) return clampUnit((value - (center - 0.5f)) * (1.0f / (width - 1.0f)) + 0.5f);
    return clampUnit((value - (center - 0.5f)) * 1e30f);
}

// Linear exact, PS3.3 C.11.2.1.3.2; width > 0.
KERNEL_FUNCTION real voiLinearExact(real value, float center, float width) {
    return clampUnit((value - center) * (1.0f / width) + 0.5f);
}

// Sigmoid, PS3.3 C.11.2.1.3.1; width > 0.
KERNEL_FUNCTION real voiSigmoid(real value, float center, float width) {
    return 1.0f / (1.0f + EXPONENTIAL((value - center) * (-4.0f / width)));
}

// Catmull-Rom weight of the neighbour before the sample, and so on; t in 0...1 from `b` to `c`.
KERNEL_FUNCTION real cubicWeightA(real t) { return t * (t * (1.0f - 0.5f * t) - 0.5f); }
KERNEL_FUNCTION real cubicWeightB(real t) { return t * t * (1.5f * t - 2.5f) + 1.0f; }
KERNEL_FUNCTION real cubicWeightC(real t) { return t * (t * (2.0f - 1.5f * t) + 0.5f); }
KERNEL_FUNCTION real cubicWeightD(real t) { return t * t * (0.5f * t - 0.5f); }

#endif
#undef ARITHMETIC_WITHOUT_KERNEL
