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

/// `dense`: for every other pixel; else, where samples lie close together, in turns for one slice and the next.
INLINE void prefetch(const void *voxels, int bytes, int64_t base, I k, int64_t dz, int dense) {
    const char *v = (const char *)voxels + base * bytes;
    if (!dense) for (int l = 0; l < LANES; l++) __builtin_prefetch(v + ((int64_t)k[l] + (l & 1 ? dz : 0)) * bytes);
    else for (int l = 0; l < LANES; l += 2) {
        __builtin_prefetch(v + (int64_t)k[l] * bytes);
        __builtin_prefetch(v + ((int64_t)k[l] + dz) * bytes);
    }
}

/// For the wide stencil: what comes into it as the picture's rows go on, which is its last slice and its last row.
INLINE void prefetchStencil(const void *voxels, int bytes, int64_t base, I k, const Chunk *c) {
    const char *v = (const char *)voxels + base * bytes;
    const int64_t dz = c->ahead[2] < 0 ? -c->dz : 2 * c->dz, dy = c->ahead[1] < 0 ? -c->dy : 2 * c->dy;
    const int64_t next[4] = { dz, dz + dy, dy, dy + c->dz };
    for (int l = 0; l < LANES; l++) __builtin_prefetch(v + ((int64_t)k[l] + next[l & 3]) * bytes);
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
/// of four voxels. Adds in the order of `weighted`, so that border and interior agree.
INLINE F NAME(cubic)(const PlaneWork *w, const Chunk *c, P p, int format) {
    F wx[4], wy[4], wz[4];
    const I index = NAME(stencil)(c, p, wx, wy, wz);
    float fx[4][LANES], fy[4][LANES], fz[4][LANES], result[LANES];
    int32_t offset[LANES];
    __builtin_memcpy(fx, wx, sizeof fx); __builtin_memcpy(fy, wy, sizeof fy); __builtin_memcpy(fz, wz, sizeof fz);
    __builtin_memcpy(offset, &index, sizeof offset);
    const int64_t dy = c->dy, dz = c->dz, corner = c->base - 1 - dy - dz;
    for (int l = 0; l < LANES; l++) {
        const int64_t i = corner + offset[l];
        Row16 sum = (Row16)0.0f;
        for (int t = 0; t < 4; t++) {
            Row16 rows;
            if (format == VOXELS_INT16) {
                const int16_t *v = (const int16_t *)w->voxels + i + t * dz;
                Long4 r;
                __builtin_memcpy(&r, v, 8);
                { int64_t q; __builtin_memcpy(&q, v + dy, 8); r.y = q; __builtin_memcpy(&q, v + 2 * dy, 8); r.z = q; __builtin_memcpy(&q, v + 3 * dy, 8); r.w = q; }
                rows = __builtin_convertvector(__builtin_bit_cast(Short16, r), Row16);
            } else {
                const float *v = (const float *)w->voxels + i + t * dz;
                Row4 r[4];
                for (int q = 0; q < 4; q++) __builtin_memcpy(&r[q], v + q * dy, 16);
                __builtin_memcpy(&rows, r, 64);
            }
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

#if LANES == 16
/// Four vectors to sixteen quadruples, or back.
INLINE void NAME(transpose)(const F in[4], F out[4]) {
    const F a = __builtin_shufflevector(in[0], in[1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const F b = __builtin_shufflevector(in[0], in[1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    const F c = __builtin_shufflevector(in[2], in[3], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const F d = __builtin_shufflevector(in[2], in[3], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    out[0] = __builtin_shufflevector(a, c, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    out[1] = __builtin_shufflevector(a, c, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    out[2] = __builtin_shufflevector(b, d, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    out[3] = __builtin_shufflevector(b, d, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}

/// `cubic` for voxels of 16 bits, the same sums in the same order: rows join in registers by masked loads, and the last sums are made
/// for all lanes at once.
INLINE F NAME(cubicShort)(const PlaneWork *w, const Chunk *c, P p) {
    F wx[4], wy[4], wz[4];
    const I index = NAME(stencil)(c, p, wx, wy, wz);
    F quads[4];
    float fy[LANES + 3][4], fz[4][LANES], sums[LANES][4];
    int32_t offset[LANES];
    // Quadruple l of the transposed weights lies at vector l & 3, part l >> 2.
    NAME(transpose)(wy, quads);
    __builtin_memcpy(fy, quads, sizeof quads); __builtin_memcpy(fz, wz, sizeof fz); __builtin_memcpy(offset, &index, sizeof offset);
    const int64_t dy = c->dy, dz = c->dz;
    const int16_t *corner = (const int16_t *)w->voxels + c->base - 1 - dy - dz;
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    for (int l = 0; l < LANES; l++) {
        const int16_t *v = corner + offset[l];
        const int place = (l & 3) * 4 + (l >> 2);
        __m512 sum = _mm512_setzero_ps();
        for (int t = 0; t < 4; t++, v += dz) {
            __m256i rows = _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)v));
#define ROW(n) { int64_t q_; __builtin_memcpy(&q_, v + (n) * dy, 8); rows = _mm256_mask_set1_epi64(rows, 1 << (n), q_); }
            ROW(1) ROW(2) ROW(3)
#undef ROW
            const __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(rows)), _mm512_set1_ps(fz[t][l]));
            sum = t == 0 ? part : _mm512_add_ps(sum, part);
        }
        sum = _mm512_mul_ps(sum, _mm512_permutexvar_ps(spread, _mm512_loadu_ps(fy[place])));
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
        _mm_storeu_ps(sums[place], _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    }
    F columns[4];
    __builtin_memcpy(quads, sums, sizeof quads);
    // Transposing quadruples in this order gives the lanes back in theirs.
    NAME(transpose)(quads, columns);
    return (columns[0] * wx[0] + columns[1] * wx[1]) + (columns[2] * wx[2] + columns[3] * wx[3]);
}
#endif

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
                if (interpolation == INTERPOLATION_CUBIC && c.interior && !c.scattered) {
#if LANES == 16
                    v = format == VOXELS_INT16 ? NAME(cubicShort)(w, &c, p) : NAME(cubic)(w, &c, p, format);
#else
                    v = NAME(cubic)(w, &c, p, format);
#endif
                    if (w->prefetch) {
                        I x = truncated(p.x + c.ahead[0]), y = truncated(p.y + c.ahead[1]), z = truncated(p.z + c.ahead[2]);
                        prefetchStencil(w->voxels, format == VOXELS_FLOAT32 ? 4 : 2, c.base, x + y * (int)c.dy + z * (int)c.dz, &c);
                    }
                } else if (interpolation == INTERPOLATION_CUBIC || c.scattered) {
                    v = (F)0.0f;
                    in &= (p.x >= c.low[0]) & (p.y >= c.low[1]) & (p.z >= c.low[2]) & (p.x <= c.high[0]) & (p.y <= c.high[1]) & (p.z <= c.high[2]);
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
                    if (w->prefetch) {
                        I x = truncated(p.x + c.ahead[0]), y = truncated(p.y + c.ahead[1]), z = truncated(p.z + c.ahead[2]);
                        prefetch(w->voxels, format == VOXELS_FLOAT32 ? 4 : 2, c.base, x + y * (int)c.dy + z * (int)c.dz + (c.ahead[1] > 0 ? (int)c.dy : 0), c.dz, m->samples == 1);
                    }
                } else {
                    in &= (p.x >= c.low[0]) & (p.y >= c.low[1]) & (p.z >= c.low[2]) & (p.x <= c.high[0]) & (p.y <= c.high[1]) & (p.z <= c.high[2]);
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
    const int longest = m->samples > 1 || m->interpolation == INTERPOLATION_CUBIC ? PLANE_RUN / 2 : PLANE_RUN;
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
