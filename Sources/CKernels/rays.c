#include "rays.h"
#include "parameters.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#pragma clang diagnostic ignored "-Wpsabi"
#pragma clang diagnostic ignored "-Wpass-failed"

#define INLINE static inline __attribute__((always_inline, unused))

/// One layer of cells that a tile's rays cross.
typedef struct {
    int32_t layer;
    int32_t inner;                  // all neighbours of all samples exist, those of gradients included
    int32_t done;                   // extremes, a bit a packet: samples between planes have been taken with those on them
    float bound;                    // largest value (maximum), negated smallest (minimum)
} Block;

/// A tile's rays as seen along axis k, with lateral axes u and v.
typedef struct {
    int axis[3];                    // u, v, k
    int forward;                    // k rises along the rays
    int thin;                       // one voxel along k: positions 0 ... 1 stand for half a voxel around it
    int clear;                      // steps whose classes all end at or before this one are invisible
    int substeps;                   // samples per voxel plane to begin with
    int between;                    // extremes: this is the second round, half way between planes
    int halves;                     // steps that give much to a composite are halved
    int size[3];                    // of the volume, in u, v, k
    int cells[3];
    int64_t stride[3];              // voxels to the next; 0 along an axis of one voxel
    int64_t step[3];                // voxels to the next, always
    int64_t cellStride[3], sumStride[3];
} Frame;

INLINE int clampi(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/// The last class before which nothing is visible.
static int clearClass(const RayWork *w) {
    int low = 0, high = RAY_CLASSES;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (w->classes[middle].extinction == 0) low = middle; else high = middle - 1;
    }
    return low;
}

static void frameAlong(const RayWork *w, int k, int forward, Frame *f) {
    static const int lateral[3][2] = { { 1, 2 }, { 0, 2 }, { 0, 1 } };
    f->thin = w->size[k] == 1;
    f->between = 0;
    f->axis[0] = lateral[k][0]; f->axis[1] = lateral[k][1]; f->axis[2] = k;
    f->forward = forward;
    f->halves = w->fold == RayComposite && w->substeps == 2;
    f->substeps = f->halves || w->fold == RayMaximum || w->fold == RayMinimum ? w->substeps == 2 ? 1 : w->substeps : w->substeps;
    f->clear = 0;
    const int64_t step[3] = { 1, w->size[0], (int64_t)w->size[0] * w->size[1] };
    const int64_t cell[3] = { 1, w->cells[0], (int64_t)w->cells[0] * w->cells[1] };
    const int64_t sum[3] = { 1, w->cells[0] + 1, (int64_t)(w->cells[0] + 1) * (w->cells[1] + 1) };
    for (int i = 0; i < 3; i++) {
        int a = f->axis[i];
        f->size[i] = w->size[a]; f->cells[i] = w->cells[a];
        f->step[i] = step[a]; f->stride[i] = w->size[a] > 1 ? step[a] : 0;
        f->cellStride[i] = cell[a]; f->sumStride[i] = sum[a];
    }
}

/// Visible cells in the box [u0, u1] × [v0, v1] × [k0, k1], ends included.
INLINE int occupied(const RayWork *w, const Frame *f, int u0, int u1, int v0, int v1, int k0, int k1) {
    const int32_t *s = w->occupancy;
    int64_t a0 = u0 * f->sumStride[0], a1 = (u1 + 1) * f->sumStride[0];
    int64_t b0 = v0 * f->sumStride[1], b1 = (v1 + 1) * f->sumStride[1];
    int64_t c0 = k0 * f->sumStride[2], c1 = (k1 + 1) * f->sumStride[2];
    return (s[a1 + b1 + c1] - s[a0 + b1 + c1] - s[a1 + b0 + c1] + s[a0 + b0 + c1])
         - (s[a1 + b1 + c0] - s[a0 + b1 + c0] - s[a1 + b0 + c0] + s[a0 + b0 + c0]);
}

/// Offsets below a pixel of averaged passes: the R2 sequence (Roberts 2018), which fills the square evenly at any length.
INLINE void jitter(int pass, int passes, float *x, float *y) {
    if (passes <= 1) { *x = *y = 0; return; }
    double a = 0.5 + pass * 0.7548776662466927, b = 0.5 + pass * 0.5698402909980532;
    *x = (float)(a - floor(a) - 0.5); *y = (float)(b - floor(b) - 0.5);
}

#define LANES 8
#define NAME(x) x##Portable
#include "ray_body.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define LANES 8
#define NAME(x) x##AVX2
#include "ray_body.h"
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#define LANES 16
#define NAME(x) x##AVX512
#include "ray_body.h"
#pragma clang attribute pop
#endif

void rayTile(const RayWork *work, int tileX, int tileY, int columns, Instructions instructions) {
#if defined(__x86_64__)
    switch (instructions) {
    case InstructionsAVX512: tileAVX512(work, tileX, tileY, columns); return;
    case InstructionsAVX2: tileAVX2(work, tileX, tileY, columns); return;
    case InstructionsPortable: break;
    }
#endif
    tilePortable(work, tileX, tileY, columns);
}

void rayCellLayer(const void *voxels, int format, const int32_t size[3], int z, float *minimum, float *maximum, Instructions instructions) {
#if defined(__x86_64__)
    switch (instructions) {
    case InstructionsAVX512: cellLayerAVX512(voxels, format, size, z, minimum, maximum); return;
    case InstructionsAVX2: cellLayerAVX2(voxels, format, size, z, minimum, maximum); return;
    case InstructionsPortable: break;
    }
#endif
    cellLayerPortable(voxels, format, size, z, minimum, maximum);
}

/// Voxels that one of a copy stands for.
INLINE void halvedSpan(int i, int halved, int size, int *first, int *last) {
    *first = clampi(halved ? 2 * i - 1 : i, 0, size - 1);
    *last = clampi(halved ? 2 * i + 1 : i, 0, size - 1);
}

void rayHalvedSlice(const void *voxels, int format, const int32_t size[3], const int32_t halved[3], int z, int smallest, void *out) {
    const int nx = size[0], across = halved[0] ? rayHalved(nx) : nx, down = halved[1] ? rayHalved(size[1]) : size[1];
    const int64_t plane = (int64_t)nx * size[1];
    int x0, x1, y0, y1, z0, z1;
    halvedSpan(z, halved[2], size[2], &z0, &z1);
/* What is no number counts for nothing: fmaxf and fminf leave it out. */
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define LESSER(a, b) ((a) < (b) ? (a) : (b))
#define SLICE(T, OF) { \
    T line[RAY_LONGEST_AXIS + 2]; \
    for (int y = 0; y < down; y++) { \
        T *row = (T *)out + (int64_t)y * across; \
        halvedSpan(y, halved[1], size[1], &y0, &y1); \
        for (int k = z0; k <= z1; k++) for (int j = y0; j <= y1; j++) { \
            const T *from = (const T *)voxels + k * plane + (int64_t)j * nx; \
            if (k == z0 && j == y0) memcpy(line + 1, from, sizeof(T) * (size_t)nx); \
            else for (int x = 0; x < nx; x++) line[x + 1] = OF(from[x], line[x + 1]); \
        } \
        if (!halved[0]) { memcpy(row, line + 1, sizeof(T) * (size_t)nx); continue; } \
        line[0] = line[1]; line[nx + 1] = line[nx]; \
        for (int x = 0; x < across - 1; x++) { \
            const T a = line[2 * x], b = line[2 * x + 1], c = line[2 * x + 2], d = OF(a, b); \
            row[x] = OF(c, d); \
        } \
        halvedSpan(across - 1, 1, nx, &x0, &x1); \
        row[across - 1] = OF(line[x0 + 1], line[x1 + 1]); \
    } }
    if (format == VOXELS_INT16) { if (smallest) SLICE(int16_t, LESSER) else SLICE(int16_t, LARGER) }
    else if (smallest) SLICE(float, fminf) else SLICE(float, fmaxf)
#undef SLICE
#undef LARGER
#undef LESSER
}

static int classOf(const RayWork *w, float stored) {
    float c = (stored - w->classFirst) * w->classesPerUnit;
    return c > 0 ? c < RAY_CLASSES - 1 ? (int)c : RAY_CLASSES - 1 : 0;
}

void rayOccupancy(const RayWork *w, const uint8_t *extra, int32_t *sums) {
    const int nx = w->cells[0] + 1, ny = w->cells[1] + 1, nz = w->cells[2] + 1;
    const int64_t plane = (int64_t)nx * ny;
    memset(sums, 0, sizeof(int32_t) * (size_t)plane);
    int64_t cell = 0;
    for (int z = 1; z < nz; z++) {
        int32_t *s = sums + z * plane;
        memset(s, 0, sizeof(int32_t) * (size_t)nx);
        for (int y = 1; y < ny; y++) {
            int32_t row = 0;
            s[y * nx] = 0;
            for (int x = 1; x < nx; x++, cell++) {
                float low = w->cellMinimum[cell], high = w->cellMaximum[cell];
                int visible = extra && extra[cell];
                if (!visible && low <= high)
                    visible = w->fold == RayIsosurface ? low <= w->isovalue && w->isovalue <= high
                        : w->classes[classOf(w, high) + 1].extinction > w->classes[classOf(w, low)].extinction;
                row += visible;
                s[y * nx + x] = row + s[(y - 1) * nx + x] + s[y * nx + x - plane] - s[(y - 1) * nx + x - plane];
            }
        }
    }
}

void rayClarity(const RayWork *w, int z, float length, float *clarity) {
    const int64_t row = w->size[0], plane = row * w->size[1];
    int64_t cell = (int64_t)z * w->cells[0] * w->cells[1];
    for (int y = 0; y < w->cells[1]; y++) for (int x = 0; x < w->cells[0]; x++, cell++) {
        clarity[cell] = 1;
        float low = w->cellMinimum[cell], high = w->cellMaximum[cell];
        if (!(low <= high)) continue;
        const int surface = w->fold == RayIsosurface;
        if (surface ? high < w->isovalue : w->classes[classOf(w, high) + 1].extinction == w->classes[classOf(w, low)].extinction) continue;
        const float center[3] = { (float)x * RAY_CELL + 2, (float)y * RAY_CELL + 2, (float)z * RAY_CELL + 2 };
        int cut = 0;
        for (int n = 0; n < w->cuts; n++)
            cut |= center[0] * w->cut[n][0] + center[1] * w->cut[n][1] + center[2] * w->cut[n][2] > w->cut[n][3];
        if (cut) continue;
        float sum = 0;
        int count = 0;
        for (int c = z * RAY_CELL; c < (z + 1) * RAY_CELL && c < w->size[2]; c += 2)
            for (int b = y * RAY_CELL; b < (y + 1) * RAY_CELL && b < w->size[1]; b += 2)
                for (int a = x * RAY_CELL; a < (x + 1) * RAY_CELL && a < w->size[0]; a += 2) {
                    int64_t i = c * plane + b * row + a;
                    float v = w->format == VOXELS_INT16 ? ((const int16_t *)w->voxels)[i] : ((const float *)w->voxels)[i];
                    if (surface) sum += v >= w->isovalue ? 3.0f : 0;
                    else { int k = classOf(w, v); sum += (float)(w->classes[k + 1].extinction - w->classes[k].extinction) * w->extinctionScale; }
                    count++;
                }
        clarity[cell] = exp2f(-sum / (float)count * length);
    }
}

void rayAmbientSweep(const RayWork *w, const float *clarity, int direction, float forget, uint8_t *light) {
    // 0 ... 5: the axes, both ways; 6 ... 13: the diagonals of the cube.
    int d[3] = { 0, 0, 0 };
    if (direction < 6) d[direction >> 1] = direction & 1 ? 1 : -1;
    else for (int a = 0; a < 3; a++) d[a] = (direction - 6) >> a & 1 ? 1 : -1;
    const int nx = w->cells[0], ny = w->cells[1], nz = w->cells[2];
    const int64_t back = d[0] + (int64_t)nx * (d[1] + (int64_t)ny * d[2]);
    for (int c = 0; c < nz; c++) for (int b = 0; b < ny; b++) {
        const int z = d[2] < 0 ? nz - 1 - c : c, y = d[1] < 0 ? ny - 1 - b : b;
        const int outside = z - d[2] < 0 || z - d[2] >= nz || y - d[1] < 0 || y - d[1] >= ny;
        for (int a = 0; a < nx; a++) {
            const int x = d[0] < 0 ? nx - 1 - a : a;
            const int64_t i = x + (int64_t)nx * (y + (int64_t)ny * z);
            if (outside || x - d[0] < 0 || x - d[0] >= nx) { light[i] = 255; continue; }
            const float passed = (float)light[i - back] * clarity[i - back];
            light[i] = (uint8_t)(255.5f - (255.0f - passed) * forget);
        }
    }
}

void rayAmbientMean(const RayWork *w, const uint8_t *light, int z, uint8_t *reached) {
    const int64_t plane = (int64_t)w->cells[0] * w->cells[1], count = plane * w->cells[2];
    for (int64_t i = z * plane; i < (z + 1) * plane; i++) {
        int sum = 0;
        for (int d = 0; d < RAY_AMBIENT_DIRECTIONS; d++) sum += light[d * count + i];
        sum = sum * 2 / RAY_AMBIENT_DIRECTIONS;
        reached[i] = (uint8_t)(sum < 255 ? sum : 255);
    }
}

void rayShadow(const RayWork *w, const float *clarity, const float travel[3], float perVoxel, float length, uint8_t *reached) {
    float x = fabsf(travel[0]), y = fabsf(travel[1]), z = fabsf(travel[2]);
    const int k = x > y && x > z ? 0 : y > z ? 1 : 2;
    Frame f;
    frameAlong(w, k, travel[k] > 0, &f);
    const float du = travel[f.axis[0]] / fabsf(travel[k]), dv = travel[f.axis[1]] / fabsf(travel[k]);
    const float power = perVoxel * RAY_CELL / length;
    const int nu = f.cells[0], nv = f.cells[1], nk = f.cells[2];
    for (int n = 0; n < nk; n++) {
        const int64_t here = (f.forward ? n : nk - 1 - n) * f.cellStride[2], before = here - (f.forward ? 1 : -1) * f.cellStride[2];
        for (int b = 0; b < nv; b++) for (int a = 0; a < nu; a++) {
            const int64_t i = here + a * f.cellStride[0] + b * f.cellStride[1];
            const float u = (float)a - du, v = (float)b - dv;
            if (n == 0 || u < 0 || v < 0 || u > (float)(nu - 1) || v > (float)(nv - 1)) { reached[i] = 255; continue; }
            const int u0 = clampi((int)u, 0, nu > 1 ? nu - 2 : 0), v0 = clampi((int)v, 0, nv > 1 ? nv - 2 : 0);
            const float tu = u - (float)u0, tv = v - (float)v0;
            float sum = 0;
            for (int corner = 0; corner < 4; corner++) {
                const int cu = u0 + (corner & 1) < nu ? u0 + (corner & 1) : u0, cv = v0 + (corner >> 1) < nv ? v0 + (corner >> 1) : v0;
                const int64_t j = before + cu * f.cellStride[0] + cv * f.cellStride[1];
                const float weight = (corner & 1 ? tu : 1 - tu) * (corner >> 1 ? tv : 1 - tv);
                if (weight > 0) sum += weight * (float)reached[j] * (clarity[j] < 1 ? powf(clarity[j], power) : 1);
            }
            reached[i] = (uint8_t)(sum + 0.5f);
        }
    }
}
