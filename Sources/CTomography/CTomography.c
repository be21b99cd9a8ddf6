#include "CTomography.h"
#include <immintrin.h>
#include <math.h>
#include <string.h>
#pragma clang diagnostic ignored "-Wpsabi"
#define AI static inline __attribute__((always_inline))

#define LANES 8
#define TARGET
#define NAME(x) x##_portable
typedef float F8 __attribute__((ext_vector_type(8)));
typedef int32_t I8 __attribute__((ext_vector_type(8)));
#define F F8
#define I I8
AI F8 perm2_portable(F8 lo, F8 hi, I8 k) {
    float table[16];
    memcpy(table, &lo, 32); memcpy(table + 8, &hi, 32);
    F8 r;
    for (int l = 0; l < 8; l++) r[l] = table[k[l] & 15];
    return r;
}
#define PERM2 perm2_portable
#include "kernels.inc"
#undef TARGET
#undef NAME
#undef PERM2

#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
TARGET AI F8 perm2_avx2(F8 lo, F8 hi, I8 k) {
    const __m256i i = (__m256i)k;
    const __m256 a = _mm256_permutevar8x32_ps((__m256)lo, i), b = _mm256_permutevar8x32_ps((__m256)hi, i);
    return (F8)_mm256_blendv_ps(a, b, (__m256)_mm256_slli_epi32(i, 28));
}
#define PERM2 perm2_avx2
#include "kernels.inc"
#undef TARGET
#undef NAME
#undef PERM2
#undef LANES
#undef F
#undef I

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#define NAME(x) x##_avx512
typedef float F16 __attribute__((ext_vector_type(16)));
typedef int32_t I16 __attribute__((ext_vector_type(16)));
#define F F16
#define I I16
TARGET AI F16 perm2_avx512(F16 lo, F16 hi, I16 k) { return (F16)_mm512_permutex2var_ps((__m512)lo, (__m512i)k, (__m512)hi); }
#define PERM2 perm2_avx512
#include "kernels.inc"

static _Thread_local int forced = -1;
void tg_force_path(int path) { forced = path; }
int tg_forced_path(void) { return forced; }
int tg_path(void) {
    const int best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") ? 2
                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
    const int f = forced;
    return f >= 0 && f < best ? f : best;
}
#define DISPATCH(kernel, ...) switch (tg_path()) { \
    case 2: kernel##_avx512(__VA_ARGS__); break; \
    case 1: kernel##_avx2(__VA_ARGS__); break; \
    default: kernel##_portable(__VA_ARGS__); }

void tg_backproject_parallel(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, const float *sino, int32_t views, int32_t detectors,
                             int64_t stride, const double *a, const double *du, const double *dv) {
    DISPATCH(backproject_parallel, image, width, rowBegin, rowEnd, sino, views, detectors, stride, a, du, dv)
}
void tg_backproject_fan(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, const float *sino, int32_t views, int32_t detectors,
                        int64_t stride, const double *six, double center, double scale, int32_t curved) {
    DISPATCH(backproject_fan, image, width, rowBegin, rowEnd, sino, views, detectors, stride, six, center, scale, curved)
}
void tg_backproject_cone(float *tile, int32_t x0, int32_t y0, int32_t width, int32_t height, int32_t slices, const float *projections,
                         int32_t viewBegin, int32_t viewEnd, int32_t columns, int32_t rows, int64_t stride, const double *six, const tg_cone *geometry) {
    DISPATCH(backproject_cone, tile, x0, y0, width, height, slices, projections, viewBegin, viewEnd, columns, rows, stride, six, geometry)
}
void tg_joseph_forward(float *out, const float *image, int32_t width, int32_t height, int64_t stride, int32_t rays, const float *x0, const float *dx, const float *length) {
    DISPATCH(joseph_forward, out, image, width, height, stride, rays, x0, dx, length)
}
void tg_joseph_adjoint_parallel(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, int64_t stride, int32_t rays,
                                double start, double step, double dx, float length, const float *value) {
    DISPATCH(joseph_adjoint_parallel, image, width, rowBegin, rowEnd, stride, rays, start, step, dx, length, value)
}
void tg_cone_forward(float *out, int64_t outStride, const float *volume, int32_t mains, int32_t crosses, int64_t mainStride, int64_t crossStride,
                     int32_t slices, double z0, double centerRow, int32_t rows, const tg_column *columns, int32_t count) {
    DISPATCH(cone_forward, out, outStride, volume, mains, crosses, mainStride, crossStride, slices, z0, centerRow, rows, columns, count)
}
void tg_cone_adjoint(float *volume, int32_t mainBegin, int32_t mainEnd, int32_t crosses, int64_t mainStride, int64_t crossStride,
                     int32_t slices, double z0, double centerRow, int32_t rows, const tg_column *columns, int32_t count,
                     const float *in, int64_t inStride, float *scratch) {
    DISPATCH(cone_adjoint, volume, mainBegin, mainEnd, crosses, mainStride, crossStride, slices, z0, centerRow, rows, columns, count, in, inStride, scratch)
}
void tg_nlm(float *out, const float *const *values, const float *const *guides, const float *inverse, int32_t width, int32_t rowBegin, int32_t rowEnd,
            int64_t stride, int32_t slices, int32_t center, int32_t radius, int32_t patch) {
    DISPATCH(nlm, out, values, guides, inverse, width, rowBegin, rowEnd, stride, slices, center, radius, patch)
}

void tg_joseph_adjoint(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, int64_t stride, int32_t rays,
                       const float *x0, const float *dx, const float *length, const float *value) {
    for (int32_t y = rowBegin; y < rowEnd; y++) {
        float *row = image + y * stride;
        for (int32_t j = 0; j < rays; j++) {
            const float x = x0[j] + (float)y * dx[j];
            if (!(x > -1.f && x < (float)width)) continue;
            const int32_t k = x < 0.f ? -1 : (int32_t)x;
            const float f = x - (float)k, v = value[j] * length[j];
            row[k] += (1.f - f) * v;     // k = −1 and k + 1 = width fall into the padding, which the caller ignores
            row[k + 1] += f * v;
        }
    }
}

void tg_helix_backproject(float *numerator, float *denominator, int32_t slices, double firstZ, double sliceSpacing, double x, double y,
                          const float *data, const float *z, int32_t begin, int32_t end, int32_t perHalfTurn, const double *cosines, const double *sines,
                          int32_t tCount, double tSpacing, double tCenter, const float *along, const float *reach,
                          int32_t rows, double rowSpacing, double centerRow, double spotZ) {
    // Rows near the edge of the detector fade out, so that neighbouring turns hand over smoothly.
    const float full = 0.6f, middle = 0.5f * (float)(rows - 1), half = 0.5f * (float)rows;
    for (int32_t v = begin; v < end; v++) {
        const double c = cosines[v], s = sines[v];
        const double u = (x * c + y * s) / tSpacing + tCenter;
        if (!(u >= 0 && u < tCount - 1)) continue;
        const int32_t i = (int32_t)u;
        const float f = (float)(u - i);
        const float *zs = z + (int64_t)v * tCount + i;
        const double height = zs[0] + f * (zs[1] - zs[0]);
        if (height != height) continue;
        const double distance = along[i] + f * (along[i + 1] - along[i]) - (y * c - x * s);
        const double magnification = (reach[i] + f * (reach[i + 1] - reach[i])) / (distance * rowSpacing);
        const double start = centerRow + ((firstZ - height - spotZ) * magnification + spotZ / rowSpacing), step = sliceSpacing * magnification;
        // Slices whose row lies in (−0.5, rows − 0.5)
        double a = (-0.5 - start) / step, b = (rows - 0.5 - start) / step;
        int32_t first = a < 0 ? 0 : (int32_t)a + 1, last = b > slices ? slices : (int32_t)__builtin_ceil(b);
        if (first >= last) continue;
        const float *left = data + ((int64_t)v * tCount + i) * rows, *right = left + rows;
        float *num = numerator + (int64_t)(v % perHalfTurn) * slices, *den = denominator + (int64_t)(v % perHalfTurn) * slices;
        for (int32_t k = first; k < last; k++) {
            const float row = (float)(start + k * step), q = __builtin_fabsf(row - middle) / half;
            float weight = 1;
            if (q > full) { const float d = q < 1.f ? (1.f - q) / (1.f - full) : 0.f; weight = d * d * (3.f - 2.f * d); }
            const float p = row < 0.f ? 0.f : row > (float)(rows - 1) ? (float)(rows - 1) : row;
            const int32_t r = (int32_t)p < rows - 1 ? (int32_t)p : rows > 1 ? rows - 2 : 0;
            const float g = rows > 1 ? p - (float)r : 0.f;
            const int32_t n = rows > 1 ? r + 1 : r;
            const float lower = left[r] + f * (right[r] - left[r]), upper = left[n] + f * (right[n] - left[n]);
            num[k] += weight * (lower + g * (upper - lower));
            den[k] += weight;
        }
    }
}
