#include "plane.h"
#include "kernel.h"

// Every path and vector width must round alike.
#pragma clang fp contract(off)

/// Samples along a ray that share one whole-voxel base.
#define SAMPLES_PER_CHUNK 64

/// One row of the picture: where its run starts and the steps along it.
typedef struct { double origin[3], right[3], step[3]; } Line;

/// A run of pixels and some of its samples, relative to a whole voxel.
typedef struct {
    int64_t base;                   // index of that voxel
    int64_t dy, dz;                 // voxels to the next row and slice; 0 along an axis of one voxel
    int64_t voxel[3];
    int slice;                      // of the base
    float origin[3], right[3], step[3], ahead[3];
    float low[3], high[3];          // the volume: half a voxel around the centres
    float first[3], last[3];        // first and last centres
    int64_t next[4][2];             // of the wide stencil, from its first voxel: what comes into it two rows of the picture on
    int lastCell[3];                // first voxel of the last cell
    int interior;                   // all neighbours of all samples exist
    int roomy;                      // all neighbours of some samples may
    int scattered;                  // too far apart for 32-bit offsets
} Chunk;

INLINE void lineAt(const PlaneWork *w, int x, int y, Line *line) {
    for (int a = 0; a < 3; a++) {
        double origin, right, step;
        if (w->lines) { const double *l = w->lines + 9 * (size_t)y; origin = l[a]; right = l[3 + a]; step = l[6 + a]; }
        else { origin = w->origin[a] + (double)y * w->down[a]; right = w->right[a]; step = w->step[a]; }
        line->origin[a] = origin + (double)x * right;
        line->right[a] = right;
        line->step[a] = step;
    }
}

INLINE double lower(double a, double b) { return a < b ? a : b; }
INLINE double upper(double a, double b) { return a > b ? a : b; }

/// Splits positions into base and rest; 0 when no sample lies in the volume.
static int place(const PlaneWork *w, const Line *line, int pixels, int firstSample, int samples, int interpolation, Chunk *c) {
    const MarchParameters *m = &w->parameters;
    const int size[3] = { m->columns, m->rows, m->slices };
    const int64_t stride[3] = { 1, m->columns, (int64_t)m->columns * m->rows };
    double spread = 0;
    c->interior = w->loaded == 0;
    c->roomy = c->interior && m->columns > 3 && m->rows > 3 && m->slices > 3;
    c->base = 0;
    for (int a = 0; a < 3; a++) {
        double start = line->origin[a] + (double)firstSample * line->step[a];
        double along = line->right[a] * (double)(pixels - 1), deep = line->step[a] * (double)(samples - 1);
        double low = start + lower(along, 0) + lower(deep, 0), high = start + upper(along, 0) + upper(deep, 0);
        int n = size[a];
        if (!(high >= -0.5 && low <= n - 0.5)) return 0;
        double reach = interpolation == INTERPOLATION_CUBIC ? 1 : 0;
        if (!(low >= reach && high <= n - 1 - reach - 1e-3)) c->interior = 0;
        int64_t voxel = (int64_t)floor(upper(low, 0));
        if (voxel > n - 1) voxel = n - 1;
        // The last voxel around which all that the wide stencil needs exist: from a later one points drawn back to it would lie before the base.
        if (interpolation == INTERPOLATION_CUBIC && n > 3 && voxel > n - 3) voxel = n - 3;
        c->voxel[a] = voxel;
        c->base += voxel * stride[a];
        spread += (lower(high, n - 1) - (double)voxel + 1) * (double)stride[a];
        c->origin[a] = (float)(start - (double)voxel);
        c->right[a] = (float)line->right[a];
        c->step[a] = (float)line->step[a];
        c->ahead[a] = (float)(2 * w->down[a]);
        c->low[a] = (float)(-0.5 - (double)voxel);
        c->high[a] = (float)(n - 0.5 - (double)voxel);
        c->first[a] = (float)-voxel;
        c->last[a] = (float)(n - 1 - voxel);
        c->lastCell[a] = (int)((n > 1 ? n - 2 : 0) - voxel);
    }
    c->slice = (int)c->voxel[2];
    c->dy = m->rows > 1 ? stride[1] : 0;
    c->dz = m->slices > 1 ? stride[2] : 0;
    // Rounded away from the stencil: what is a row too far comes a row of the picture later.
    int64_t way = 2;
    for (int a = 0; a < 3; a++) way += (int64_t)upper(lower(2 * w->down[a], size[a]), -size[a]) * stride[a];
    const int64_t nextRow = w->down[1] < 0 ? -c->dy : 4 * c->dy, nextSlice = w->down[2] < 0 ? -c->dz : 4 * c->dz;
    for (int i = 0; i < 4; i++) { c->next[i][0] = way + nextSlice + i * c->dy; c->next[i][1] = way + nextRow + i * c->dz; }
    c->scattered = !(spread < 2147483000.0);
    return 1;
}

INLINE int64_t clampedIndex(int64_t i, int n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }
INLINE float stored(const PlaneWork *w, int format, int64_t i) {
    switch (format) {
    case VOXELS_INT16: return ((const int16_t *)w->voxels)[i];
    case VOXELS_LABEL16: return ((const uint16_t *)w->voxels)[i];
    default: return ((const float *)w->voxels)[i];
    }
}

#define real float
#include "arithmetic.h"
#undef real

typedef float Row16 __attribute__((ext_vector_type(16)));
typedef float Row8 __attribute__((ext_vector_type(8)));
typedef float Row4 __attribute__((ext_vector_type(4)));

/// Weighted sum of 4 × 4 × 4 voxels; the order of additions is fixed, whatever the vector width.
INLINE float weighted(const Row16 planes[4], const float tx, const float ty, const float tz) {
    Row16 sum = planes[0] * cubicWeightA(tz) + planes[1] * cubicWeightB(tz) + planes[2] * cubicWeightC(tz) + planes[3] * cubicWeightD(tz);
    float a = cubicWeightA(ty), b = cubicWeightB(ty), c = cubicWeightC(ty), d = cubicWeightD(ty);
    Row16 wy = { a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d };
    sum *= wy;
    Row8 half = sum.lo + sum.hi;
    Row4 quarter = half.lo + half.hi;
    return (quarter.x * cubicWeightA(tx) + quarter.y * cubicWeightB(tx)) + (quarter.z * cubicWeightC(tx) + quarter.w * cubicWeightD(tx));
}

/// The same for voxels of 16 bits, whose rows are multiplied in whole numbers: weights along x are counted in 1 / WEIGHT_UNIT and sum up
/// to it, so that an even area stays as it is. No sum of two products leaves 32 bits, nor rounds.
#define WEIGHT_UNIT 32767
INLINE float weighted(const int16_t rows[4][4][4], const float tx, const float ty, const float tz) {
    const int a = (int)(cubicWeightA(tx) * WEIGHT_UNIT - 0.5f), c = (int)(cubicWeightC(tx) * WEIGHT_UNIT + 0.5f), d = (int)(cubicWeightD(tx) * WEIGHT_UNIT - 0.5f);
    const int x[4] = { a, WEIGHT_UNIT - a - c - d, c, d };
    const float y[4] = { cubicWeightA(ty), cubicWeightB(ty), cubicWeightC(ty), cubicWeightD(ty) };
    const float z[4] = { cubicWeightA(tz), cubicWeightB(tz), cubicWeightC(tz), cubicWeightD(tz) };
    float sum[2] = { 0, 0 };
    for (int half = 0; half < 2; half++) for (int k = 0; k < 4; k++) {
        float plane = 0;
        for (int j = 0; j < 4; j++) {
            const int16_t *v = rows[k][j] + 2 * half;
            plane += (float)(v[0] * x[2 * half] + v[1] * x[2 * half + 1]) * y[j];
        }
        sum[half] += plane * z[k];
    }
    return (sum[0] + sum[1]) * (1.0f / WEIGHT_UNIT);
}

/// One sample at `p` relative to the chunk's base: cubic at the faces of the volume, and everything too scattered for vectors. `p` lies in the volume.
static __attribute__((noinline)) float single(const PlaneWork *w, const Chunk *c, const float p[3], int format, int interpolation) {
    const MarchParameters *m = &w->parameters;
    const int size[3] = { m->columns, m->rows, m->slices };
    const int64_t rowStride = m->columns, sliceStride = (int64_t)m->columns * m->rows;
    if (interpolation == INTERPOLATION_NEAREST) {
        int64_t i[3];
        for (int a = 0; a < 3; a++) i[a] = clampedIndex(c->voxel[a] + (int64_t)floorf(p[a] + (0.5f + BORDER_SLACK)), size[a]);
        return stored(w, format, i[0] + i[1] * rowStride + i[2] * sliceStride);
    }
    int64_t cell[3];
    float t[3];
    for (int a = 0; a < 3; a++) {
        float q = p[a] < c->first[a] ? c->first[a] : p[a] > c->last[a] ? c->last[a] : p[a];
        int64_t i = (int64_t)floorf(q);
        if (i > c->lastCell[a]) i = c->lastCell[a];
        t[a] = q - (float)i;
        cell[a] = c->voxel[a] + i;
    }
    if (interpolation == INTERPOLATION_LINEAR) {
        float corner[2][2];
        for (int z = 0; z < 2; z++) for (int y = 0; y < 2; y++) {
            int64_t row = clampedIndex(cell[1] + y, size[1]) * rowStride + clampedIndex(cell[2] + z, size[2]) * sliceStride;
            corner[z][y] = lerp(stored(w, format, row + cell[0]), stored(w, format, row + clampedIndex(cell[0] + 1, size[0])), t[0]);
        }
        return lerp(lerp(corner[0][0], corner[0][1], t[1]), lerp(corner[1][0], corner[1][1], t[1]), t[2]);
    }
    int64_t index[3][4];
    for (int i = 0; i < 4; i++) {
        index[0][i] = clampedIndex(cell[0] + i - 1, size[0]);
        index[1][i] = clampedIndex(cell[1] + i - 1, size[1]) * rowStride;
        index[2][i] = clampedIndex(cell[2] + i - 1, size[2]) * sliceStride;
    }
    if (format == VOXELS_INT16) {
        int16_t rows[4][4][4];
        for (int z = 0; z < 4; z++) for (int y = 0; y < 4; y++) for (int x = 0; x < 4; x++)
            rows[z][y][x] = ((const int16_t *)w->voxels)[index[0][x] + index[1][y] + index[2][z]];
        return weighted(rows, t[0], t[1], t[2]);
    }
    Row16 planes[4];
    for (int z = 0; z < 4; z++) for (int y = 0; y < 4; y++) for (int x = 0; x < 4; x++)
        planes[z][4 * y + x] = stored(w, format, index[0][x] + index[1][y] + index[2][z]);
    return weighted(planes, t[0], t[1], t[2]);
}

/// Whether cuts and labels leave a sample at `p` in the volume.
static int keeps(const PlaneWork *w, const double p[3]) {
    for (int n = 0; n < w->cutCount; n++) {
        const double *c = w->cuts + 4 * n;
        if (p[0] * c[0] + p[1] * c[1] + p[2] * c[2] > c[3] + (double)BORDER_SLACK) return 0;
    }
    for (int n = 0; n < w->labelCount; n++) {
        const PlaneLabels *l = w->labels + n;
        int64_t at[3];
        int inside = 1;
        for (int a = 0; a < 3; a++) {
            const double *r = l->rows + 4 * a, q = floor(p[0] * r[0] + p[1] * r[1] + p[2] * r[2] + r[3] + (0.5 + (double)BORDER_SLACK));
            if (!(q >= 0 && q < l->size[a])) { inside = 0; break; }
            at[a] = (int64_t)q;
        }
        if (inside ? l->hidden[l->labels[(at[2] * l->size[1] + at[1]) * l->size[0] + at[0]]] : l->hidesOutside) return 0;
    }
    return 1;
}

/// Colour volumes: four channels of one pixel are one vector; no path needs more.
static void colorRow(const PlaneWork *w, int x0, int x1, int y) {
    const MarchParameters *m = &w->parameters;
    const int size[3] = { m->columns, m->rows, m->slices };
    const uint8_t *voxels = (const uint8_t *)w->voxels;
    Line line;
    lineAt(w, x0, y, &line);
    for (int x = x0; x < x1; x++) {
        Row4 best = (Row4)(m->fold == FOLD_MINIMUM ? 255.0f : 0.0f);
        int found = 0;
        for (int k = 0; k < m->samples; k++) {
            int64_t index[3][2];
            double at[3];
            float t[3];
            int inside = 1;
            for (int a = 0; a < 3; a++) {
                double p = at[a] = line.origin[a] + (double)(x - x0) * line.right[a] + (double)k * line.step[a];
                if (!(p >= -0.5 && p <= size[a] - 0.5)) { inside = 0; break; }
                double q = m->interpolation == INTERPOLATION_NEAREST ? floor(p + (0.5 + (double)BORDER_SLACK)) : p;
                q = lower(upper(q, 0), size[a] - 1);
                index[a][0] = (int64_t)q;
                index[a][1] = clampedIndex(index[a][0] + 1, size[a]);
                t[a] = (float)(q - (double)index[a][0]);
            }
            if (!inside || !keeps(w, at)) continue;
            if (w->loaded && !w->loaded[index[2][0]] && !w->loaded[index[2][1]]) continue;
            if (w->loaded && !w->loaded[index[2][0]]) t[2] = 1; else if (w->loaded && !w->loaded[index[2][1]]) t[2] = 0;
            Row4 plane[2];
            for (int z = 0; z < 2; z++) {
                Row4 row[2];
                for (int r = 0; r < 2; r++) {
                    int64_t i = (index[2][z] * size[1] + index[1][r]) * size[0];
                    const uint8_t *a = voxels + 4 * (i + index[0][0]), *b = voxels + 4 * (i + index[0][1]);
                    Row4 from = { a[0], a[1], a[2], a[3] }, to = { b[0], b[1], b[2], b[3] };
                    row[r] = from + (to - from) * t[0];
                }
                plane[z] = row[0] + (row[1] - row[0]) * t[1];
            }
            Row4 v = plane[0] + (plane[1] - plane[0]) * t[2];
            best = m->fold == FOLD_MEAN ? best + v : m->fold == FOLD_MAXIMUM ? __builtin_elementwise_max(best, v) : __builtin_elementwise_min(best, v);
            found++;
        }
        if (m->fold == FOLD_MEAN && found) best /= (float)found;
        uint8_t *out = w->colors + 4 * ((size_t)y * (size_t)m->width + (size_t)x);
        for (int i = 0; i < 4; i++) out[i] = found ? (uint8_t)(best[i] + 0.5f) : 0;
    }
}

#define LANES 4
#define NAME(x) x##Portable
#include "plane_body.h"

#if defined(__x86_64__)
#define LANES 8
#define NAME(x) x##AVX2
#pragma clang attribute push(__attribute__((target(AVX2))), apply_to = function)
#include "plane_body.h"
#pragma clang attribute pop

#define LANES 16
#define NAME(x) x##AVX512
#pragma clang attribute push(__attribute__((target(AVX512))), apply_to = function)
#include "plane_body.h"
#pragma clang attribute pop
#endif

void planeTile(const PlaneWork *work, int x0, int y0, int x1, int y1, float *scratch, Instructions instructions) {
    if (work->parameters.format == VOXELS_RGBA8) {
        for (int y = y0; y < y1; y++) colorRow(work, x0, x1, y);
        return;
    }
#if defined(__x86_64__)
    // Rows of four 16-bit voxels join faster in eight lanes on Zen 4, in sixteen on Zen 5; the bits are the same.
    const int isNarrow = work->parameters.interpolation == INTERPOLATION_CUBIC && work->parameters.format == VOXELS_INT16 && !work->aligned && splitsWideVectors();
    if (instructions == InstructionsAVX512 && !isNarrow) {
        if (work->aligned) alignedAVX512(work, x0, y0, x1, y1, scratch); else tileAVX512(work, x0, y0, x1, y1);
        return;
    }
    if (instructions != InstructionsPortable) {
        if (work->aligned) alignedAVX2(work, x0, y0, x1, y1, scratch); else tileAVX2(work, x0, y0, x1, y1);
        return;
    }
#endif
    if (work->aligned) alignedPortable(work, x0, y0, x1, y1, scratch); else tilePortable(work, x0, y0, x1, y1);
}
