// Kernels of reconstruction: back-projection for FBP and FDK, and a matched pair of Joseph projectors.
// All arrays are 32-bit floats. Every sinogram row is preceded and followed by TG_PADDING readable floats of value 0.
#ifndef CTOMOGRAPHY_H
#define CTOMOGRAPHY_H
#include <stdint.h>

#define TG_PADDING 64

// Which instructions the kernels use: 0 portable, 1 AVX2, 2 AVX-512. `tg_force_path` chooses for the calling thread, for tests;
// -1 returns to the processor's best. `tg_forced_path` tells what was chosen, for threads that share this one's work.
int tg_forced_path(void);
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

// What the cone adds to a fan: see FanBeam and ConeBeam. `scale` is distance over element size, all lengths mm.
typedef struct {
    double center, scale, distance;             // column on the axis; pixels per tangent (flat) or radian (curved); focal spot to detector
    double rowSpacing, centerRow;
    double firstZ, sliceSpacing;                // slices of the volume
    int32_t curved;
} tg_cone;
// Voxel-driven cone back-projection of the views viewBegin ..< viewEnd into a tile of voxel columns (z fastest), those at x0 ..< x0 + width
// and y0 ..< y0 + height; `six` as for the fan, six numbers a view from view 0:
//   tile[((y − y0)·width + x − x0)·slices + z] += Σ_v P_v(u, row of z) / distance²,  bilinear, 0 outside.
// `projections` points at row 0 of the first detector column of view 0; columns are `stride` apart, padded as above.
void tg_backproject_cone(float *tile, int32_t x0, int32_t y0, int32_t width, int32_t height, int32_t slices, const float *projections,
                         int32_t viewBegin, int32_t viewEnd, int32_t columns, int32_t rows, int64_t stride, const double *six, const tg_cone *geometry);

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

// Joseph's projector for a cone or helix, one detector column (all its rows) after another. The volume has z fastest; `main` is the axis
// the rays advance along, `cross` the other one in the plane. The forward kernel needs 32 zeros before and behind each column of voxels.
typedef struct {
    float x0, dx;      // cross index at main index k: x0 + k·dx
    float length;      // mm of the ray in the plane per step of the main axis
    float l0, dl;      // distance in the plane from the focal spot at main index k: l0 + k·dl, mm
    float rise;        // slices per detector row and mm of that distance
    float slope;       // rise of the ray per mm in the plane and detector row
    int32_t index;     // column of the detector
} tg_column;
// out[index·outStride + row]. `z0`: slice index of the focal spot.
void tg_cone_forward(float *out, int64_t outStride, const float *volume, int32_t mains, int32_t crosses, int64_t mainStride, int64_t crossStride,
                     int32_t slices, double z0, double centerRow, int32_t rows, const tg_column *columns, int32_t count);
// The transpose for main indices mainBegin ..< mainEnd. scratch: rows + 2·TG_PADDING floats.
void tg_cone_adjoint(float *volume, int32_t mainBegin, int32_t mainEnd, int32_t crosses, int64_t mainStride, int64_t crossStride,
                     int32_t slices, double z0, double centerRow, int32_t rows, const tg_column *columns, int32_t count,
                     const float *in, int64_t inStride, float *scratch);

// Weighted filtered back-projection of a helix (Stierstorfer et al. 2004) into one column of voxels at (x, y). `data`: filtered parallel
// views [view][t][row], `perHalfTurn` of them in 180 degrees, the first of which is `begin`; t = (index − tCenter)·tSpacing.
// `z` is the height of the focal centre for each [view][t], NaN where nothing was measured. Tables over t: `along`, the position of the
// focal spot along the ray, `reach`, its distance to the detector in the plane, both mm. `spotZ` is the spot's height over its centre.
// Adds weight·value to numerators and weight to denominators [view mod perHalfTurn][slice].
void tg_helix_backproject(float *numerator, float *denominator, int32_t slices, double firstZ, double sliceSpacing, double x, double y,
                          const float *data, const float *z, int32_t begin, int32_t end, int32_t perHalfTurn, const double *cosines, const double *sines,
                          int32_t tCount, double tSpacing, double tCenter, const float *along, const float *reach,
                          int32_t rows, double rowSpacing, double centerRow, double spotZ);

// Non-local means of one slice over a neighbourhood of `slices` slices, of which `center` is the slice itself.
// `guides` decide similarity, `values` are averaged; all are padded: `TG_NLM_MARGIN` readable pixels on every side, and 128 more to the
// right; pointers name pixel (0, 0). With t = (sum of squared guide differences over the patch) · inverse, a candidate weighs (1 − t)⁸,
// nothing beyond t = 1. `out` is width × rows without padding; patch (half width) at most 3, radius + patch + 16 at most the margin.
#define TG_NLM_MARGIN 32
void tg_nlm(float *out, const float *const *values, const float *const *guides, const float *inverse, int32_t width, int32_t rowBegin, int32_t rowEnd,
            int64_t stride, int32_t slices, int32_t center, int32_t radius, int32_t patch);
#endif
