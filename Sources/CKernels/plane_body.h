// The loops of plane.c for one instruction set; LANES and NAME(x) come from the including file.
#include "vector.h"

// Two neighbours in x at once: one unaligned 32-bit load a lane. Loads and inserts beat the gather instructions of AVX2, not those
// of AVX-512 (measured on Zen 3 and 4).
#if LANES == 16
INLINE I pairs(const int16_t *p, I k) { return (I)_mm512_i32gather_epi32((__m512i)k, p, 2); }
INLINE F gather(const float *p, I k) { return (F)_mm512_i32gather_ps((__m512i)k, p, 4); }
#else
INLINE I pairs(const int16_t *p, I k) {
    I r;
    for (int l = 0; l < LANES; l++) { int32_t t; __builtin_memcpy(&t, p + k[l], 4); r[l] = t; }
    return r;
}
INLINE F gather(const float *p, I k) { F r; for (int l = 0; l < LANES; l++) r[l] = p[k[l]]; return r; }
#endif
INLINE F edge(const int16_t *p, I k, F t) {
    I g = pairs(p, k);
    return lerp(toFloat((g << 16) >> 16), toFloat(g >> 16), t);
}
INLINE F edge(const float *p, I k, F t) { return lerp(gather(p, k), gather(p + 1, k), t); }

INLINE F trilinear(const void *voxels, int format, int64_t base, I k, F tx, F ty, F tz, int64_t dy, int64_t dz) {
#define CORNERS(T) { const T *v = (const T *)voxels + base; \
    return lerp(lerp(edge(v, k, tx), edge(v + dy, k, tx), ty), lerp(edge(v + dz, k, tx), edge(v + dz + dy, k, tx), ty), tz); }
    if (format == VOXELS_INT16) CORNERS(int16_t) else CORNERS(float)
#undef CORNERS
}

INLINE F nearest(const void *voxels, int format, int64_t base, I k) {
    switch (format) {
    case VOXELS_INT16: return toFloat((pairs((const int16_t *)voxels + base, k) << 16) >> 16);
    case VOXELS_LABEL16: return toFloat(pairs((const int16_t *)voxels + base, k) & 0xffff);
    default: return gather((const float *)voxels + base, k);
    }
}

/// What linear interpolation will read two rows of the picture on: for every other pixel, or, where samples lie close together, in turns for one slice and the next.
INLINE void NAME(prefetchCells)(const PlaneWork *w, const Chunk *c, P p, int format) {
    if (!w->prefetch) return;
    const int bytes = format == VOXELS_FLOAT32 ? 4 : 2;
    const char *v = (const char *)w->voxels + (c->base + (c->ahead[1] > 0 ? c->dy : 0)) * bytes;
    const I x = truncated(p.x + c->ahead[0]), y = truncated(p.y + c->ahead[1]), z = truncated(p.z + c->ahead[2]);
    const I k = x + y * (int)c->dy + z * (int)c->dz;
    if (w->parameters.samples > 1) for (int l = 0; l < LANES; l++) __builtin_prefetch(v + ((int64_t)k[l] + (l & 1 ? c->dz : 0)) * bytes);
    else for (int l = 0; l < LANES; l += 2) {
        __builtin_prefetch(v + (int64_t)k[l] * bytes);
        __builtin_prefetch(v + ((int64_t)k[l] + c->dz) * bytes);
    }
}

/// For the wide stencil of pixel `n`, whose first voxel is `corner`: what comes into it two rows of the picture on, of which it takes one of
/// the next slice's four rows and the next row of one of its four slices. Pixels beside it take the others.
INLINE void NAME(prefetchStencil)(const void *corner, const Chunk *c, int n, int bytes) {
    for (int i = 0; i < 2; i++) __builtin_prefetch((const char *)corner + c->next[n & 3][i] * bytes);
}

/// Where the wide stencil of LANES points lies, and its weights.
INLINE I NAME(stencil)(const Chunk *c, P p, F wx[4], F wy[4], F wz[4]) {
    const I at[3] = { truncated(p.x), truncated(p.y), truncated(p.z) };
    const F t[3] = { p.x - toFloat(at[0]), p.y - toFloat(at[1]), p.z - toFloat(at[2]) };
    F *const weights[3] = { wx, wy, wz };
    for (int a = 0; a < 3; a++) {
        weights[a][0] = cubicWeightA(t[a]); weights[a][1] = cubicWeightB(t[a]);
        weights[a][2] = cubicWeightC(t[a]); weights[a][3] = cubicWeightD(t[a]);
    }
    return at[0] + at[1] * (int)c->dy + at[2] * (int)c->dz;
}

/// Catmull-Rom at LANES points whose 4 x 4 x 4 neighbours all exist: weights for all lanes at once, then lane by lane sixteen rows
/// of four voxels. Adds in the order of `weighted`, so that faces and interior agree.
INLINE F NAME(cubic)(const float *voxels, const Chunk *c, P p, int prefetches) {
    F wx[4], wy[4], wz[4];
    const I index = NAME(stencil)(c, p, wx, wy, wz);
    float fx[4][LANES], fy[4][LANES], fz[4][LANES], result[LANES];
    int32_t offset[LANES];
    __builtin_memcpy(fx, wx, sizeof fx); __builtin_memcpy(fy, wy, sizeof fy); __builtin_memcpy(fz, wz, sizeof fz);
    __builtin_memcpy(offset, &index, sizeof offset);
    const int64_t dy = c->dy, dz = c->dz;
    for (int l = 0; l < LANES; l++) {
        const float *v = voxels + (c->base - 1 - dy - dz + offset[l]);
        if (prefetches) NAME(prefetchStencil)(v, c, l, 4);
        Row16 sum = (Row16)0.0f;
        for (int t = 0; t < 4; t++, v += dz) {
            Row4 r[4];
            for (int q = 0; q < 4; q++) __builtin_memcpy(&r[q], v + q * dy, 16);
            Row16 rows;
            __builtin_memcpy(&rows, r, 64);
            sum = t == 0 ? rows * fz[0][l] : sum + rows * fz[t][l];
        }
        const Row4 a = sum.lo.lo * fy[0][l], b = sum.lo.hi * fy[1][l], e = sum.hi.lo * fy[2][l], d = sum.hi.hi * fy[3][l];
        const Row4 quarter = ((a + e) + (b + d)) * (Row4){ fx[0][l], fx[1][l], fx[2][l], fx[3][l] };
        result[l] = (quarter.x + quarter.y) + (quarter.z + quarter.w);
    }
    F r;
    __builtin_memcpy(&r, result, sizeof r);
    return r;
}

// Vectors of pairs: of every four lanes the first two, or the others; and back, first or second of each pair.
#if LANES == 16
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define FIRST(a, b) __builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30)
#define SECOND(a, b) __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31)
#elif LANES == 8
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define FIRST(a, b) __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14)
#define SECOND(a, b) __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15)
#else
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define FIRST(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define SECOND(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif

typedef int64_t NAME(Q) __attribute__((ext_vector_type(LANES / 2)));

/// Products of 16-bit numbers, neighbours added.
INLINE I NAME(pairSums)(I a, I b) {
#if LANES == 16
    return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif LANES == 8
    return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

/// Four voxels each from LANES / 2 places.
#if LANES == 16
// A load that replaces one lane of a register is one instruction, and none of the shuffles' ports; compilers only know how to make it of
// two. They must not know the masks either, or they make inserts of it. With fewer instructions more loads that miss the caches are
// under way at once.
typedef struct { __mmask8 second, third, fourth; } NAME(Lanes);
INLINE NAME(Lanes) NAME(lanes)(void) {
    NAME(Lanes) l = { 2, 4, 8 };
    __asm__("" : "+k"(l.second), "+k"(l.third), "+k"(l.fourth));
    return l;
}
INLINE NAME(Q) NAME(fours)(const int16_t *row, const int64_t at[8], const NAME(Lanes) *lanes) {
    __m256i v[2];
#define LANE(n, mask) __asm__("vpbroadcastq %1, %0 %{%2%}" : "+v"(v[i]) : "m"(*(const int64_t *)(row + at[4 * i + n])), "Yk"(mask))
    for (int i = 0; i < 2; i++) {
        v[i] = _mm256_zextsi128_si256(_mm_loadl_epi64((const __m128i *)(row + at[4 * i])));
        LANE(1, lanes->second);
        LANE(2, lanes->third);
        LANE(3, lanes->fourth);
    }
#undef LANE
    return (NAME(Q))_mm512_inserti64x4(_mm512_castsi256_si512(v[0]), v[1], 1);
}
#else
typedef struct { int none; } NAME(Lanes);
INLINE NAME(Lanes) NAME(lanes)(void) { return (NAME(Lanes)){ 0 }; }
INLINE NAME(Q) NAME(fours)(const int16_t *row, const int64_t *at, const NAME(Lanes) *lanes) {
    (void)lanes;
    NAME(Q) q;
    for (int i = 0; i < LANES / 2; i++) { int64_t r; __builtin_memcpy(&r, row + at[i], 8); q[i] = r; }
    return q;
}
#endif

/// `cubic` for voxels of 16 bits. A row of four is one load; those of half the lanes make a vector, whose products with the weights
/// along x become two sums a lane, added when all rows are.
INLINE F NAME(cubic)(const int16_t *voxels, const Chunk *c, P p, int prefetches) {
    F wx[4], wy[4], wz[4];
    const I index = NAME(stencil)(c, p, wx, wy, wz);
    int32_t offset[LANES];
    __builtin_memcpy(offset, &index, sizeof offset);
    const I a = truncated(wx[0] * (float)WEIGHT_UNIT - 0.5f), e = truncated(wx[2] * (float)WEIGHT_UNIT + 0.5f), d = truncated(wx[3] * (float)WEIGHT_UNIT - 0.5f);
    const I low = (a & 0xffff) | ((WEIGHT_UNIT - a - e - d) << 16), high = (e & 0xffff) | (d << 16);
    const int64_t dy = c->dy, dz = c->dz;
    const int16_t *corner = voxels + (c->base - 1 - dy - dz);
    const NAME(Lanes) lanes = NAME(lanes)();
    F sums[2];
#pragma clang loop unroll(full)
    for (int half = 0; half < 2; half++) {
        const I x = half ? HIGH(low, high) : LOW(low, high);
        int64_t at[LANES / 2];
        for (int i = 0; i < LANES / 2; i++) at[i] = offset[4 * (i / 2) + 2 * half + (i & 1)];
        if (prefetches) for (int i = 0; i < LANES / 2; i++) NAME(prefetchStencil)(corner + at[i], c, half * (LANES / 2) + i, 2);
        F sum;
#pragma clang loop unroll(full)
        for (int t = 0; t < 4; t++) {
            F plane;
#pragma clang loop unroll(full)
            for (int j = 0; j < 4; j++) {
                const int16_t *row = corner + t * dz + j * dy;
                const NAME(Q) q = NAME(fours)(row, at, &lanes);
                const F part = toFloat(NAME(pairSums)(__builtin_bit_cast(I, q), x)) * (half ? HIGH(wy[j], wy[j]) : LOW(wy[j], wy[j]));
                plane = j == 0 ? part : plane + part;
            }
            plane = plane * (half ? HIGH(wz[t], wz[t]) : LOW(wz[t], wz[t]));
            sum = t == 0 ? plane : sum + plane;
        }
        sums[half] = sum;
    }
    return (FIRST(sums[0], sums[1]) + SECOND(sums[0], sums[1])) * (1.0f / WEIGHT_UNIT);
}
#undef LOW
#undef HIGH
#undef FIRST
#undef SECOND

/// Which points lie in the volume.
INLINE I NAME(inside)(const Chunk *c, P p) {
    return (p.x >= c->low[0]) & (p.y >= c->low[1]) & (p.z >= c->low[2]) & (p.x <= c->high[0]) & (p.y <= c->high[1]) & (p.z <= c->high[2]);
}

/// One run of at most PLANE_RUN pixels of one row. `format`, `interpolation` and `fold` are constants after inlining.
INLINE void NAME(run)(const PlaneWork *w, const Line *line, int count, float *out, int format, int interpolation, int fold) {
    const MarchParameters *m = &w->parameters;
    const int padded = (count + 15) & ~15;
    const int crops = w->cutCount + w->labelCount > 0;
    F best[PLANE_RUN / LANES], counts[PLANE_RUN / LANES];
    for (int g = 0; g < PLANE_RUN / LANES; g++) {
        best[g] = (F)(fold == FOLD_MEAN ? 0 : fold == FOLD_MAXIMUM ? -INFINITY : INFINITY);
        counts[g] = (F)0.0f;
    }
    F ramp;
    for (int l = 0; l < LANES; l++) ramp[l] = (float)l;
    for (int first = 0; first < m->samples; first += SAMPLES_PER_CHUNK) {
        const int samples = m->samples - first < SAMPLES_PER_CHUNK ? m->samples - first : SAMPLES_PER_CHUNK;
        Chunk c;
        if (!place(w, line, padded, first, samples, interpolation, &c)) continue;
        for (int g = 0; g < padded / LANES; g++) {
            F u = ramp + (float)(g * LANES);
            P start = { u * c.right[0] + c.origin[0], u * c.right[1] + c.origin[1], u * c.right[2] + c.origin[2] };
            F value = best[g], n = counts[g];
            for (int k = 0; k < samples; k++) {
                P p = { start.x + (float)k * c.step[0], start.y + (float)k * c.step[1], start.z + (float)k * c.step[2] };
                F v;
                I in = (I)-1;
                if (crops) {
                    for (int l = 0; l < LANES; l++) {
                        const double q[3] = { (double)c.voxel[0] + p.x[l], (double)c.voxel[1] + p.y[l], (double)c.voxel[2] + p.z[l] };
                        in[l] = -keeps(w, q);
                    }
                    if (!any(in)) continue;
                }
                if (interpolation == INTERPOLATION_CUBIC && c.roomy && !c.scattered) {
                    P q = p;
                    I alone = (I)0;
                    if (!c.interior) {
                        in &= NAME(inside)(&c, p);
                        if (!any(in)) continue;
                        // Points at a face, not all of whose neighbours exist, are drawn one by one.
                        q = (P){ clamped(p.x, c.first[0] + 1, c.last[0] - 1.001f), clamped(p.y, c.first[1] + 1, c.last[1] - 1.001f), clamped(p.z, c.first[2] + 1, c.last[2] - 1.001f) };
                        alone = in & ((q.x != p.x) | (q.y != p.y) | (q.z != p.z));
                    }
                    v = format == VOXELS_INT16 ? NAME(cubic)((const int16_t *)w->voxels, &c, q, w->prefetch) : NAME(cubic)((const float *)w->voxels, &c, q, w->prefetch);
                    if (any(alone)) for (int l = 0; l < LANES; l++) {
                        if (!alone[l]) continue;
                        const float at[3] = { p.x[l], p.y[l], p.z[l] };
                        v[l] = single(w, &c, at, format, interpolation);
                    }
                } else if (interpolation == INTERPOLATION_CUBIC || c.scattered) {
                    v = (F)0.0f;
                    in &= NAME(inside)(&c, p);
                    for (int l = 0; l < LANES; l++) {
                        if (!in[l]) continue;
                        float q[3] = { p.x[l], p.y[l], p.z[l] };
                        v[l] = single(w, &c, q, format, interpolation);
                    }
                } else if (c.interior) {
                    if (interpolation == INTERPOLATION_NEAREST) {
                        I x = truncated(p.x + (0.5f + BORDER_SLACK)), y = truncated(p.y + (0.5f + BORDER_SLACK)), z = truncated(p.z + (0.5f + BORDER_SLACK));
                        v = nearest(w->voxels, format, c.base, x + y * (int)c.dy + z * (int)c.dz);
                    } else {
                        I x = truncated(p.x), y = truncated(p.y), z = truncated(p.z);
                        v = trilinear(w->voxels, format, c.base, x + y * (int)c.dy + z * (int)c.dz,
                                      p.x - toFloat(x), p.y - toFloat(y), p.z - toFloat(z), c.dy, c.dz);
                    }
                    NAME(prefetchCells)(w, &c, p, format);
                } else {
                    in &= NAME(inside)(&c, p);
                    if (!any(in)) continue;
                    F px = clamped(p.x, c.first[0], c.last[0]), py = clamped(p.y, c.first[1], c.last[1]), pz = clamped(p.z, c.first[2], c.last[2]);
                    if (interpolation == INTERPOLATION_NEAREST) {
                        I x = truncated(px + (0.5f + BORDER_SLACK)), y = truncated(py + (0.5f + BORDER_SLACK)), z = truncated(pz + (0.5f + BORDER_SLACK));
                        x = smaller(x, (I)(int)c.last[0]); y = smaller(y, (I)(int)c.last[1]); z = smaller(z, (I)(int)c.last[2]);
                        if (w->loaded) for (int l = 0; l < LANES; l++) if (!w->loaded[c.slice + z[l]]) in[l] = 0;
                        v = nearest(w->voxels, format, c.base, x + y * (int)c.dy + z * (int)c.dz);
                    } else {
                        I x = smaller(truncated(px), (I)c.lastCell[0]), y = smaller(truncated(py), (I)c.lastCell[1]), z = smaller(truncated(pz), (I)c.lastCell[2]);
                        F tz = pz - toFloat(z);
                        if (w->loaded) for (int l = 0; l < LANES; l++) {
                            // A slice that has not arrived is replaced by its neighbour; between two of them there is nothing.
                            const uint8_t *here = w->loaded + c.slice + z[l];
                            int a = here[0], b = m->slices > 1 ? here[1] : a;
                            if (!(a | b)) in[l] = 0;
                            if (!a) tz[l] = 1; else if (!b) tz[l] = 0;
                        }
                        v = trilinear(w->voxels, format, c.base, x + y * (int)c.dy + z * (int)c.dz, px - toFloat(x), py - toFloat(y), tz, c.dy, c.dz);
                    }
                    NAME(prefetchCells)(w, &c, p, format);
                }
                if (format == VOXELS_LABEL16 && w->ranks) for (int l = 0; l < LANES; l++) if (in[l]) v[l] = (float)w->ranks[(int)v[l]];
                if (fold == FOLD_MEAN) value += select(in, v, (F)0.0f);
                else if (fold == FOLD_MAXIMUM) value = select(in, larger(value, v), value);
                else value = select(in, smaller(value, v), value);
                n += select(in, (F)1.0f, (F)0.0f);
            }
            best[g] = value; counts[g] = n;
        }
    }
    float line_[PLANE_RUN];
    for (int g = 0; g < padded / LANES; g++) {
        F value = best[g];
        if (fold == FOLD_MEAN) value = value / larger(counts[g], (F)1.0f);
        F r = select(counts[g] > 0.0f, value * m->slope + m->intercept, (F)m->background);
        __builtin_memcpy(line_ + g * LANES, &r, sizeof r);
    }
    __builtin_memcpy(out, line_, (size_t)count * sizeof(float));
}

static void NAME(tile)(const PlaneWork *w, int x0, int y0, int x1, int y1) {
    const MarchParameters *m = &w->parameters;
    const int longest = m->samples > 1 ? PLANE_RUN / 2 : PLANE_RUN;
    for (int y = y0; y < y1; y++) {
        for (int x = x0; x < x1; x += longest) {
            Line line;
            lineAt(w, x, y, &line);
            int count = x1 - x < longest ? x1 - x : longest;
            float *out = w->values + (size_t)y * (size_t)m->width + (size_t)x;
#define FOLDS(format, interpolation) \
            switch (m->fold) { \
            case FOLD_MAXIMUM: NAME(run)(w, &line, count, out, format, interpolation, FOLD_MAXIMUM); break; \
            case FOLD_MINIMUM: NAME(run)(w, &line, count, out, format, interpolation, FOLD_MINIMUM); break; \
            default: NAME(run)(w, &line, count, out, format, interpolation, FOLD_MEAN); }
#define INTERPOLATIONS(format) \
            switch (m->interpolation) { \
            case INTERPOLATION_NEAREST: FOLDS(format, INTERPOLATION_NEAREST) break; \
            case INTERPOLATION_LINEAR: FOLDS(format, INTERPOLATION_LINEAR) break; \
            default: FOLDS(format, INTERPOLATION_CUBIC) }
            switch (m->format) {
            case VOXELS_INT16: INTERPOLATIONS(VOXELS_INT16) break;
            case VOXELS_FLOAT32: INTERPOLATIONS(VOXELS_FLOAT32) break;
            default: NAME(run)(w, &line, count, out, VOXELS_LABEL16, INTERPOLATION_NEAREST, FOLD_MAXIMUM);
            }
#undef INTERPOLATIONS
#undef FOLDS
        }
    }
}
#include "plane_aligned_body.h"
#include "vector_end.h"
