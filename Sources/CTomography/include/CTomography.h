// Kernels of reconstruction: back-projection for FBP and FDK, and a matched pair of Joseph projectors.
// All arrays are 32-bit floats. Every sinogram row is preceded and followed by TG_PADDING readable floats of value 0.
#ifndef CTOMOGRAPHY_H
#define CTOMOGRAPHY_H
#include <stdint.h>

#define TG_PADDING 64

// Which instructions the kernels use: 0 portable, 1 AVX2, 2 AVX-512. `tg_force_path(-1)` returns to the processor's best.
int tg_path(void);
void tg_force_path(int path);

// Pixel-driven parallel back-projection with linear interpolation:
//   image[y][x] += Σ_v sino[v](a[v] + x·du[v] + y·dv[v])   for rows rowBegin ..< rowEnd.
// `a`, `du`, `dv` are in detector elements; rows of `sino` are `stride` floats apart, `detectors` of them valid.
void tg_backproject_parallel(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd,
                             const float *sino, int32_t views, int32_t detectors, int64_t stride,
                             const double *a, const double *du, const double *dv);

// Pixel-driven fan back-projection. Per view six numbers: n0, nx, ny, d0, dx, dy; with d = d0 + dx·x + dy·y,
//   flat:   u = (n0 + nx·x + ny·y) / d · scale + center,        weight 1/d²
//   curved: u = atan((n0 + nx·x + ny·y) / d) · scale + center,  weight 1/(n² + d²)
// image[y][x] += Σ_v weight · sino[v](u).
void tg_backproject_fan(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd,
                        const float *sino, int32_t views, int32_t detectors, int64_t stride,
                        const double *six, double center, double scale, int32_t curved);

// Voxel-driven cone back-projection of one view into columns of voxels along z (z fastest in `column`).
// For each of `count` columns: u (fractional detector column), weight, v0 and dv (detector row of voxel 0 and per voxel).
//   column[k][z] += weight[k] · P(u[k], v0[k] + z·dv[k]),  bilinear, 0 outside.
// `projection` holds detector columns: `rows` floats each, `stride` apart, padded as above; `columns` of them.
void tg_backproject_cone(float *const *column, int32_t count, int32_t slices,
                         const float *projection, int32_t columns, int32_t rows, int64_t stride,
                         const float *u, const float *weight, const float *v0, const float *dv, float *scratch);

// Joseph's projector for rays that advance mainly along y: ray j meets row y at x = x0[j] + y·dx[j]; its value is
// length[j] · Σ_y lerp(image[y], x). Rows are `stride` apart with TG_PADDING zero floats on both sides.
void tg_joseph_forward(float *out, const float *image, int32_t width, int32_t height, int64_t stride,
                       int32_t rays, const float *x0, const float *dx, const float *length);

// Its transpose, restricted to rows rowBegin ..< rowEnd: image[y][·] += length[j]·value[j]·(linear weights).
void tg_joseph_adjoint(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, int64_t stride,
                       int32_t rays, const float *x0, const float *dx, const float *length, const float *value);

// The same transpose for parallel rays (dx and length equal for all, x0[j] = start + j·step), gathered instead of scattered.
void tg_joseph_adjoint_parallel(float *image, int32_t width, int32_t rowBegin, int32_t rowEnd, int64_t stride,
                                int32_t rays, double start, double step, double dx, float length, const float *value);

// Non-local means of one slice over a neighbourhood of `slices` slices, of which `center` is the slice itself.
// `guides` decide similarity, `values` are averaged; all are padded: `TG_NLM_MARGIN` readable pixels on every side, and 128 more to the
// right; pointers name pixel (0, 0). With t = (sum of squared guide differences over the patch) · inverse, a candidate weighs (1 − t)⁸,
// nothing beyond t = 1. `out` is width × rows without padding; patch (half width) at most 3, radius + patch + 16 at most the margin.
#define TG_NLM_MARGIN 32
void tg_nlm(float *out, const float *const *values, const float *const *guides, const float *inverse, int32_t width, int32_t rowBegin, int32_t rowEnd,
            int64_t stride, int32_t slices, int32_t center, int32_t radius, int32_t patch);
#endif
