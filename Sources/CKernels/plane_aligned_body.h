// Planes and slabs along the axes of the volume, for one instruction set; included by plane.c behind plane_body.h's vectors.
// Interpolation is separable here: voxel rows are combined along the normal, resampled along the picture's rows, kept, and
// combined down its columns. Every step is elementwise, so that all vector widths give the same bits.

typedef int16_t NAME(S) __attribute__((ext_vector_type(LANES)));
typedef int64_t NAME(L) __attribute__((ext_vector_type(LANES)));
typedef float NAME(FF) __attribute__((ext_vector_type(2 * LANES)));

INLINE F NAME(contiguous)(const void *voxels, int format, int64_t i) {
    if (format == VOXELS_INT16) {
        NAME(S) s;
        __builtin_memcpy(&s, (const int16_t *)voxels + i, sizeof s);
        return __builtin_convertvector(s, F);
    }
    F v;
    __builtin_memcpy(&v, (const float *)voxels + i, sizeof v);
    return v;
}

/// Voxels first ... first + count - 1 along the line axis, weighted along the normal. `line` has room for whole vectors. `soon`: as many
/// voxels of a line to come; slices are as many streams, more than processors foresee, and in the same cache sets, where few lines fit.
INLINE void NAME(combine)(const PlaneWork *w, int format, int64_t row, int first, int count, int k, const char *soon, float *line) {
    const PlaneAligned *a = w->aligned;
    const int from = a->depthStart[k], to = a->depthStart[k + 1];
    const int64_t base = row + (int64_t)first * a->stride[0];
    if (a->stride[0] == 1) {
        int x = 0;
        const int length = count * (format == VOXELS_INT16 ? 2 : 4);
        for (int b = 0; b < length; b += 64) __builtin_prefetch(soon + b);
        // A whole cache line of each slice at a time: slices often fall into the same cache sets.
        for (; x + 4 * LANES <= count; x += 4 * LANES) {
            F sum0 = (F)0.0f, sum1 = sum0, sum2 = sum0, sum3 = sum0;
            for (int t = from; t < to; t++) {
                const int64_t i = base + x + a->depthIndex[t] * a->stride[2];
                const float weight = a->depthWeight[t];
                sum0 += NAME(contiguous)(w->voxels, format, i) * weight;
                sum1 += NAME(contiguous)(w->voxels, format, i + LANES) * weight;
                sum2 += NAME(contiguous)(w->voxels, format, i + 2 * LANES) * weight;
                sum3 += NAME(contiguous)(w->voxels, format, i + 3 * LANES) * weight;
            }
            __builtin_memcpy(line + x, &sum0, sizeof sum0);
            __builtin_memcpy(line + x + LANES, &sum1, sizeof sum1);
            __builtin_memcpy(line + x + 2 * LANES, &sum2, sizeof sum2);
            __builtin_memcpy(line + x + 3 * LANES, &sum3, sizeof sum3);
        }
        for (; x < count; x += LANES) {
            F sum = (F)0.0f;
            for (int t = from; t < to; t++)
                sum += NAME(contiguous)(w->voxels, format, base + x + a->depthIndex[t] * a->stride[2]) * a->depthWeight[t];
            __builtin_memcpy(line + x, &sum, sizeof sum);
        }
        return;
    }
    // Lines across the rows of memory: every voxel lies in another cache line, so the line after next is fetched meanwhile.
    const int bytes = format == VOXELS_INT16 ? 2 : 4;
    const char *here = (const char *)w->voxels + (base + a->depthIndex[from] * a->stride[2]) * bytes;
    const int64_t across = a->stride[0] * bytes, ahead = a->ahead * a->stride[1] * bytes;
    const int paired = format == VOXELS_INT16 && a->stride[2] == 1 && to == from + 2 && a->depthIndex[from + 1] == a->depthIndex[from] + 1;
    for (int x = 0; x < count; x += LANES) {
        const char *p = here + (int64_t)x * across;
        const int64_t reach = count - x < LANES ? count - x - 1 : LANES - 1;
        for (int l = 0; l < LANES; l++) __builtin_prefetch(p + (l < reach ? l : reach) * across + ahead);
        F sum = (F)0.0f;
        if (paired) {
            I g;
            for (int l = 0; l < LANES; l++) { int32_t t; __builtin_memcpy(&t, p + (l < reach ? l : reach) * across, 4); g[l] = t; }
            sum += toFloat((g << 16) >> 16) * a->depthWeight[from];
            sum += toFloat(g >> 16) * a->depthWeight[from + 1];
        } else for (int t = from; t < to; t++) {
            const char *q = p + (int64_t)(a->depthIndex[t] - a->depthIndex[from]) * a->stride[2] * bytes;
            F v;
            if (format == VOXELS_INT16) {
                I g;
                for (int l = 0; l < LANES; l++) g[l] = *(const int16_t *)(q + (l < reach ? l : reach) * across);
                v = toFloat(g);
            } else for (int l = 0; l < LANES; l++) v[l] = *(const float *)(q + (l < reach ? l : reach) * across);
            sum += v * a->depthWeight[t];
        }
        __builtin_memcpy(line + x, &sum, sizeof sum);
    }
}

/// Columns x0 ..< x1 of the picture from a line of voxels that starts at `first`.
INLINE void NAME(resample)(const PlaneAligned *a, const float *line, int first, int x0, int x1, int width, float *out) {
    const int taps = a->taps;
    const float *weights = a->columnWeight;
    for (int x = x0; x < x1; x += LANES) {
        F sum = (F)0.0f;
        if (a->isUnit) {
            const float *p = line + (a->columnIndex[x] - first);
            for (int t = 0; t < taps; t++) {
                F v, weight;
                __builtin_memcpy(&v, p + t, sizeof v);
                __builtin_memcpy(&weight, weights + (size_t)t * (size_t)width + x, sizeof weight);
                sum += v * weight;
            }
        } else {
#if LANES == 16
            // Neighbours of sixteen pixels lie in two vectors, unless the picture is much coarser than the voxels, or mirrored.
            I k;
            __builtin_memcpy(&k, a->columnIndex + x, sizeof k);
            k -= k[0];
            if (__builtin_reduce_min(k) >= 0 && __builtin_reduce_max(k) < 2 * LANES) {
                const float *p = line + (a->columnIndex[x] - first);
                for (int t = 0; t < taps; t++) {
                    F weight;
                    __builtin_memcpy(&weight, weights + (size_t)t * (size_t)width + x, sizeof weight);
                    sum += (F)_mm512_permutex2var_ps(_mm512_loadu_ps(p + t), (__m512i)k, _mm512_loadu_ps(p + t + LANES)) * weight;
                }
            } else
#endif
            for (int t = 0; t < taps; t += 2) {
                // Two neighbours with one 64-bit load.
                NAME(L) pairs;
                for (int l = 0; l < LANES; l++) __builtin_memcpy((char *)&pairs + 8 * l, line + (a->columnIndex[x + l] - first) + t, 8);
                NAME(FF) both = __builtin_bit_cast(NAME(FF), pairs);
                F weight;
                __builtin_memcpy(&weight, weights + (size_t)t * (size_t)width + x, sizeof weight);
                sum += both.even * weight;
                if (t + 1 < taps) {
                    __builtin_memcpy(&weight, weights + (size_t)(t + 1) * (size_t)width + x, sizeof weight);
                    sum += both.odd * weight;
                }
            }
        }
        __builtin_memcpy(out + (x - x0), &sum, sizeof sum);
    }
}

INLINE void NAME(alignedTile)(const PlaneWork *w, int x0, int y0, int x1, int y1, float *scratch, int format, int fold) {
    const MarchParameters *m = &w->parameters;
    const PlaneAligned *a = w->aligned;
    const int padded = a->paddedWidth, taps = a->taps;
    // Columns and rows of the tile that lie in the volume.
    const int c0 = x0 > a->columnFirst ? x0 : a->columnFirst, c1 = x1 < a->columnEnd ? x1 : a->columnEnd;
    const int columns = c1 - c0, pitch = (columns + 15) & ~15;
    for (int y = y0; y < y1; y++) {
        float *out = w->values + (size_t)y * (size_t)m->width;
        const int outside = columns <= 0 || y < a->rowFirst || y >= a->rowEnd;
        for (int x = x0; x < (outside ? x1 : c0); x++) out[x] = m->background;
        if (!outside) for (int x = c1; x < x1; x++) out[x] = m->background;
    }
    const int r0 = y0 > a->rowFirst ? y0 : a->rowFirst, r1 = y1 < a->rowEnd ? y1 : a->rowEnd;
    if (columns <= 0 || r0 >= r1) return;
    // The voxels under these columns; a line may reach past the edges of the volume, where they are repeated.
    int low = a->columnIndex[c0], high = a->columnIndex[c1 - 1];
    if (low > high) { int t = low; low = high; high = t; }
    high += taps - 1;
    const int first = low < 0 ? 0 : low, last = high > a->size[0] - 1 ? a->size[0] - 1 : high;
    float *line = scratch + 32;                                          // voxels of one line
    float *lines = line + a->longestLine + 64;                           // resampled: slot, sample, column
    for (int k0 = 0; k0 < a->lines; k0 += PLANE_LINES) {
        const int count = a->lines - k0 < PLANE_LINES ? a->lines - k0 : PLANE_LINES;
        int slots[4] = { -1, -1, -1, -1 };                               // voxel row in each slot
        for (int y = r0; y < r1; y++) {
            const float *source[4];
            int used[4] = { 0, 0, 0, 0 };
            for (int t = 0; t < taps; t++)
                for (int q = 0; q < taps; q++) used[q] |= slots[q] == a->rowIndex[(size_t)t * (size_t)m->height + (size_t)y];
            for (int t = 0; t < taps; t++) {
                const int row = a->rowIndex[(size_t)t * (size_t)m->height + (size_t)y];
                int s = 0, here = 0;
                for (int q = 0; q < taps; q++) if (slots[q] == row) { s = q; here = 1; }
                if (!here) {
                    // A slot that no tap of this row uses.
                    for (s = 0; used[s]; s++) {}
                    used[s] = 1; slots[s] = row;
                    float *target = lines + (size_t)s * PLANE_LINES * (size_t)pitch;
                    for (int k = 0; k < count; k++) {
                        float *voxels = line + (first - low);
                        int next = k + 3, nextRow = row;
                        for (; next >= count; next -= count) nextRow += a->ahead / 2;
                        const int64_t soon = nextRow * a->stride[1] + first * a->stride[0] + a->depthIndex[a->depthStart[k0 + next]] * a->stride[2];
                        NAME(combine)(w, format, (int64_t)row * a->stride[1], first, last - first + 1, k0 + k, (const char *)w->voxels + soon * (format == VOXELS_INT16 ? 2 : 4), voxels);
                        for (int x = low; x < first; x++) line[x - low] = voxels[0];
                        for (int x = last + 1; x <= high; x++) line[x - low] = voxels[last - first];
                        NAME(resample)(a, line, low, c0, c1, padded, target + (size_t)k * (size_t)pitch);
                    }
                }
                source[t] = lines + (size_t)s * PLANE_LINES * (size_t)pitch;
            }
            float *out = w->values + (size_t)y * (size_t)m->width + (size_t)c0;
            for (int x = 0; x < columns; x += LANES) {
                F best = (F)(fold == FOLD_MAXIMUM ? -INFINITY : INFINITY);
                if (k0 > 0) for (int l = 0; l < LANES && x + l < columns; l++) best[l] = out[x + l];
                for (int k = 0; k < count; k++) {
                    F sum = (F)0.0f;
                    for (int t = 0; t < taps; t++) {
                        F v;
                        __builtin_memcpy(&v, source[t] + (size_t)k * (size_t)pitch + x, sizeof v);
                        sum += v * a->rowWeight[(size_t)t * (size_t)m->height + (size_t)y];
                    }
                    best = fold == FOLD_MEAN ? sum : fold == FOLD_MAXIMUM ? larger(best, sum) : smaller(best, sum);
                }
                if (k0 + count == a->lines) best = best * m->slope + m->intercept;
                if (x + LANES <= columns) __builtin_memcpy(out + x, &best, sizeof best);
                else for (int l = 0; x + l < columns; l++) out[x + l] = best[l];
            }
        }
    }
}

static void NAME(aligned)(const PlaneWork *w, int x0, int y0, int x1, int y1, float *scratch) {
#define FOLDS(format) \
    switch (w->parameters.fold) { \
    case FOLD_MAXIMUM: NAME(alignedTile)(w, x0, y0, x1, y1, scratch, format, FOLD_MAXIMUM); break; \
    case FOLD_MINIMUM: NAME(alignedTile)(w, x0, y0, x1, y1, scratch, format, FOLD_MINIMUM); break; \
    default: NAME(alignedTile)(w, x0, y0, x1, y1, scratch, format, FOLD_MEAN); }
    if (w->parameters.format == VOXELS_INT16) FOLDS(VOXELS_INT16) else FOLDS(VOXELS_FLOAT32)
#undef FOLDS
}
