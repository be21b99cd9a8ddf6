#include "CDenoising.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#pragma clang diagnostic ignored "-Wpsabi"
#pragma clang diagnostic ignored "-Wc23-extensions"
#define AI static inline __attribute__((always_inline))

typedef float F8 __attribute__((ext_vector_type(8)));
typedef float F16 __attribute__((ext_vector_type(16)));

// LAPACK: eigenvalues (ascending) and vectors of a symmetric matrix.
extern void openblas_set_num_threads(int count);
extern void ssyev_(const char *jobz, const char *uplo, const int *n, float *a, const int *lda, float *w, float *work, const int *lwork, int *info);

#define PATCH 8
#define GROUP 16
#define RANKED 24

// Orthonormal cosine basis, [frequency][sample].
static const float cosines[PATCH][PATCH] = {
    {0.353553391f, 0.353553391f, 0.353553391f, 0.353553391f, 0.353553391f, 0.353553391f, 0.353553391f, 0.353553391f},
    {0.490392640f, 0.415734806f, 0.277785117f, 0.097545161f, -0.097545161f, -0.277785117f, -0.415734806f, -0.490392640f},
    {0.461939766f, 0.191341716f, -0.191341716f, -0.461939766f, -0.461939766f, -0.191341716f, 0.191341716f, 0.461939766f},
    {0.415734806f, -0.097545161f, -0.490392640f, -0.277785117f, 0.277785117f, 0.490392640f, 0.097545161f, -0.415734806f},
    {0.353553391f, -0.353553391f, -0.353553391f, 0.353553391f, 0.353553391f, -0.353553391f, -0.353553391f, 0.353553391f},
    {0.277785117f, -0.490392640f, 0.097545161f, 0.415734806f, -0.415734806f, -0.097545161f, 0.490392640f, -0.277785117f},
    {0.191341716f, -0.461939766f, 0.461939766f, -0.191341716f, -0.191341716f, 0.461939766f, -0.461939766f, 0.191341716f},
    {0.097545161f, -0.277785117f, 0.415734806f, -0.490392640f, 0.490392640f, -0.415734806f, 0.277785117f, -0.097545161f}};
// Weights of a patch's samples when patches are added up: the middle counts more (half a sine over 10 samples).
static const float taper[PATCH] = {0.342020f, 0.642788f, 0.866025f, 0.984808f, 0.984808f, 0.866025f, 0.642788f, 0.342020f};

typedef struct { float distance; short slice, x, y; } Match;

#define LANES 8
#define F F8
#define PIXELS 6
#define TARGET
#define NAME(x) x##_portable
#include "denoising.inc"
#undef TARGET
#undef NAME
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#include "denoising.inc"
#undef TARGET
#undef NAME
#undef LANES
#undef F
#undef PIXELS
#define LANES 16
#define F F16
#define PIXELS 8
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define NAME(x) x##_avx512
#include "denoising.inc"

static _Thread_local int forced = -1;
void dn_force_path(int path) { forced = path; }
int dn_forced_path(void) { return forced; }
int dn_path(void) {
    const int best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") ? 2
                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
    const int want = forced;
    return want < 0 || want > best ? best : want;
}
#define CALL(name, ...) switch (dn_path()) { case 2: name##_avx512(__VA_ARGS__); break; case 1: name##_avx2(__VA_ARGS__); break; default: name##_portable(__VA_ARGS__); }

void dn_convolve(float *out, int64_t outStride, const float *in, int64_t inStride, const float *weights, const float *bias, const float *add, int64_t addStride,
                 int32_t width, int32_t rowBegin, int32_t rowEnd, int32_t inChannels, int32_t outChannels, int32_t side, int32_t relu) {
    CALL(convolve, out, outStride, in, inStride, weights, bias, add, addStride, width, rowBegin, rowEnd, inChannels, outChannels, side, relu)
}
void dn_collaborate(float *sum, float *weight, const float *const *values, const float *const *guides, const float *const *pilots, const dn_grouping *g, int32_t rowBegin, int32_t rowEnd) {
    CALL(collaborate, sum, weight, values, guides, pilots, g, rowBegin, rowEnd)
}
void dn_low_rank(float *sum, float *weight, const float *const *values, const float *const *guides, const dn_grouping *g, int32_t rowBegin, int32_t rowEnd) {
    // Matrices are tiny and the caller runs bands on all cores: a library with threads of its own would only wait for itself.
    openblas_set_num_threads(1);
    CALL(low_rank, sum, weight, values, guides, g, rowBegin, rowEnd)
}
void dn_smooth_rows(float *out, const float *in, int32_t width, int32_t rowBegin, int32_t rowEnd, const float *weights, int32_t half) {
    CALL(smooth_rows, out, in, width, rowBegin, rowEnd, weights, half)
}
void dn_smooth_columns(float *out, const float *in, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, const float *weights, int32_t half) {
    CALL(smooth_columns, out, in, width, height, rowBegin, rowEnd, weights, half)
}
void dn_tv_primal(float *u, const float *f, const float *lambda, const float *r, const float *below, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, float zWeight) {
    CALL(tv_primal, u, f, lambda, r, below, width, height, rowBegin, rowEnd, zWeight)
}
void dn_tv_dual(float *p, float *r, const float *u, const float *above, const float *lambda, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, float zWeight, float momentum) {
    CALL(tv_dual, p, r, u, above, lambda, width, height, rowBegin, rowEnd, zWeight, momentum)
}

// Hoare's selection.
float dn_median(float *v, int32_t count) {
    int low = 0, high = count - 1;
    const int k = count / 2;
    while (low < high) {
        const float pivot = v[(low + high) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (pivot < v[j]) j--;
            if (i <= j) { const float t = v[i]; v[i++] = v[j]; v[j--] = t; }
        }
        if (k <= j) high = j; else if (k >= i) low = i; else break;
    }
    return v[k];
}

static const unsigned char weights[] = {
#embed "weights/denoiser.weights"
};
const unsigned char *dn_weights(int64_t *count) {
    *count = sizeof weights;
    return weights;
}
