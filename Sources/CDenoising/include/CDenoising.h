// Kernels of denoising: convolution layers, total variation, grouped transform filtering and low-rank patches. 32-bit floats throughout.
// Every function works on a band of rows (or one slice) and writes only there, so callers run bands on all cores; the result does not
// depend on how many.
#ifndef CDENOISING_H
#define CDENOISING_H
#include <stdint.h>

// Which instructions the kernels use: 0 portable, 1 AVX2, 2 AVX-512. `dn_force_path` chooses for the calling thread, for tests;
// -1 returns to the processor's best. `dn_forced_path` tells what was chosen, for threads that share this one's work.
int dn_forced_path(void);
int dn_path(void);
void dn_force_path(int path);

// One convolution layer, odd kernel `side` (1 or 3), on channel-last images: out[y][x][·] = bias + Σ weights · in, then ReLU if asked,
// else plus `add` if given (same layout as out). `in` needs side/2 readable pixels around it (zeros); strides are floats per row.
// Weights: [block of 16 outputs][ky][kx][input channel][16]; outputs padded to 16, `out` has `outChannels` = a multiple of 16 per pixel.
void dn_convolve(float *out, int64_t outStride, const float *in, int64_t inStride, const float *weights, const float *bias, const float *add, int64_t addStride,
                 int32_t width, int32_t rowBegin, int32_t rowEnd, int32_t inChannels, int32_t outChannels, int32_t side, int32_t relu);

// Separable Gaussian with mirrored borders, in two passes; `weights` has 2·half + 1 entries.
void dn_smooth_rows(float *out, const float *in, int32_t width, int32_t rowBegin, int32_t rowEnd, const float *weights, int32_t half);
void dn_smooth_columns(float *out, const float *in, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, const float *weights, int32_t half);

// Median (upper) of `count` values; reorders them.
float dn_median(float *values, int32_t count);

// Total variation of a volume whose fidelity weakens with `lambda` (per pixel, HU): dual of  Σ (u − f)²/(2λ) + |∇u|,  fast gradient
// projection (Beck and Teboulle 2009). Dual fields p, r: three components per slice (x, y, z), each width × height; `below` = slice z − 1.
//   primal: u = f + λ·div r;   dual: r ← extrapolated projection of r + ∇u/(12·λ).
void dn_tv_primal(float *u, const float *f, const float *lambda, const float *r, const float *below, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, float zWeight);
void dn_tv_dual(float *p, float *r, const float *u, const float *above, const float *lambda, int32_t width, int32_t height, int32_t rowBegin, int32_t rowEnd, float zWeight, float momentum);

// Grouping of similar 8 × 8 patches across neighbouring slices, and filtering each group in a transform domain. All images are width ×
// height; `center` names the slice to be estimated. For every reference patch with its corner in rows rowBegin ..< rowEnd (multiples of
// `step`, and the last possible row) the most similar patches on `guides` are collected within ± `radius` pixels and in all slices, as long as
// the mean squared difference stays below `limit` (per pixel); filtered patches lying in slice `center` are added, weighted, to `sum`
// and `weight`, which start at row `top`. `deviation`: noise SD per pixel; `spectra`: per region 64 variances of cosine coefficients
// relative to the pixels' variance.
typedef struct {
    int32_t width, height, slices, center, radius, step, top;
    int32_t regionsAcross, regionsDown;
    const float *deviation, *limit, *spectra;
    float strength;
} dn_grouping;

// Transform-domain collaborative filtering (Dabov et al. 2007; Maggioni et al. 2013): cosine transform of each patch, Walsh transform
// along the group; thresholds, or Wiener factors if `pilots` (a first estimate) is given.
void dn_collaborate(float *sum, float *weight, const float *const *values, const float *const *guides, const float *const *pilots, const dn_grouping *g, int32_t rowBegin, int32_t rowEnd);

// Low-rank groups: patches whitened by the noise spectrum form the columns of a matrix whose singular values are shrunk (Gavish and
// Donoho 2017, Frobenius loss). Eigenvalues by LAPACK (ssyev).
void dn_low_rank(float *sum, float *weight, const float *const *values, const float *const *guides, const dn_grouping *g, int32_t rowBegin, int32_t rowEnd);

// The trained network of Training/train.py; its length in bytes.
const unsigned char *dn_weights(int64_t *count);
#endif
