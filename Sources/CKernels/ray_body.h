// The loops of rays.c for one instruction set; LANES and NAME(x) come from the including file.
#define PACKETS (RAY_TILE_WIDTH * RAY_TILE / LANES) // at most
#define PACKET_ROWS (LANES / 4)     // packets are 4 pixels wide
#define F NAME(RayFloats)
#define I NAME(RayInts)
#define Quad NAME(RayQuad)
#define Packet NAME(RayPacket)
#define Rays NAME(TileRays)
#define FN(x) NAME(x)

typedef float F __attribute__((ext_vector_type(LANES)));
typedef int32_t I __attribute__((ext_vector_type(LANES)));
typedef int32_t Quad __attribute__((ext_vector_type(4)));

INLINE F FN(sel)(I m, F a, F b) { return m ? a : b; }
INLINE F FN(minf)(F a, F b) { return FN(sel)(a < b, a, b); }
INLINE F FN(maxf)(F a, F b) { return FN(sel)(a > b, a, b); }
INLINE F FN(absf)(F a) { return __builtin_elementwise_abs(a); }
INLINE F FN(toF)(I i) { return __builtin_convertvector(i, F); }
INLINE I FN(toI)(F f) { return __builtin_convertvector(f, I); }
INLINE I FN(mini)(I a, I b) { return __builtin_elementwise_min(a, b); }
INLINE I FN(maxi)(I a, I b) { return __builtin_elementwise_max(a, b); }
INLINE int FN(any)(I m) { return __builtin_reduce_or(m) != 0; }
INLINE F FN(lerp)(F a, F b, F t) { return a + t * (b - a); }
INLINE F FN(clampf)(F a, float low, float high) { return FN(minf)(FN(maxf)(a, (F)low), (F)high); }

/// 1 / x and 1 / √x for x > 0; relative error below 2e-7.
#if LANES == 16
INLINE F FN(inverse)(F x) { F r = (F)_mm512_rcp14_ps((__m512)x); return r * (2.0f - x * r); }
INLINE F FN(inverseRoot)(F x) { F r = (F)_mm512_rsqrt14_ps((__m512)x); return r * (1.5f - 0.5f * x * r * r); }
#else
INLINE F FN(inverse)(F x) { return 1.0f / x; }
INLINE F FN(inverseRoot)(F x) { return 1.0f / __builtin_elementwise_sqrt(x); }
#endif

/// 2 to the power of x for -126 <= x <= 0; relative error below 3e-6 (minimax, degree 5).
INLINE F FN(exp2)(F x) {
    x = FN(maxf)(x, (F)-126.0f);
    I whole = FN(toI)(x - 0.5f);                    // towards zero: nearest for x <= 0
    F r = x - FN(toF)(whole);                       // -0.5 ... 0.5
    F p = ((((0.0013333558f * r + 0.0096181291f) * r + 0.0555041087f) * r + 0.2402265070f) * r + 0.6931471806f) * r + 1.0f;
    return __builtin_bit_cast(F, __builtin_bit_cast(I, p) + (whole << 23));
}
/// Binary logarithm of 1e-30 < x <= 1; absolute error below 2e-4 (enough for a highlight).
INLINE F FN(log2)(F x) {
    I bits = __builtin_bit_cast(I, x);
    I e = ((bits - 0x3f3504f3) >> 23);              // mantissa in sqrt(1/2) ... sqrt(2)
    F m = __builtin_bit_cast(F, bits - (e << 23)) - 1.0f;
    F p = m * (1.44269504f + m * (-0.72134752f + m * (0.4808983f + m * (-0.3606738f + m * (0.2885390f + m * (-0.2404492f + m * 0.15f))))));
    return p + FN(toF)(e);
}

typedef struct { F low, high; } Rays;               // neighbours along x

/// Two voxels that are neighbours in x: one unaligned load a lane, which beats a gather on the processors we measured.
INLINE Rays FN(pair)(const char *base, int format, I k) {
    if (format == VOXELS_INT16) {
        I r;
        for (int l = 0; l < LANES; l++) { int32_t t; memcpy(&t, base + 2 * (int64_t)k[l], 4); r[l] = t; }
        return (Rays){ FN(toF)((r << 16) >> 16), FN(toF)(r >> 16) };
    }
    F a, b;
    for (int l = 0; l < LANES; l++) { float t[2]; memcpy(t, base + 4 * (int64_t)k[l], 8); a[l] = t[0]; b[l] = t[1]; }
    return (Rays){ a, b };
}
INLINE F FN(one)(const char *base, int format, I k) {
    if (format == VOXELS_INT16) {
        I r;
        for (int l = 0; l < LANES; l++) { int16_t t; memcpy(&t, base + 2 * (int64_t)k[l], 2); r[l] = t; }
        return FN(toF)(r);
    }
    F a;
    for (int l = 0; l < LANES; l++) memcpy((char *)&a + 4 * l, base + 4 * (int64_t)k[l], 4);
    return a;
}
INLINE F FN(edge)(const char *base, int format, I k, F t) {
    Rays p = FN(pair)(base, format, k);
    return FN(lerp)(p.low, p.high, t);
}

/// Quadruples, those of lanes n, n + 4, n + 8 ... one after the other in vector n, to a vector of each member; and back.
INLINE void FN(transpose)(const I in[4], I out[4]) {
#if LANES == 16
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#else
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#endif
    const I a = LOW(in[0], in[1]), b = HIGH(in[0], in[1]), c = LOW(in[2], in[3]), d = HIGH(in[2], in[3]);
    out[0] = LOW2(a, c); out[1] = HIGH2(a, c); out[2] = LOW2(b, d); out[3] = HIGH2(b, d);
#undef LOW
#undef HIGH
#undef LOW2
#undef HIGH2
}

/// 16 bytes a lane from a table, turned into four vectors.
INLINE void FN(entries)(const RayClass *table, I k, I out[4]) {
    int32_t at[LANES];
    memcpy(at, &k, sizeof at);
#if LANES == 16
#define ENTRY(n) _mm_loadu_si128((const __m128i *)(table + at[n]))
#define FOUR(n) (I)_mm512_inserti32x4(_mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(ENTRY(n)), ENTRY((n) + 4), 1), ENTRY((n) + 8), 2), ENTRY((n) + 12), 3)
#else
    Quad q[LANES];
#pragma clang loop unroll(full)
    for (int l = 0; l < LANES; l++) memcpy(&q[l], table + at[l], 16);
#define FOUR(n) __builtin_shufflevector(q[n], q[(n) + 4], 0, 1, 2, 3, 4, 5, 6, 7)
#endif
    const I z[4] = { FOUR(0), FOUR(1), FOUR(2), FOUR(3) };
#undef FOUR
#undef ENTRY
    FN(transpose)(z, out);
}

/// Rays of a packet along the frame's axis k: u = u0 + k du, v likewise.
typedef struct {
    F u0, du, v0, dv;
    F enter, leave;                 // in k, ascending; enter > leave: the ray misses
    F length;                       // mm per voxel plane
    F t0, dt;                       // t of plane k, for depth
    F viewX, viewY, viewZ;          // unit direction in patient space
    F red, green, blue, rest;       // rest: transparency so far
    F best, count;                  // maximum and minimum (negated): the largest yet; mean: sum and number
    F front; I frontClass;          // at position frontAt (k × substeps), or nowhere when negative
    F lit, gloss, steep;            // light at plane litAt; steep: gradient opacity
    int frontAt, litAt;
} Packet;

/// Where a block's voxels are addressed from: 32-bit offsets from here suffice.
typedef struct {
    int u, v;
    int far;                        // they do not: one lane at a time
    int acrossU, acrossV;           // voxels that the tile's rays span, neighbours included
} FN(Corner);

/// Rays of four corners of the tile along the frame: they bound all others.
typedef struct { float u0[4], du[4], v0[4], dv[4]; int unbounded; } FN(Corners);

/// The same of every packet, LANES / 4 packets to a vector; and where they cross a block: a quadruple a packet, of u and v on its first
/// plane and on its last, in the order u, u, v, v. Cells count along u and v, both ends included.
typedef struct { F u0, du, v0, dv; } FN(Edges);
typedef struct { float least[PACKETS * 4], most[PACKETS * 4]; int32_t first[PACKETS * 4], last[PACKETS * 4]; } FN(Crossing);

#if LANES == 16
/// The voxels around a block of one tile: rows along u, then v, then k, whatever the axis of view. Copied once, they serve all
/// packets from the nearest cache: in the volume itself rows lie a slice apart, often in one and the same set of the caches.
enum { BRICK_ROW = 32, BRICK_ROWS = 24, BRICK_PLANES = RAY_CELL + 3 };
typedef struct {
    int u, v, k;                    // of the first voxel
    int layer;                      // of cells that it holds, or -1
    int16_t voxels[BRICK_PLANES * BRICK_ROWS * BRICK_ROW + 16 * BRICK_ROW] __attribute__((aligned(64)));
} FN(Brick);
#endif

/// Lower bounds of a packet's positions on the planes of a block: u + (k - low) du. The lowest of several rays is a concave
/// function of k, so the chord between its ends bounds it from below, and the highest from above.
typedef struct {
    float u, v, du, dv, low;
    float extentU, extentV;         // from the lowest position to the highest, voxels
#if LANES == 16
    const FN(Brick) *brick;         // NULL: there is none
#endif
} FN(Window);

#if LANES == 16
/// 8 × 8 voxels of a plane: all that a packet's samples there need. Loading whole rows and picking lanes by a permutation takes a
/// quarter of the instructions of loading lane by lane.
typedef struct { __m512i low, high; } FN(Patch);
INLINE FN(Patch) FN(patch)(const char *p, int64_t row) {
#define ROW(n) _mm_loadu_si128((const __m128i *)(p + (n) * row))
    __m512i low = _mm512_castsi128_si512(ROW(0)), high = _mm512_castsi128_si512(ROW(4));
    low = _mm512_inserti32x4(low, ROW(1), 1); high = _mm512_inserti32x4(high, ROW(5), 1);
    low = _mm512_inserti32x4(low, ROW(2), 2); high = _mm512_inserti32x4(high, ROW(6), 2);
    low = _mm512_inserti32x4(low, ROW(3), 3); high = _mm512_inserti32x4(high, ROW(7), 3);
#undef ROW
    return (FN(Patch)){ low, high };
}
/// The patch on plane k whose first voxel is (u, v).
INLINE FN(Patch) FN(patchAt)(const FN(Brick) *b, int u, int v, int k) {
    return FN(patch)((const char *)(b->voxels + ((k - b->k) * BRICK_ROWS + v - b->v) * BRICK_ROW + u - b->u), 2 * BRICK_ROW);
}

/// Copies a block, with `margin` voxels around it. 0 when it is too large.
static int FN(fill)(const RayWork *w, const Frame *f, const FN(Corner) *c, int layer, int margin, FN(Brick) *b) {
    const int columns = c->acrossU + 2 * margin, rows = c->acrossV + 2 * margin, planes = RAY_CELL + 1 + 2 * margin;
    if (columns > BRICK_ROW || rows > BRICK_ROWS || (f->axis[2] == 0 && f->size[0] < 8)) return 0;
    b->u = c->u - margin; b->v = c->v - margin; b->k = layer * RAY_CELL - margin; b->layer = layer;
    const int16_t *p = (const int16_t *)w->voxels + b->k * f->step[2] + b->v * f->step[1];
    // Outside the volume its outermost voxels go on.
    const int firstRow = b->v < 0 ? -b->v : 0, firstPlane = b->k < 0 ? -b->k : 0;
    const int lastColumn = f->size[0] - 1 - b->u, lastRow = f->size[1] - 1 - b->v, lastPlane = f->size[2] - 1 - b->k;
#define ROW_AT(v) ((v) < firstRow ? firstRow : (v) < lastRow ? (v) : lastRow)
#define VOXEL(k, v, u) b->voxels[((k) * BRICK_ROWS + (v)) * BRICK_ROW + (u)]
    if (f->axis[2] != 0) {
        p += b->u * f->step[0];
#define FROM (p + (k < firstPlane ? firstPlane : k < lastPlane ? k : lastPlane) * f->step[2] + ROW_AT(v) * f->step[1])
        // Half a row often suffices, and then rarely crosses a line of the cache.
        if (columns <= BRICK_ROW / 2) for (int k = 0; k < planes; k++) for (int v = 0; v < rows; v++)
            _mm256_store_si256((__m256i *)(b->voxels + (k * BRICK_ROWS + v) * BRICK_ROW), _mm256_loadu_si256((const __m256i *)FROM));
        else for (int k = 0; k < planes; k++) for (int v = 0; v < rows; v++)
            _mm512_store_si512((__m512i *)(b->voxels + (k * BRICK_ROWS + v) * BRICK_ROW), _mm512_loadu_si512(FROM));
#undef FROM
    } else {
        // k runs through memory: transposed, 8 × 8 voxels at a time.
        int16_t order[2][32];
        for (int k = 0; k < 8; k++) for (int u = 0; u < 8; u++) order[k >> 2][(k & 3) * 8 + u] = (int16_t)(u * 8 + k);
        const __m512i first = _mm512_loadu_si512(order[0]), second = _mm512_loadu_si512(order[1]);
        for (int v = 0; v < rows; v++) for (int u = 0; u < columns; u += 8) {
            const int at = clampi(b->u + u, 0, f->size[0] - 8);
            const FN(Patch) t = FN(patch)((const char *)(p + ROW_AT(v) * f->step[1] + at * f->step[0]), 2 * f->step[0]);
            const __m512i near = _mm512_permutex2var_epi16(t.low, first, t.high), far = _mm512_permutex2var_epi16(t.low, second, t.high);
            // At the volume's edge the eight begin before the block: those go where no column of a row is used, or before the first row.
            int16_t *out = b->voxels + v * BRICK_ROW + at - b->u;
#define STORE(k, from, lane) _mm_storeu_si128((__m128i *)(out + (k) * BRICK_ROWS * BRICK_ROW), _mm512_extracti32x4_epi32(from, lane))
            STORE(0, near, 0); STORE(1, near, 1); STORE(2, near, 2); STORE(3, near, 3); STORE(4, far, 0);
            if (margin) { STORE(5, far, 1); STORE(6, far, 2); }
#undef STORE
        }
        if (margin && (firstPlane > 0 || lastPlane < planes - 1))
            for (int k = 0; k < planes; k++) if (k < firstPlane || k > lastPlane) memcpy(&VOXEL(k, 0, 0), &VOXEL(k < firstPlane ? firstPlane : lastPlane, 0, 0), sizeof(int16_t[BRICK_ROWS * BRICK_ROW]));
    }
    if (margin && (b->u < 0 || lastColumn < columns - 1))
        for (int k = 0; k < planes; k++) for (int v = 0; v < rows; v++) {
            if (b->u < 0) VOXEL(k, v, 0) = VOXEL(k, v, 1);
            if (lastColumn < columns - 1) VOXEL(k, v, lastColumn + 1) = VOXEL(k, v, lastColumn);
        }
#undef ROW_AT
#undef VOXEL
    return 1;
}

/// Where a packet's samples lie in a patch: words to pick, and weights of the two neighbours along u, in 16384ths.
typedef struct { I index, weights; F v; } FN(Places);
#define PLACE_SCALE 16384.0f
INLINE FN(Places) FN(places)(F u, F v, int patchU, int patchV, const int wide) {
    const I a = (I)_mm512_cvtps_epi32((__m512)((u - (float)patchU) * PLACE_SCALE)), b = (I)_mm512_cvtps_epi32((__m512)((v - (float)patchV) * PLACE_SCALE));
    const I part = a & 16383, word = ((b >> 14) << (wide ? 4 : 3)) + (a >> 14);
    return (FN(Places)){ (word << 16) + word + 0x10000, (part << 16) - part + 16384, FN(toF)(b & 16383) * (1 / PLACE_SCALE) };
}
/// Interpolated along u, times 16384: all neighbours and weights are whole numbers of 16 bits. `offset` is in words, twice.
INLINE I FN(along)(FN(Patch) p, const FN(Places) *s, int offset) {
    return (I)_mm512_madd_epi16(_mm512_permutex2var_epi16(p.low, (__m512i)(s->index + offset), p.high), (__m512i)s->weights);
}
enum { FN(Right) = 0x10001, FN(Down) = 0x80008 };
/// Bilinear, times 16384.
INLINE F FN(bilinear)(FN(Patch) p, const FN(Places) *s) {
    return FN(lerp)(FN(toF)(FN(along)(p, s, 0)), FN(toF)(FN(along)(p, s, FN(Down))), s->v);
}
/// First voxel of the patch that holds all positions on plane k. Not `inner`: of those in the volume, and of the others moved to its faces.
INLINE void FN(corner)(const Frame *f, const FN(Window) *q, float k, int inner, int *u, int *v) {
    const float a = q->u + (k - q->low) * q->du - 0.01f, b = q->v + (k - q->low) * q->dv - 0.01f;
    *u = (int)(inner ? a : fminf(fmaxf(a, 0), (float)(f->size[0] - 1)));
    *v = (int)(inner ? b : fminf(fmaxf(b, 0), (float)(f->size[1] - 1)));
}
/// Rounding down moves the corner by up to one voxel; neighbours need another.
INLINE int FN(fits)(const FN(Window) *q) { return q->brick && fmaxf(q->extentU, q->extentV) < 5.95f; }
INLINE F FN(patched)(const Frame *f, const FN(Window) *q, F u, F v, int plane, float part, int inner) {
    int a, b;
    FN(corner)(f, q, (float)plane + part, inner, &a, &b);
    if (!inner) { u = FN(clampf)(u, 0, (float)(f->size[0] - 1)); v = FN(clampf)(v, 0, (float)(f->size[1] - 1)); }
    const FN(Places) s = FN(places)(u, v, a, b, 0);
    F value = FN(bilinear)(FN(patchAt)(q->brick, a, b, plane), &s);
    if (part != 0) value = FN(lerp)(value, FN(bilinear)(FN(patchAt)(q->brick, a, b, plane + 1), &s), (F)part);
    return value * (1 / PLACE_SCALE);
}
#endif

/// Value on plane `plane` + part (0 ..< 1) of the frame. `pairs`: u is x; else k is x. `clamp`: positions may lie outside.
INLINE F FN(sample)(const RayWork *w, const Frame *f, const FN(Corner) *c, F u, F v, int plane, float part, int format, int pairs, int clamp) {
    const int bytes = format == VOXELS_INT16 ? 2 : 4;
    if (clamp) { u = FN(clampf)(u, 0, (float)(f->size[0] - 1)); v = FN(clampf)(v, 0, (float)(f->size[1] - 1)); }
    I iu = FN(mini)(FN(toI)(u), (I)(f->size[0] > 1 ? f->size[0] - 2 : 0)), iv = FN(mini)(FN(toI)(v), (I)(f->size[1] > 1 ? f->size[1] - 2 : 0));
    F fu = u - FN(toF)(iu), fv = v - FN(toF)(iv);
    const char *p = (const char *)w->voxels + bytes * (plane * f->step[2] + c->u * f->step[0] + c->v * f->step[1]);
    if (__builtin_expect(clamp && c->far, 0)) {
        F value;
        for (int l = 0; l < LANES; l++) {
            const char *q = p + bytes * ((int64_t)(iu[l] - c->u) * f->step[0] + (int64_t)(iv[l] - c->v) * f->step[1]);
            float s[8];
            for (int n = 0; n < 8; n++) {
                const char *r = q + bytes * ((n & 1 ? f->stride[0] : 0) + (n & 2 ? f->stride[1] : 0) + (n & 4 && part > 0 ? f->stride[2] : 0));
                if (format == VOXELS_INT16) { int16_t x; memcpy(&x, r, 2); s[n] = x; } else memcpy(&s[n], r, 4);
            }
            float a = s[0] + fu[l] * (s[1] - s[0]), b = s[2] + fu[l] * (s[3] - s[2]), e = s[4] + fu[l] * (s[5] - s[4]), d = s[6] + fu[l] * (s[7] - s[6]);
            float x = a + fv[l] * (b - a), y = e + fv[l] * (d - e);
            value[l] = x + part * (y - x);
        }
        return value;
    }
    const int64_t sv = bytes * f->stride[1], sk = bytes * f->stride[2];
    if (pairs) {
        I k = (iu - c->u) + (iv - c->v) * (int)f->step[1];
        F a = FN(lerp)(FN(edge)(p, format, k, fu), FN(edge)(p + sv, format, k, fu), fv);
        if (part == 0) return a;
        F b = FN(lerp)(FN(edge)(p + sk, format, k, fu), FN(edge)(p + sk + sv, format, k, fu), fv);
        return FN(lerp)(a, b, (F)part);
    }
    const int64_t su = bytes * f->stride[0];
    I k = (iu - c->u) * (int)f->step[0] + (iv - c->v) * (int)f->step[1];
    if (part == 0) return FN(lerp)(FN(lerp)(FN(one)(p, format, k), FN(one)(p + su, format, k), fu),
                                   FN(lerp)(FN(one)(p + sv, format, k), FN(one)(p + sv + su, format, k), fu), fv);
    return FN(lerp)(FN(lerp)(FN(edge)(p, format, k, (F)part), FN(edge)(p + su, format, k, (F)part), fu),
                    FN(lerp)(FN(edge)(p + sv, format, k, (F)part), FN(edge)(p + sv + su, format, k, (F)part), fu), fv);
}

/// Value at any position of the volume, clamped to it.
static F FN(free)(const RayWork *w, const Frame *f, F u, F v, F k) {
    const int bytes = w->format == VOXELS_INT16 ? 2 : 4;
    float p[3][LANES];
    F value;
    for (int l = 0; l < LANES; l++) { p[f->axis[0]][l] = u[l]; p[f->axis[1]][l] = v[l]; p[f->axis[2]][l] = k[l]; }
    for (int l = 0; l < LANES; l++) {
        int64_t offset = 0, step[3];
        int64_t stride = 1;
        float t[3];
        for (int a = 0; a < 3; a++) {
            int n = w->size[a];
            float x = p[a][l] > 0 ? p[a][l] < (float)(n - 1) ? p[a][l] : (float)(n - 1) : 0;
            int i = (int)x;
            if (i > n - 2) i = n > 1 ? n - 2 : 0;
            t[a] = x - (float)i; offset += i * stride; step[a] = n > 1 ? stride * bytes : 0; stride *= n;
        }
        const char *q = (const char *)w->voxels + bytes * offset;
        float s[8];
        for (int n = 0; n < 8; n++) {
            const char *r = q + (n & 1 ? step[0] : 0) + (n & 2 ? step[1] : 0) + (n & 4 ? step[2] : 0);
            if (w->format == VOXELS_INT16) { int16_t x; memcpy(&x, r, 2); s[n] = x; } else memcpy(&s[n], r, 4);
        }
        float a = s[0] + t[0] * (s[1] - s[0]), b = s[2] + t[0] * (s[3] - s[2]), e = s[4] + t[0] * (s[5] - s[4]), d = s[6] + t[0] * (s[7] - s[6]);
        float x = a + t[1] * (b - a), y = e + t[1] * (d - e);
        value[l] = x + t[2] * (y - x);
    }
    return value;
}

/// Blinn-Phong factors from a gradient along u, v, k per voxel. Both sides of a surface are lit. Where the gradient is weak
/// there is no surface to shade and noise would decide its normal: the diffuse term fades to full light.
INLINE void FN(light)(const RayWork *w, const Frame *f, Packet *p, F gu, F gv, F gk) {
    const float *m = w->gradientFromVoxel;
    const int *a = f->axis;
    F x = gu * m[a[0]] + gv * m[a[1]] + gk * m[a[2]];
    F y = gu * m[3 + a[0]] + gv * m[3 + a[1]] + gk * m[3 + a[2]];
    F z = gu * m[6 + a[0]] + gv * m[6 + a[1]] + gk * m[6 + a[2]];
    F square = x * x + y * y + z * z + 1e-20f;
    F inverse = FN(inverseRoot)(square);
    F nl, nh;
    if (w->headlight) nl = nh = FN(absf)(x * p->viewX + y * p->viewY + z * p->viewZ) * inverse;
    else {
        F hx = w->light[0] - p->viewX, hy = w->light[1] - p->viewY, hz = w->light[2] - p->viewZ;
        F h = FN(inverseRoot)(hx * hx + hy * hy + hz * hz + 1e-12f);
        nl = FN(absf)(x * w->light[0] + y * w->light[1] + z * w->light[2]) * inverse;
        nh = FN(absf)(x * hx + y * hy + z * hz) * h * inverse;
    }
    F weight = square * FN(inverse)(square + w->gradientKnee);
    p->lit = w->ambient + w->diffuse * (1.0f + weight * (nl - 1.0f));
    // Usually a whole number and small: squared and multiplied, which is exact and takes a quarter of the time.
    const int whole = (int)w->shininess;
    if (whole <= 32 && (float)whole == w->shininess) {
        F power = (F)1.0f, square_ = FN(clampf)(nh, 0.08f, 1.0f);
        for (int n = whole; n > 0; n >>= 1) {
            if (n & 1) power *= square_;
            square_ *= square_;
        }
        p->gloss = w->specular * weight * power;
    } else p->gloss = w->specular * weight * FN(exp2)(w->shininess * FN(log2)(FN(clampf)(nh, 1e-6f, 1.0f)));
    if (w->gradientOpacity) p->steep = FN(clampf)((square * inverse - w->gradientLow) * w->gradientPerUnit, 0, 1);
}

/// Light that reaches plane k of the frame, 0 ... 1, between the centres of cells.
static F FN(reaching)(const RayWork *w, const Frame *f, F u, F v, float k) {
    F q[3];
    F *lateral[2] = { &q[f->axis[0]], &q[f->axis[1]] };
    *lateral[0] = u; *lateral[1] = v; q[f->axis[2]] = (F)k;
    const int64_t nx = w->cells[0], nxy = nx * w->cells[1];
    const int64_t sx = w->cells[0] > 1, sy = w->cells[1] > 1 ? nx : 0, sz = w->cells[2] > 1 ? nxy : 0;
    I cell[3]; F t[3];
    for (int a = 0; a < 3; a++) {
        F x = FN(clampf)((q[a] + w->reachedOffset[a]) * (1.0f / RAY_CELL) - 0.5f, 0, (float)(w->cells[a] - 1));
        cell[a] = FN(mini)(FN(toI)(x), (I)(w->cells[a] > 1 ? w->cells[a] - 2 : 0));
        t[a] = x - FN(toF)(cell[a]);
    }
    F corner[8];
    for (int l = 0; l < LANES; l++) {
        const uint8_t *b = w->reached + cell[0][l] + cell[1][l] * nx + cell[2][l] * nxy;
        corner[0][l] = b[0]; corner[1][l] = b[sx]; corner[2][l] = b[sy]; corner[3][l] = b[sy + sx];
        b += sz;
        corner[4][l] = b[0]; corner[5][l] = b[sx]; corner[6][l] = b[sy]; corner[7][l] = b[sy + sx];
    }
    F low = FN(lerp)(FN(lerp)(corner[0], corner[1], t[0]), FN(lerp)(corner[2], corner[3], t[0]), t[1]);
    F high = FN(lerp)(FN(lerp)(corner[4], corner[5], t[0]), FN(lerp)(corner[6], corner[7], t[0]), t[1]);
    return FN(lerp)(low, high, t[2]) * (1.0f / 255);
}

/// Light at plane `plane` of the packet, kept for the next segment.
INLINE void FN(shade)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, int plane, int format, int pairs, int inner) {
    F k = (F)(float)plane;
    F u = p->u0 + k * p->du, v = p->v0 + k * p->dv;
    F gu, gv, gk;
#if LANES == 16
    if (format == VOXELS_INT16 && FN(fits)(q)) {
        // Differences of whole numbers first: half as much to interpolate.
        int a, b;
        FN(corner)(f, q, (float)plane, inner, &a, &b);
        const float limitU = (float)(f->size[0] - 1), limitV = (float)(f->size[1] - 1);
        if (!inner) { u = FN(clampf)(u, 0, limitU); v = FN(clampf)(v, 0, limitV); }
        const FN(Places) s = FN(places)(u, v, a, b, 0);
        const FN(Patch) here = FN(patchAt)(q->brick, a, b, plane);
        const FN(Patch) before = FN(patchAt)(q->brick, a, b, plane - 1), behind = FN(patchAt)(q->brick, a, b, plane + 1);
        const F half = (F)(0.5f / PLACE_SCALE);
        gk = FN(lerp)(FN(toF)(FN(along)(behind, &s, 0) - FN(along)(before, &s, 0)), FN(toF)(FN(along)(behind, &s, FN(Down)) - FN(along)(before, &s, FN(Down))), s.v) * half;
        const FN(Patch) left = FN(patchAt)(q->brick, a - 1, b, plane), right = FN(patchAt)(q->brick, a + 1, b, plane);
        const FN(Patch) above = FN(patchAt)(q->brick, a, b - 1, plane), below = FN(patchAt)(q->brick, a, b + 1, plane);
        gu = FN(lerp)(FN(toF)(FN(along)(right, &s, 0) - FN(along)(left, &s, 0)), FN(toF)(FN(along)(right, &s, FN(Down)) - FN(along)(left, &s, FN(Down))), s.v) * half;
        gv = FN(lerp)(FN(toF)(FN(along)(here, &s, FN(Down)) - FN(along)(above, &s, 0)), FN(toF)(FN(along)(below, &s, FN(Down)) - FN(along)(here, &s, 0)), s.v) * half;
        if (!inner) {
            // Differences reach to the faces only, where the outermost voxels stood for those behind.
            gu *= 2.0f / FN(maxf)(FN(minf)(u + 1.0f, (F)limitU) - FN(maxf)(u - 1.0f, (F)0.0f), (F)1e-3f);
            gv *= 2.0f / FN(maxf)(FN(minf)(v + 1.0f, (F)limitV) - FN(maxf)(v - 1.0f, (F)0.0f), (F)1e-3f);
            if (plane == 0 || plane == f->size[2] - 1) gk *= 2.0f;
        }
    } else
#endif
    if (inner) {
        // Central differences at the voxels around, interpolated: the same as central differences of interpolated samples.
        const int bytes = format == VOXELS_INT16 ? 2 : 4;
        I iu = FN(toI)(u), iv = FN(toI)(v);
        F fu = u - FN(toF)(iu), fv = v - FN(toF)(iv);
        const char *q = (const char *)w->voxels + bytes * (plane * f->step[2] + c->u * f->step[0] + c->v * f->step[1]);
        const int64_t su = bytes * f->step[0], sv = bytes * f->step[1], sk = bytes * f->step[2];
        if (pairs) {
            I i = (iu - c->u) + (iv - c->v) * (int)f->step[1];
            Rays a0 = FN(pair)(q - su, format, i), a1 = FN(pair)(q + su, format, i);
            Rays b0 = FN(pair)(q + sv - su, format, i), b1 = FN(pair)(q + sv + su, format, i);
            gu = FN(lerp)(FN(lerp)(a1.low - a0.low, a1.high - a0.high, fu), FN(lerp)(b1.low - b0.low, b1.high - b0.high, fu), fv);
            F r0 = FN(lerp)(a0.high, a1.low, fu), r1 = FN(lerp)(b0.high, b1.low, fu);
            F below = FN(edge)(q - sv, format, i, fu), above = FN(edge)(q + 2 * sv, format, i, fu);
            gv = FN(lerp)(r1 - below, above - r0, fv);
            F near = FN(lerp)(FN(edge)(q - sk, format, i, fu), FN(edge)(q + sv - sk, format, i, fu), fv);
            F far = FN(lerp)(FN(edge)(q + sk, format, i, fu), FN(edge)(q + sv + sk, format, i, fu), fv);
            gk = far - near;
        } else {
            I i = (iu - c->u) * (int)f->step[0] + (iv - c->v) * (int)f->step[1];
            // Along x: plane - 1 and plane in the first load, plane + 1 in the second.
            F before[4], at[4], after[4];
            const int64_t corner[4] = { 0, su, sv, su + sv };
            for (int n = 0; n < 4; n++) {
                Rays r = FN(pair)(q + corner[n] - sk, format, i);
                before[n] = r.low; at[n] = r.high;
                after[n] = FN(one)(q + corner[n] + sk, format, i);
            }
            gk = FN(lerp)(FN(lerp)(after[0] - before[0], after[1] - before[1], fu), FN(lerp)(after[2] - before[2], after[3] - before[3], fu), fv);
            F l0 = FN(one)(q - su, format, i), l1 = FN(one)(q + sv - su, format, i);
            F h0 = FN(one)(q + 2 * su, format, i), h1 = FN(one)(q + sv + 2 * su, format, i);
            gu = FN(lerp)(FN(lerp)(at[1] - l0, h0 - at[0], fu), FN(lerp)(at[3] - l1, h1 - at[2], fu), fv);
            F b0 = FN(one)(q - sv, format, i), b1 = FN(one)(q + su - sv, format, i);
            F t0 = FN(one)(q + 2 * sv, format, i), t1 = FN(one)(q + su + 2 * sv, format, i);
            gv = FN(lerp)(FN(lerp)(at[2] - b0, at[3] - b1, fu), FN(lerp)(t0 - at[0], t1 - at[1], fu), fv);
        }
        gu *= 0.5f; gv *= 0.5f; gk *= 0.5f;
    } else {
        const float limit[2] = { (float)(f->size[0] - 1), (float)(f->size[1] - 1) };
        u = FN(clampf)(u, 0, limit[0]); v = FN(clampf)(v, 0, limit[1]);
        F u1 = FN(minf)(u + 1.0f, (F)limit[0]), u0 = FN(maxf)(u - 1.0f, (F)0.0f), v1 = FN(minf)(v + 1.0f, (F)limit[1]), v0 = FN(maxf)(v - 1.0f, (F)0.0f);
        int k1 = plane + 1 < f->size[2] ? plane + 1 : plane, k0 = plane > 0 ? plane - 1 : 0;
        gu = (FN(sample)(w, f, c, u1, v, plane, 0, format, pairs, 1) - FN(sample)(w, f, c, u0, v, plane, 0, format, pairs, 1)) / FN(maxf)(u1 - u0, (F)1e-3f);
        gv = (FN(sample)(w, f, c, u, v1, plane, 0, format, pairs, 1) - FN(sample)(w, f, c, u, v0, plane, 0, format, pairs, 1)) / FN(maxf)(v1 - v0, (F)1e-3f);
        gk = (FN(sample)(w, f, c, u, v, k1, 0, format, pairs, 1) - FN(sample)(w, f, c, u, v, k0, 0, format, pairs, 1)) / (float)(k1 > k0 ? k1 - k0 : 1);
    }
    FN(light)(w, f, p, gu, gv, gk);
    if (w->reached) {
        F r = FN(reaching)(w, f, u, v, (float)plane);
        p->lit = w->occludesAmbient ? p->lit * r : w->ambient + (p->lit - w->ambient) * r;
        p->gloss *= r;
    }
    p->litAt = plane;
}

INLINE I FN(classOf)(const RayWork *w, F stored) {
    return FN(toI)(FN(clampf)((stored - w->classFirst) * w->classesPerUnit, 0, RAY_CLASSES - 1));
}

/// Looks up the labels at plane position k: hidden lanes, the colour laid over what is there, and the layers (bit 1 + n) that add nothing.
static I FN(hidden)(const RayWork *w, const Frame *f, F u, F v, float k, F *tintR, F *tintG, F *tintB, F *tintA, I *mute) {
    F q[3];
    q[f->axis[0]] = u; q[f->axis[1]] = v; q[f->axis[2]] = (F)(k - (f->thin ? 0.5f : 0));
    I hide = (I)0;
    *tintR = *tintG = *tintB = *tintA = (F)0.0f;
    *mute = (I)0;
    for (int n = 0; n < w->labelCount; n++) {
        const RayLabels *s = w->labels + n;
        const float *m = s->labelFromVoxel;
        F x = FN(clampf)(q[0] * m[0] + q[1] * m[1] + q[2] * m[2] + m[3], -2, (float)s->size[0] + 1);
        F y = FN(clampf)(q[0] * m[4] + q[1] * m[5] + q[2] * m[6] + m[7], -2, (float)s->size[1] + 1);
        F z = FN(clampf)(q[0] * m[8] + q[1] * m[9] + q[2] * m[10] + m[11], -2, (float)s->size[2] + 1);
        I ix = FN(toI)(x + 2.5f) - 2, iy = FN(toI)(y + 2.5f) - 2, iz = FN(toI)(z + 2.5f) - 2;
        I in = (ix >= 0) & (iy >= 0) & (iz >= 0) & (ix < s->size[0]) & (iy < s->size[1]) & (iz < s->size[2]);
        for (int l = 0; l < LANES; l++) {
            int32_t bits = s->hiddenOutside;
            if (!in[l]) { if (bits & 1) hide[l] = -1; (*mute)[l] |= bits; continue; }
            uint16_t label = s->labels[ix[l] + (int64_t)s->size[0] * (iy[l] + (int64_t)s->size[1] * iz[l])];
            bits = s->hidden[label];
            if (bits & 1) hide[l] = -1;
            (*mute)[l] |= bits;
            uint32_t t = s->tint[label];
            if (t >> 24) {
                (*tintR)[l] = (float)(t & 255) * (1.0f / 255); (*tintG)[l] = (float)(t >> 8 & 255) * (1.0f / 255);
                (*tintB)[l] = (float)(t >> 16 & 255) * (1.0f / 255); (*tintA)[l] = (float)(t >> 24) * (1.0f / 255);
            }
        }
    }
    return hide;
}

/// Adds the layers' extinction per mm and colour times extinction at plane position k, but where `mute` has a layer's bit.
static void FN(layered)(const RayWork *w, const Frame *f, F u, F v, float k, I mute, F light, F gloss, F *extinction, F *red, F *green, F *blue) {
    float q[3][LANES];
    for (int l = 0; l < LANES; l++) { q[f->axis[0]][l] = u[l]; q[f->axis[1]][l] = v[l]; q[f->axis[2]][l] = k - (f->thin ? 0.5f : 0); }
    for (int n = 0; n < w->layerCount; n++) {
        const RayLayer *y = w->layers + n;
        const float *m = y->layerFromVoxel;
        const int bytes = y->format == VOXELS_INT16 ? 2 : 4;
        for (int l = 0; l < LANES; l++) {
            if (mute[l] >> (n + 1) & 1) continue;
            int64_t offset = 0, stride = 1, step[3];
            float t[3];
            int in = 1;
            for (int a = 0; a < 3; a++) {
                int size = y->size[a];
                float x = m[4 * a] * q[0][l] + m[4 * a + 1] * q[1][l] + m[4 * a + 2] * q[2][l] + m[4 * a + 3];
                in &= x >= -0.5f && x <= (float)size - 0.5f;
                x = x > 0 ? x < (float)(size - 1) ? x : (float)(size - 1) : 0;
                int i = (int)x;
                if (i > size - 2) i = size > 1 ? size - 2 : 0;
                t[a] = x - (float)i; offset += i * stride; step[a] = size > 1 ? stride * bytes : 0; stride *= size;
            }
            if (!in) continue;
            const char *p = (const char *)y->voxels + bytes * offset;
            float s[8];
            for (int i = 0; i < 8; i++) {
                const char *r = p + (i & 1 ? step[0] : 0) + (i & 2 ? step[1] : 0) + (i & 4 ? step[2] : 0);
                if (y->format == VOXELS_INT16) { int16_t x; memcpy(&x, r, 2); s[i] = x; } else memcpy(&s[i], r, 4);
            }
            float a = s[0] + t[0] * (s[1] - s[0]), b = s[2] + t[0] * (s[3] - s[2]), e = s[4] + t[0] * (s[5] - s[4]), d = s[6] + t[0] * (s[7] - s[6]);
            float x = a + t[1] * (b - a), z = e + t[1] * (d - e), value = x + t[2] * (z - x);
            float at = (value - y->first) * y->perUnit;
            const float *entry = y->table + 4 * (at > 0 ? at < 255 ? (int)(at + 0.5f) : 255 : 0);
            const float dim = y->lit ? light[l] : 1, shine = y->lit ? gloss[l] : 0;
            (*extinction)[l] += entry[3];
            (*red)[l] += (entry[0] * dim + shine) * entry[3]; (*green)[l] += (entry[1] * dim + shine) * entry[3]; (*blue)[l] += (entry[2] * dim + shine) * entry[3];
        }
    }
}

/// Positions of a block in units of 1 / substeps planes, in the order of the rays.
typedef struct { int start, end, step; } FN(Span);
INLINE FN(Span) FN(span)(const Frame *f, int layer) {
    int low = layer * RAY_CELL, top = f->thin ? 1 : f->size[2] - 1, high = low + RAY_CELL < top ? low + RAY_CELL : top;
    low *= f->substeps; high *= f->substeps;
    return f->forward ? (FN(Span)){ low, high, 1 } : (FN(Span)){ high, low, -1 };
}

/// A stretch of rays between two values.
typedef struct {
    I lanes;
    F front, back;
    I frontClass, backClass;
    float start, end;               // k
} FN(Part);
/// What the transfer function says of it: extinction per mm in binary logarithms, colour, and mm within the ray's limits.
typedef struct { I extinction; F tau, red, green, blue, length; } FN(Lookup);

/// `whole`: all rays cross all of it, and the classes at its ends are known.
INLINE FN(Lookup) FN(lookUp)(const RayWork *w, const Packet *p, const FN(Part) *t, int whole) {
    I low, high;
    F length = p->length * __builtin_fabsf(t->end - t->start);
    if (whole) { low = FN(mini)(t->frontClass, t->backClass); high = FN(maxi)(t->frontClass, t->backClass) + 1; }
    else {
        // A ray that starts or ends within the part: the values there, and what is left of its length.
        const float per = 1.0f / (t->end - t->start);
        F from = FN(maxf)(p->enter, (F)fminf(t->start, t->end)), to = FN(minf)(p->leave, (F)fmaxf(t->start, t->end));
        length = p->length * FN(maxf)(to - from, (F)0.0f);
        I c0 = FN(classOf)(w, FN(lerp)(t->front, t->back, FN(clampf)((from - t->start) * per, 0, 1)));
        I c1 = FN(classOf)(w, FN(lerp)(t->front, t->back, FN(clampf)((to - t->start) * per, 0, 1)));
        low = FN(mini)(c0, c1); high = FN(maxi)(c0, c1) + 1;
    }
    I e0[4], e1[4];
    FN(entries)(w->classes, low, e0);
    FN(entries)(w->classes, high, e1);
    I extinction = e1[0] - e0[0];
    F e = FN(toF)(extinction), perExtinction = FN(sel)(extinction > 0, FN(inverse)(e), (F)0.0f);
    return (FN(Lookup)){ extinction, e * w->extinctionScale * FN(inverse)(FN(toF)(high - low)), FN(toF)(e1[1] - e0[1]) * perExtinction,
                         FN(toF)(e1[2] - e0[2]) * perExtinction, FN(toF)(e1[3] - e0[3]) * perExtinction, length };
}

#if LANES == 16
#define PATCHED(value) format == VOXELS_INT16 && whole && FN(fits)(q) ? value :
#else
#define PATCHED(value)
#endif

INLINE void FN(compositeBlock)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, const Block *b, int format, int pairs) {
    const FN(Span) s = FN(span)(f, b->layer);
    const float spacing = 1.0f / (float)f->substeps;
    const float lowK = (float)(f->forward ? s.start : s.end) * spacing, highK = (float)(f->forward ? s.end : s.start) * spacing;
    I live = (p->rest > w->opaque) & (p->enter <= p->leave) & (p->enter < highK) & (p->leave > lowK);
    if (!FN(any)(live)) return;
    const int whole = !FN(any)(live & ((p->enter > lowK) | (p->leave < highK))) && b->inner;
    const int sub = f->substeps;
#define AT(n) ({ int plane_ = f->thin ? 0 : (n) / sub; float part_ = (float)((n) - plane_ * sub) * spacing; F k_ = (F)((float)(n) * spacing); \
        F u_ = p->u0 + k_ * p->du, v_ = p->v0 + k_ * p->dv; \
        PATCHED(FN(patched)(f, q, u_, v_, plane_, part_, 1)) \
        whole ? FN(sample)(w, f, c, u_, v_, plane_, part_, format, pairs, 0) : FN(sample)(w, f, c, u_, v_, plane_, part_, format, pairs, 1); })
    if (p->frontAt != s.start) { p->front = AT(s.start); p->frontClass = FN(classOf)(w, p->front); }
    F front = p->front, rest = p->rest, red = p->red, green = p->green, blue = p->blue;
    I frontClass = p->frontClass;
    for (int n = s.start; n != s.end; n += s.step) {
        F back = AT(n + s.step);
        I backClass = FN(classOf)(w, back);
        // Parts of the step: both halves for rays to which the step gives much, the whole for all others.
        FN(Part) parts[3];
        parts[2] = (FN(Part)){ live, front, back, frontClass, backClass, (float)n * spacing, (float)(n + s.step) * spacing };
        front = back; frontClass = backClass;
        if (!w->layerCount && !FN(any)(live & (FN(maxi)(parts[2].frontClass, parts[2].backClass) >= f->clear))) continue;
        int part = 2;
        FN(Lookup) found = FN(lookUp)(w, p, parts + 2, whole);
        if (!w->layerCount && !FN(any)(live & (found.extinction > 0))) continue;
        if (f->halves) {
            I much = w->layerCount || w->labelCount ? live : live & (rest * FN(minf)(found.tau * found.length * 0.6931472f, (F)1.0f) > RAY_HALVED);
            if (FN(any)(much)) {
                const int half = f->forward ? n : n - 1;
                F k = (F)((float)half + 0.5f), u = p->u0 + k * p->du, v = p->v0 + k * p->dv;
                F middle = PATCHED(FN(patched)(f, q, u, v, half, 0.5f, 1))
                    whole ? FN(sample)(w, f, c, u, v, f->thin ? 0 : half, 0.5f, format, pairs, 0) : FN(sample)(w, f, c, u, v, f->thin ? 0 : half, 0.5f, format, pairs, 1);
                I middleClass = FN(classOf)(w, middle);
                const float at = (float)half + 0.5f;
                parts[0] = (FN(Part)){ much, parts[2].front, middle, parts[2].frontClass, middleClass, parts[2].start, at };
                parts[1] = (FN(Part)){ much, middle, back, middleClass, backClass, at, parts[2].end };
                parts[2].lanes = live & ~much;
                part = 0;
            }
        }
        for (; part < 3; part++) {
            const FN(Part) *t = parts + part;
            const FN(Lookup) l = part == 2 ? found : FN(lookUp)(w, p, t, whole);
            if (!FN(any)(t->lanes & (w->layerCount ? (I)-1 : l.extinction > 0))) continue;
            F tau = l.tau, r = l.red, g = l.green, bl = l.blue;
            F gloss = (F)0.0f, light = (F)1.0f;
            I mute = (I)0;
            if (w->shaded || w->gradientOpacity) {
                // The voxel plane next to the part's middle; half way between two planes the one behind.
                const float middle = 0.5f * (t->start + t->end);
                int plane = f->forward ? (int)floorf(middle + 0.5f) : (int)ceilf(middle - 0.5f);
                if (f->thin) plane = 0;
                if (p->litAt != plane) { if (b->inner) FN(shade)(w, f, c, q, p, plane, format, pairs, 1); else FN(shade)(w, f, c, q, p, plane, format, pairs, 0); }
                if (w->shaded) { light = p->lit; r *= light; g *= light; bl *= light; gloss = p->gloss; }
                if (w->gradientOpacity) tau *= p->steep;
            }
            if (w->labelCount) {
                float k = 0.5f * (t->start + t->end);
                F tr, tg, tb, ta;
                I hide = FN(hidden)(w, f, p->u0 + k * p->du, p->v0 + k * p->dv, k, &tr, &tg, &tb, &ta, &mute);
                tau = FN(sel)(hide, (F)0.0f, tau);
                r += ta * (tr * light - r); g += ta * (tg * light - g); bl += ta * (tb * light - bl);
            }
            r += gloss; g += gloss; bl += gloss;
            if (w->layerCount) {
                float k = 0.5f * (t->start + t->end);
                F le = (F)0.0f, lr = le, lg = le, lb = le;
                FN(layered)(w, f, p->u0 + k * p->du, p->v0 + k * p->dv, k, mute, light, gloss, &le, &lr, &lg, &lb);
                F sum = tau + le * 1.44269504f, inverse = FN(sel)(sum > 0, 1.0f / sum, (F)0.0f);
                r = (r * tau + lr * 1.44269504f) * inverse; g = (g * tau + lg * 1.44269504f) * inverse; bl = (bl * tau + lb * 1.44269504f) * inverse;
                tau = sum;
            }
            F after = rest * FN(exp2)(-(tau * l.length));
            F weight = FN(sel)(t->lanes, rest - after, (F)0.0f);
            rest -= weight;
            red += weight * r; green += weight * g; blue += weight * bl;
        }
        live &= rest > w->opaque;
        if (!FN(any)(live)) break;
    }
    // Rays that end before the block does leave the front where they ended: of no use to those that enter behind it.
    p->front = front; p->frontClass = frontClass; p->frontAt = FN(any)(live) ? s.end : -1;
    p->rest = rest; p->red = red; p->green = green; p->blue = blue;
}

#if LANES == 16
/// What the table holds for the class of a sample: sums up to its start and up to its end. They serve the stretches on both sides.
typedef struct { I class, start[4], end[4]; } FN(Sums);
INLINE void FN(sums)(const RayWork *w, F stored, FN(Sums) *s) {
    s->class = FN(classOf)(w, stored);
    int32_t at[LANES];
    memcpy(at, &s->class, sizeof at);
    I order[2][4];
#define BOTH(n) _mm256_loadu_si256((const __m256i *)(w->classes + at[n]))
#pragma clang loop unroll(full)
    for (int h = 0; h < 2; h++) {
        I z[4];
#pragma clang loop unroll(full)
        for (int n = 0; n < 4; n++) z[n] = (I)_mm512_inserti64x4(_mm512_castsi256_si512(BOTH(8 * h + n)), BOTH(8 * h + 4 + n), 1);
        FN(transpose)(z, order[h]);
    }
#undef BOTH
#pragma clang loop unroll(full)
    for (int m = 0; m < 4; m++) {
        s->start[m] = __builtin_shufflevector(order[0][m], order[1][m], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
        s->end[m] = __builtin_shufflevector(order[0][m], order[1][m], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
}
/// `lookUp` between two samples, for rays that cross all of it.
INLINE FN(Lookup) FN(lookUpBetween)(const RayWork *w, const FN(Sums) *a, const FN(Sums) *b, F length) {
    const I rising = a->class <= b->class;
    I sum[4];
#pragma clang loop unroll(full)
    for (int m = 0; m < 4; m++) sum[m] = (rising ? b->end[m] : a->end[m]) - (rising ? a->start[m] : b->start[m]);
    const I classes = FN(maxi)(a->class, b->class) + 1 - FN(mini)(a->class, b->class);
    const F e = FN(toF)(sum[0]), perExtinction = FN(sel)(sum[0] > 0, FN(inverse)(e), (F)0.0f);
    return (FN(Lookup)){ sum[0], e * w->extinctionScale * FN(inverse)(FN(toF)(classes)), FN(toF)(sum[1]) * perExtinction,
                         FN(toF)(sum[2]) * perExtinction, FN(toF)(sum[3]) * perExtinction, length };
}

/// `compositeBlock` without labels and layers, for a block whose voxels lie in a brick. Samples are looked up once for both sides, and both
/// halves of a step go together: one does not wait for the other. `inner`: all `live` rays cross the whole block, inside the volume.
INLINE void FN(compositeBrick)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, FN(Span) s, I live, const int inner) {
    const int lights = w->shaded || w->gradientOpacity;
#define VALUE(k, plane, part) FN(patched)(f, q, p->u0 + (k) * p->du, p->v0 + (k) * p->dv, plane, part, inner)
    if (p->frontAt != s.start) { p->front = VALUE((float)s.start, s.start, 0); p->frontClass = FN(classOf)(w, p->front); }
    F front = p->front, rest = p->rest, red = p->red, green = p->green, blue = p->blue;
    I frontClass = p->frontClass;
    FN(Sums) ends[2], middle;
    int at = 0, known = 0;          // of the two ends, the front; whether it is there
    for (int n = s.start; n != s.end; n += s.step) {
        const int next = n + s.step;
        const F back = VALUE((float)next, next, 0);
        const I backClass = FN(classOf)(w, back);
        const int seen = FN(any)(live & (FN(maxi)(frontClass, backClass) >= f->clear));
        frontClass = backClass;
        if (!seen) { front = back; known = 0; continue; }
        // Rays that begin or end within the step have other values at its ends, and less of it.
        const float lowK = (float)(f->forward ? n : next), highK = lowK + 1;
        const int whole = inner || !FN(any)(live & ((p->enter > lowK) | (p->leave < highK)));
        const F before = front;
        const FN(Sums) *from, *to;
        FN(Lookup) last;
        front = back;
        if (whole) {
            if (!known) FN(sums)(w, before, ends + at);
            known = 1;
            from = ends + at; to = ends + (at ^= 1);
            FN(sums)(w, back, ends + at);
            last = FN(lookUpBetween)(w, from, to, p->length);
        } else {
            known = 0;
            from = to = ends;
            const FN(Part) all = { .front = before, .back = back, .start = (float)n, .end = (float)next };
            last = FN(lookUp)(w, p, &all, 0);
        }
        if (!FN(any)(live & (last.extinction > 0))) continue;
        const I much = live & (I)(f->halves ? -1 : 0) & (rest * FN(minf)(last.tau * last.length * 0.6931472f, (F)1.0f) > RAY_HALVED);
        if (FN(any)(much)) {
            // Both halves for rays to which the step gives much; all others take the whole step with the second.
            const int low = f->forward ? n : next;
            const F between = VALUE((float)low + 0.5f, low, 0.5f), half = p->length * 0.5f;
            FN(Lookup) first, second;
            if (whole) {
                FN(sums)(w, between, &middle);
                first = FN(lookUpBetween)(w, from, &middle, half); second = FN(lookUpBetween)(w, &middle, to, half);
            } else {
                const FN(Part) one = { .front = before, .back = between, .start = (float)n, .end = (float)low + 0.5f };
                const FN(Part) two = { .front = between, .back = back, .start = (float)low + 0.5f, .end = (float)next };
                first = FN(lookUp)(w, p, &one, 0); second = FN(lookUp)(w, p, &two, 0);
            }
            last.tau = FN(sel)(much, second.tau, last.tau); last.length = FN(sel)(much, second.length, last.length);
            last.red = FN(sel)(much, second.red, last.red); last.green = FN(sel)(much, second.green, last.green); last.blue = FN(sel)(much, second.blue, last.blue);
            if (lights && p->litAt != n && FN(any)(much & (first.extinction > 0))) FN(shade)(w, f, c, q, p, n, VOXELS_INT16, 0, inner);
            const F light = w->shaded ? p->lit : (F)1.0f, gloss = w->shaded ? p->gloss : (F)0.0f;
            const F after = rest * FN(exp2)(-(first.tau * (w->gradientOpacity ? p->steep : (F)1.0f) * first.length));
            const F weight = FN(sel)(much, rest - after, (F)0.0f);
            rest -= weight;
            red += weight * (first.red * light + gloss); green += weight * (first.green * light + gloss); blue += weight * (first.blue * light + gloss);
        }
        if (lights && p->litAt != next) FN(shade)(w, f, c, q, p, next, VOXELS_INT16, 0, inner);
        const F light = w->shaded ? p->lit : (F)1.0f, gloss = w->shaded ? p->gloss : (F)0.0f;
        const F after = rest * FN(exp2)(-(last.tau * (w->gradientOpacity ? p->steep : (F)1.0f) * last.length));
        const F weight = FN(sel)(live, rest - after, (F)0.0f);
        rest -= weight;
        red += weight * (last.red * light + gloss); green += weight * (last.green * light + gloss); blue += weight * (last.blue * light + gloss);
        live &= rest > w->opaque;
        if (!FN(any)(live)) break;
    }
#undef VALUE
    p->front = front; p->frontClass = frontClass; p->frontAt = FN(any)(live) ? s.end : -1;
    p->rest = rest; p->red = red; p->green = green; p->blue = blue;
}
/// At the faces of the volume, and where rays begin or end. In one place: it is long.
static __attribute__((noinline)) void FN(compositeFace)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, FN(Span) s, I live) {
    FN(compositeBrick)(w, f, c, q, p, s, live, 0);
}
/// 0 when the block has to be done otherwise.
INLINE int FN(compositePatched)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, const Block *b) {
    if (f->substeps != 1 || w->labelCount || w->layerCount || !FN(fits)(q)) return 0;
    const FN(Span) s = FN(span)(f, b->layer);
    const float lowK = (float)(f->forward ? s.start : s.end), highK = (float)(f->forward ? s.end : s.start);
    const I live = (p->rest > w->opaque) & (p->enter <= p->leave) & (p->enter < highK) & (p->leave > lowK);
    if (!FN(any)(live)) return 1;
    if (b->inner && !FN(any)(live & ((p->enter > lowK) | (p->leave < highK)))) FN(compositeBrick)(w, f, c, q, p, s, live, 1);
    else FN(compositeFace)(w, f, c, q, p, s, live);
    return 1;
}
#endif

INLINE void FN(surfaceBlock)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, const Block *b, int format, int pairs) {
    const FN(Span) s = FN(span)(f, b->layer);
    const float spacing = 1.0f / (float)f->substeps;
    const float lowK = (float)(f->forward ? s.start : s.end) * spacing, highK = (float)(f->forward ? s.end : s.start) * spacing;
    I live = (p->rest > 0) & (p->enter <= p->leave) & (p->enter < highK) & (p->leave > lowK);
    if (!FN(any)(live)) return;
    const int whole = b->inner;
    const int sub = f->substeps;
    if (p->frontAt != s.start) p->front = AT(s.start);
    for (int n = s.start; n != s.end; n += s.step) {
        F front = p->front, back = AT(n + s.step);
        p->front = back;
        I crossing = live & ((front < w->isovalue) != (back < w->isovalue));
        if (!FN(any)(crossing)) continue;
        // Regula falsi with halving (Illinois): the function along the ray is a cubic, five rounds leave 1e-3 voxels at most.
        F a = (F)((float)n * spacing), z = (F)((float)(n + s.step) * spacing);
        F fa = front - w->isovalue, fz = back - w->isovalue, k = a;
        for (int round = 0; round < 5; round++) {
            F down = fa - fz;
            F t = FN(sel)(FN(absf)(down) > 1e-20f, fa / down, (F)0.5f);
            k = a + FN(clampf)(t, 0, 1) * (z - a);
            F value = FN(free)(w, f, p->u0 + k * p->du, p->v0 + k * p->dv, k) - w->isovalue;
            I same = (value < 0) == (fa < 0);
            F nextZ = FN(sel)(same, fz * 0.5f, value), nextA = FN(sel)(same, value, fa * 0.5f);
            a = FN(sel)(same, k, a); z = FN(sel)(same, z, k);
            fa = nextA; fz = nextZ;
        }
        I hit = crossing & (k >= p->enter) & (k <= p->leave);
        if (!FN(any)(hit)) continue;
        F u = p->u0 + k * p->du, v = p->v0 + k * p->dv, one = (F)1.0f;
        F r = (F)w->surface[0], g = (F)w->surface[1], bl = (F)w->surface[2];
        if (w->labelCount) {
            F tr, tg, tb, ta;
            // One lane at a time because the depth differs between lanes.
            for (int l = 0; l < LANES; l++) {
                if (!hit[l]) continue;
                I mute, h = FN(hidden)(w, f, (F)u[l], (F)v[l], k[l], &tr, &tg, &tb, &ta, &mute);
                if (h[0]) hit[l] = 0;
                r[l] += ta[0] * (tr[0] - r[l]); g[l] += ta[0] * (tg[0] - g[l]); bl[l] += ta[0] * (tb[0] - bl[l]);
            }
            if (!FN(any)(hit)) continue;
        }
        F gu = (FN(free)(w, f, u + one, v, k) - FN(free)(w, f, u - one, v, k)) * 0.5f;
        F gv = (FN(free)(w, f, u, v + one, k) - FN(free)(w, f, u, v - one, k)) * 0.5f;
        F gk = (FN(free)(w, f, u, v, k + one) - FN(free)(w, f, u, v, k - one)) * 0.5f;
        FN(light)(w, f, p, gu, gv, gk);
        F lit = p->lit, gloss = p->gloss;
        if (w->reached) {
            F reach;
            for (int l = 0; l < LANES; l++) reach[l] = hit[l] ? FN(reaching)(w, f, (F)u[l], (F)v[l], k[l])[0] : 1;
            lit = w->occludesAmbient ? lit * reach : w->ambient + (lit - w->ambient) * reach;
            gloss *= reach;
        }
        p->red = FN(sel)(hit, r * lit + gloss, p->red);
        p->green = FN(sel)(hit, g * lit + gloss, p->green);
        p->blue = FN(sel)(hit, bl * lit + gloss, p->blue);
        p->rest = FN(sel)(hit, (F)0.0f, p->rest);
        live &= ~hit;
        if (!FN(any)(live)) break;
    }
    p->frontAt = FN(any)(live) ? s.end : -1;
}

/// What a maximum compares: negated for a minimum, paler with depth.
INLINE F FN(ranked)(const RayWork *w, const Packet *p, F k, F value) {
    if (w->fold == RayMinimum) return -value;
    if (w->depthCue > 0) {
        F depth = FN(clampf)((p->t0 + k * p->dt - w->cueNear) * w->cuePerUnit, 0, 1);
        value = w->cueFloor + (value - w->cueFloor) * (1.0f - w->depthCue * depth);
    }
    return value;
}

#if LANES == 16
/// The voxels of a plane around a packet: rows of 8, or 16 where it is `wide`; 8 of them, or 16 where it is `tall`. Two parts hold 64.
typedef struct { __m512i part[8]; } FN(Spread);
INLINE void FN(spread)(const FN(Brick) *b, int u, int v, int k, const int wide, const int tall, FN(Spread) *t) {
    const int16_t *p = b->voxels + ((k - b->k) * BRICK_ROWS + v - b->v) * BRICK_ROW + u - b->u;
#define ROW(n) _mm256_loadu_si256((const __m256i *)(p + (n) * BRICK_ROW))
    if (wide) {
#pragma clang loop unroll(full)
        for (int n = 0; n < (tall ? 8 : 4); n++) t->part[n] = _mm512_inserti64x4(_mm512_castsi256_si512(ROW(2 * n)), ROW(2 * n + 1), 1);
        return;
    }
#undef ROW
#pragma clang loop unroll(full)
    for (int n = 0; n < (tall ? 2 : 1); n++) {
        const FN(Patch) eight = FN(patch)((const char *)(p + 8 * n * BRICK_ROW), 2 * BRICK_ROW);
        t->part[2 * n] = eight.low; t->part[2 * n + 1] = eight.high;
    }
}
/// Whether a voxel that samples look at, `across` columns and `down` rows, reaches the threshold.
INLINE int FN(reaches)(const FN(Spread) *t, int across, int down, __m512i turn, __m512i threshold, const int wide, const int tall) {
    const uint64_t columns = wide ? 0x0001000100010001u * (0xffffu >> (16 - across)) : 0x0101010101010101u * (0xffu >> (8 - across));
    unsigned found = 0;
#pragma clang loop unroll(full)
    for (int n = 0; n < (wide + 1) * (tall + 1); n++) {
        const int words = down * (wide ? 16 : 8) - 64 * n;
        if (n > 0 && words <= 0) break;
        const uint64_t seen = columns & ~(uint64_t)0 >> (words < 64 ? 64 - words : 0);
        found |= _mm512_mask_cmpge_epi16_mask((__mmask32)seen, _mm512_xor_si512(t->part[2 * n], turn), threshold) |
                 _mm512_mask_cmpge_epi16_mask((__mmask32)(seen >> 32), _mm512_xor_si512(t->part[2 * n + 1], turn), threshold);
    }
    return found != 0;
}
/// Bilinear, times 16384.
INLINE F FN(bilinearSpread)(const FN(Spread) *t, const FN(Places) *s, const int wide, const int tall) {
    I rows[2];
#pragma clang loop unroll(full)
    for (int n = 0; n < 2; n++) {
        const __m512i at = (__m512i)(s->index + n * (wide ? 0x100010 : 0x80008));
#define WORDS(n) _mm512_permutex2var_epi16(t->part[2 * (n)], at, t->part[2 * (n) + 1])
        __m512i words = WORDS(0);
        if (wide || tall) words = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(at, _mm512_set1_epi16(64)), words, WORDS(1));
        if (wide && tall) {
            const __m512i more = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(at, _mm512_set1_epi16(64)), WORDS(2), WORDS(3));
            words = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(at, _mm512_set1_epi16(128)), words, more);
        }
#undef WORDS
        rows[n] = (I)_mm512_madd_epi16(words, (__m512i)s->weights);
    }
    return FN(lerp)(FN(toF)(rows[0]), FN(toF)(rows[1]), s->v);
}

/// Maximum or minimum of a block whose voxels lie in a brick: its planes and, when asked for, half way between them. No sample exceeds
/// all voxels around it, so planes without a voxel above what all rays have found are left out: most of them.
INLINE void FN(extremePlanes)(const RayWork *w, const Frame *f, const FN(Window) *q, Packet *p, const Block *b, int between, const int wide, const int tall) {
    const float low = q->low, high = low + RAY_CELL;
    const I live = (p->enter <= p->leave) & (p->enter <= high) & (p->leave >= low) & (p->best < b->bound);
    if (!FN(any)(live)) return;
    const int falling = w->fold == RayMinimum;
    const float least = floorf(__builtin_reduce_min(FN(sel)(live, p->best, (F)INFINITY)));
    // For a minimum of all bits turned, which is one less than negated.
    const float needed = fmaxf(falling ? least : least + 1, INT16_MIN);
    if (needed > INT16_MAX) return;
    const __m512i threshold = _mm512_set1_epi16((short)needed), turn = _mm512_set1_epi16(falling ? -1 : 0);
    // One spread serves the plane and half a plane to both sides: its first voxel, and the columns and rows that samples look at.
    typedef float Planes __attribute__((ext_vector_type(8)));
    typedef int32_t Places __attribute__((ext_vector_type(8)));
    const Planes ordinal = { 0, 1, 2, 3, 4, 4, 4, 4 }, before = { 0, 0.5f, 1.5f, 2.5f, 3.5f, 4, 4, 4 }, behind = { 0.5f, 1.5f, 2.5f, 3.5f, 4, 4, 4, 4 };
    const Planes from = between ? before : ordinal, to = between ? behind : ordinal;
    Planes lowU = __builtin_elementwise_min(from * q->du, to * q->du) + (q->u - 0.01f), lowV = __builtin_elementwise_min(from * q->dv, to * q->dv) + (q->v - 0.01f);
    Planes highU = __builtin_elementwise_max(from * q->du, to * q->du) + (q->u + q->extentU + 0.01f);
    Planes highV = __builtin_elementwise_max(from * q->dv, to * q->dv) + (q->v + q->extentV + 0.01f);
    const float limitU = (float)(f->size[0] - 1), limitV = (float)(f->size[1] - 1);
    if (!b->inner) {
#define WITHIN(x, limit) __builtin_elementwise_min(__builtin_elementwise_max(x, (Planes)0.0f), (Planes)(limit))
        lowU = WITHIN(lowU, limitU); highU = WITHIN(highU, limitU); lowV = WITHIN(lowV, limitV); highV = WITHIN(highV, limitV);
#undef WITHIN
    }
    const Places cornerU = __builtin_convertvector(lowU, Places), cornerV = __builtin_convertvector(lowV, Places);
    const Places columns = __builtin_convertvector(highU, Places) - cornerU + 2, rows = __builtin_convertvector(highV, Places) - cornerV + 2;
    int32_t a[8], c[8], across[8], down[8];
    memcpy(a, &cornerU, sizeof a); memcpy(c, &cornerV, sizeof c); memcpy(across, &columns, sizeof across); memcpy(down, &rows, sizeof down);
    FN(Spread) planes[RAY_CELL + 1];
    unsigned hot = 0;
    // The last layer has a plane at its end.
    const int last = b->layer == f->cells[2] - 1;
#pragma clang loop unroll(full)
    for (int n = 0; n <= RAY_CELL; n++) {
        if (n == RAY_CELL && !between && !last) break;
        FN(spread)(q->brick, a[n], c[n], (int)low + n, wide, tall, planes + n);
        hot |= (unsigned)FN(reaches)(planes + n, across[n], down[n], turn, threshold, wide, tall) << n;
    }
    // Rays that begin or end within the block: sample by sample.
    const int whole = b->inner && !FN(any)(live & ((p->enter > low) | (p->leave < high)));
    __mmask16 in = _mm512_movepi32_mask((__m512i)live);
    const I sign = (I)(falling ? INT32_MIN : 0);
    F best = p->best * PLACE_SCALE;
#define RAISE(k, value) { const F v_ = __builtin_bit_cast(F, __builtin_bit_cast(I, value) ^ sign); \
        if (!whole) in = _mm512_movepi32_mask((__m512i)(live & (p->enter <= (k)) & (p->leave >= (k)))); \
        best = (F)_mm512_mask_max_ps((__m512)best, in, (__m512)best, (__m512)v_); }
#define PLACED(k, n) ({ F u_ = p->u0 + (k) * p->du, v_ = p->v0 + (k) * p->dv; \
        if (!b->inner) { u_ = FN(clampf)(u_, 0, limitU); v_ = FN(clampf)(v_, 0, limitV); } \
        FN(places)(u_, v_, a[n], c[n], wide); })
    for (unsigned left = last ? hot : hot & ((1u << RAY_CELL) - 1); left; left &= left - 1) {
        const int n = __builtin_ctz(left);
        const float k = low + (float)n;
        const FN(Places) s = PLACED(k, n);
        RAISE(k, FN(bilinearSpread)(planes + n, &s, wide, tall))
    }
    for (unsigned left = between ? (hot | hot >> 1) & ((1u << RAY_CELL) - 1) : 0; left; left &= left - 1) {
        const int n = __builtin_ctz(left);
        const float k = low + (float)n + 0.5f;
        FN(Places) s = PLACED(k, n);
        const F before = FN(bilinearSpread)(planes + n, &s, wide, tall);
        s.index += (a[n] - a[n + 1] + (wide ? 16 : 8) * (c[n] - c[n + 1])) * FN(Right);
        RAISE(k, (before + FN(bilinearSpread)(planes + n + 1, &s, wide, tall)) * 0.5f)
    }
#undef RAISE
#undef PLACED
    p->best = best * (1 / PLACE_SCALE);
}
// Each in one place: they are long.
#define EXTREME(name, wide, tall) static __attribute__((noinline)) void FN(name)(const RayWork *w, const Frame *f, const FN(Window) *q, Packet *p, const Block *b, int between) { \
        FN(extremePlanes)(w, f, q, p, b, between, wide, tall); }
EXTREME(extremeNarrow, 0, 0)
EXTREME(extremeWide, 1, 0)
EXTREME(extremeTall, 0, 1)
EXTREME(extremeLarge, 1, 1)
#undef EXTREME

/// `extremePlanes` in the usual case: all rays cross the whole block, inside the volume, and their samples of neighbouring planes lie within
/// 8 × 8 voxels. Then all samples straight away cost less than finding out which can be left out: half way between two planes there
/// are sums of voxels, which need one interpolation instead of two.
static __attribute__((noinline)) void FN(extremeWhole)(const RayWork *w, const FN(Window) *q, Packet *p, I live, int between) {
    typedef float Planes __attribute__((ext_vector_type(RAY_CELL)));
    typedef int32_t Places __attribute__((ext_vector_type(RAY_CELL)));
    const Planes ordinal = { 0, 1, 2, 3 };
    const FN(Brick) *b = q->brick;
    const Places cornerU = __builtin_convertvector(ordinal * q->du + (q->u - 0.01f + fminf(0, 0.5f * q->du)), Places);
    const Places cornerV = __builtin_convertvector(ordinal * q->dv + (q->v - 0.01f + fminf(0, 0.5f * q->dv)), Places);
    const Places plane = __builtin_convertvector(ordinal, Places) + ((int)q->low - b->k);
    const Places first = (plane * BRICK_ROWS + cornerV - b->v) * BRICK_ROW + cornerU - b->u, word = 0x10000 - (cornerV * 8 + cornerU) * FN(Right);
    int32_t at[RAY_CELL], origin[RAY_CELL];
    memcpy(at, &first, sizeof at); memcpy(origin, &word, sizeof origin);
    // `places` with what all samples have in common computed once: in 16384ths along u, in voxels along v.
    const F u = (p->u0 + q->low * p->du) * PLACE_SCALE, du = p->du * PLACE_SCALE, v = p->v0 + q->low * p->dv, dv = p->dv;
    const I sign = (I)(w->fold == RayMinimum ? INT32_MIN : 0);
    F best = (F)-INFINITY, bestBetween = best;
#define RAISE(best, patch, k) { \
        const I across = (I)_mm512_cvtps_epi32((__m512)(u + (k) * du)); \
        const F y = v + (k) * dv; \
        const I part = across & 16383; \
        const FN(Places) s = { ((FN(toI)(y) << 3) + (across >> 14)) * FN(Right) + origin[n], (part << 16) - part + 16384, \
                               (F)_mm512_reduce_ps((__m512)y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC) }; \
        best = FN(maxf)(best, __builtin_bit_cast(F, __builtin_bit_cast(I, FN(bilinear)(patch, &s)) ^ sign)); }
    if (between) {
#pragma clang loop unroll(full)
        for (int n = 0; n < RAY_CELL; n++) {
            const char *voxels = (const char *)(b->voxels + at[n]);
            const FN(Patch) here = FN(patch)(voxels, 2 * BRICK_ROW), next = FN(patch)(voxels + 2 * BRICK_ROW * BRICK_ROWS, 2 * BRICK_ROW);
            const FN(Patch) sum = { _mm512_add_epi16(here.low, next.low), _mm512_add_epi16(here.high, next.high) };
            RAISE(best, here, (float)n)
            RAISE(bestBetween, sum, (float)n + 0.5f)
        }
    } else {
#pragma clang loop unroll(full)
        for (int n = 0; n < RAY_CELL; n++) {
            const FN(Patch) here = FN(patch)((const char *)(b->voxels + at[n]), 2 * BRICK_ROW);
            RAISE(best, here, (float)n)
        }
    }
#undef RAISE
    p->best = FN(sel)(live, FN(maxf)(p->best, FN(maxf)(best, bestBetween * 0.5f) * (1 / PLACE_SCALE)), p->best);
}

/// 0 when the block has to be done otherwise: its voxels do not lie in a brick, or a packet's samples of a plane are too far apart.
INLINE int FN(extremeBlock)(const RayWork *w, const Frame *f, const FN(Window) *q, Packet *p, const Block *b, int between) {
    const float acrossU = q->extentU + (between ? fabsf(q->du) : 0), acrossV = q->extentV + (between ? fabsf(q->dv) : 0);
    if (!q->brick || !(fmaxf(acrossU, acrossV) < 13.9f)) return 0;
    // Steep views and coarse pictures: rays lie further apart than voxels.
    const int wide = acrossU >= 5.9f, tall = acrossV >= 5.9f;
    if (!wide && !tall && b->inner && w->summable) {
        const I live = (p->enter <= p->leave) & (p->enter <= q->low + RAY_CELL) & (p->leave >= q->low) & (p->best < b->bound);
        if (!FN(any)(live)) return 1;
        if (!FN(any)(live & ((p->enter > q->low) | (p->leave < q->low + RAY_CELL)))) { FN(extremeWhole)(w, q, p, live, between); return 1; }
    }
    if (!wide && !tall) FN(extremeNarrow)(w, f, q, p, b, between);
    else if (!tall) FN(extremeWide)(w, f, q, p, b, between);
    else if (!wide) FN(extremeTall)(w, f, q, p, b, between);
    else FN(extremeLarge)(w, f, q, p, b, between);
    return 1;
}
#endif

/// Maximum, minimum (of negated values) and mean. Samples of a block: its start and all between; its end too when no layer follows.
INLINE void FN(foldBlock)(const RayWork *w, const Frame *f, const FN(Corner) *c, const FN(Window) *q, Packet *p, const Block *b, int format, int pairs) {
    const int sub = f->substeps;
    int first = b->layer * RAY_CELL * sub, last = first + RAY_CELL * sub - 1;
    if (b->layer == f->cells[2] - 1) last = f->thin ? sub : (f->size[2] - 1) * sub;
    const float spacing = 1.0f / (float)sub, lowK = (float)first * spacing, highK = (float)last * spacing + (f->between ? 0.5f : 0);
    I live = (p->enter <= p->leave) & (p->enter <= highK) & (p->leave >= lowK);
    if (w->fold != RayMean) live &= p->best < b->bound;
    if (!FN(any)(live)) return;
    const int whole = b->inner && !FN(any)(live & ((p->enter > lowK) | (p->leave < highK)));
    F best = p->best, count = p->count;
    if (f->between && b->layer == f->cells[2] - 1) last--;
    for (int n = first; n <= last; n++) {
        const float at = (float)n * spacing + (f->between ? 0.5f : 0);
        F k = (F)at, value;
        if (f->between) {
            F u = p->u0 + k * p->du, v = p->v0 + k * p->dv;
            value = PATCHED(FN(patched)(f, q, u, v, n, 0.5f, 1))
                whole ? FN(sample)(w, f, c, u, v, f->thin ? 0 : n, 0.5f, format, pairs, 0) : FN(sample)(w, f, c, u, v, f->thin ? 0 : n, 0.5f, format, pairs, 1);
        } else value = AT(n);
        I in = (p->enter <= k) & (p->leave >= k);
        if (w->labelCount) {
            F tr, tg, tb, ta;
            I mute;
            in &= ~FN(hidden)(w, f, p->u0 + k * p->du, p->v0 + k * p->dv, at, &tr, &tg, &tb, &ta, &mute);
        }
        switch (w->fold) {
        case RayMean: best += FN(sel)(in, value, (F)0.0f); count += FN(sel)(in, (F)1.0f, (F)0.0f); break;
        default:
            value = FN(ranked)(w, p, k, value);
            in &= value > best;
            best = FN(sel)(in, value, best);
        }
    }
    p->best = best; p->count = count;
}
#undef AT

INLINE void FN(box)(const FN(Corners) *q, float low, float high, float *u0, float *u1, float *v0, float *v1) {
    *u0 = *v0 = INFINITY; *u1 = *v1 = -INFINITY;
    for (int i = 0; i < 4; i++) {
        float a = q->u0[i] + low * q->du[i], z = q->u0[i] + high * q->du[i];
        *u0 = fminf(*u0, fminf(a, z)); *u1 = fmaxf(*u1, fmaxf(a, z));
        a = q->v0[i] + low * q->dv[i]; z = q->v0[i] + high * q->dv[i];
        *v0 = fminf(*v0, fminf(a, z)); *v1 = fmaxf(*v1, fmaxf(a, z));
    }
}

/// Largest value that cells [u0, u1] × [v0, v1] of a layer may rank with; -infinity when all are empty.
INLINE float FN(rankBound)(const RayWork *w, const Frame *f, int u0, int u1, int v0, int v1, int layer) {
    const int falling = w->fold != RayMaximum;
    const float *cells = (falling ? w->cellMinimum : w->cellMaximum) + layer * f->cellStride[2] + v0 * f->cellStride[1] + u0 * f->cellStride[0];
    const float sign = falling ? -1.0f : 1.0f;
#if LANES == 16
    if (f->cellStride[0] == 1 && u1 - u0 < 8) {
        // Cells that do not count are not read.
        const __mmask8 some = (__mmask8)((2u << (u1 - u0)) - 1);
        const __m256 none = _mm256_set1_ps(-INFINITY), turn = _mm256_set1_ps(falling ? -0.0f : 0.0f);
        __m256 most = none;
#define ROW(at) most = _mm256_max_ps(most, _mm256_mask_xor_ps(none, some, _mm256_maskz_loadu_ps(some, at), turn));
        // Mostly three or four rows: the last one twice costs less than a branch that goes now this way, now that.
        if (v1 - v0 < 4) {
            const int64_t rows = v1 - v0, row = f->cellStride[1];
            ROW(cells) ROW(cells + (rows < 1 ? rows : 1) * row) ROW(cells + (rows < 2 ? rows : 2) * row) ROW(cells + rows * row)
        } else for (int v = v0; v <= v1; v++, cells += f->cellStride[1]) ROW(cells)
#undef ROW
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1)), two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }
#endif
    float high = -INFINITY;
    for (int v = v0; v <= v1; v++, cells += f->cellStride[1])
        for (int u = 0; u <= u1 - u0; u++) { const float c = sign * cells[u * f->cellStride[0]]; high = c > high ? c : high; }
    return high;
}

/// Lists the blocks that can contribute, in the order in which they are to be visited.
static int FN(list)(const RayWork *w, const Frame *f, const FN(Corners) *q, float enter, float leave, Block *out, FN(Corner) *corners) {
    const int first = clampi((int)(enter > 0 ? enter : 0) / RAY_CELL, 0, f->cells[2] - 1), last = clampi((int)leave / RAY_CELL, 0, f->cells[2] - 1);
    const float limitU = (float)(f->size[0] - 1), limitV = (float)(f->size[1] - 1);
    const int searching = w->fold == RayComposite || w->fold == RayIsosurface;
    // Only gradients look at voxels before those around a sample.
    const float rim = w->fold == RayComposite && (w->shaded || w->gradientOpacity) ? 1.01f : 0.02f;
    int n = 0;
    const int step = f->forward ? 1 : -1;
    // Where the tile's rays cross LANES layers, computed at once.
    int group = -1;
    int32_t touched[LANES], inner[LANES], far[LANES], low[2][LANES], high[2][LANES], firstCell[2][LANES], lastCell[2][LANES];
    for (int layer = f->forward ? first : last; layer >= first && layer <= last; layer += step) {
        if (!q->unbounded && searching && layer % 8 == (f->forward ? 0 : 7)) {
            // Eight layers at once: most of a volume is empty.
            float u0, u1, v0, v1;
            int other = clampi(layer + 7 * step, 0, f->cells[2] - 1), nearest = layer < other ? layer : other, farthest = layer < other ? other : layer;
            FN(box)(q, (float)(nearest * RAY_CELL), (float)((farthest + 1) * RAY_CELL), &u0, &u1, &v0, &v1);
            // Across a single voxel rays reach half its size to either side.
            int out_ = !(u1 >= -0.5f && v1 >= -0.5f && u0 <= limitU + 0.5f && v0 <= limitV + 0.5f);
            if (out_ || !occupied(w, f, clampi((int)fmaxf(u0, 0) / RAY_CELL, 0, f->cells[0] - 1), clampi((int)fminf(u1, limitU) / RAY_CELL, 0, f->cells[0] - 1),
                                  clampi((int)fmaxf(v0, 0) / RAY_CELL, 0, f->cells[1] - 1), clampi((int)fminf(v1, limitV) / RAY_CELL, 0, f->cells[1] - 1), nearest, farthest)) {
                layer += 7 * step;
                continue;
            }
        }
        if (layer / LANES != group) {
            group = layer / LANES;
            F k, u0 = (F)0.0f, u1 = (F)limitU, v0 = (F)0.0f, v1 = (F)limitV;
            for (int l = 0; l < LANES; l++) k[l] = (float)((group * LANES + l) * RAY_CELL);
            if (!q->unbounded) {
                u0 = v0 = (F)INFINITY; u1 = v1 = (F)-INFINITY;
                for (int i = 0; i < 4; i++) {
                    F a = q->u0[i] + k * q->du[i], z = a + q->du[i] * RAY_CELL;
                    u0 = FN(minf)(u0, FN(minf)(a, z)); u1 = FN(maxf)(u1, FN(maxf)(a, z));
                    a = q->v0[i] + k * q->dv[i]; z = a + q->dv[i] * RAY_CELL;
                    v0 = FN(minf)(v0, FN(minf)(a, z)); v1 = FN(maxf)(v1, FN(maxf)(a, z));
                }
            }
            // Positions are rounded, so neither the box nor what is inside is taken to the last bit.
            const I within = (u1 >= -0.5f) & (v1 >= -0.5f) & (u0 <= limitU + 0.5f) & (v0 <= limitV + 0.5f);
            const I deep = (u0 >= rim) & (v0 >= rim) & (u1 <= limitU - 1.01f) & (v1 <= limitV - 1.01f) & (k > rim - 1) & (k + RAY_CELL < (float)(f->size[2] - 1));
            const I u0i = FN(toI)(FN(clampf)(u0 - 0.01f, 0, limitU)), v0i = FN(toI)(FN(clampf)(v0 - 0.01f, 0, limitV));
            const I u1i = FN(toI)(FN(clampf)(u1 + 0.01f, 0, limitU)), v1i = FN(toI)(FN(clampf)(v1 + 0.01f, 0, limitV));
            const I c0 = FN(mini)(u0i / RAY_CELL, (I)(f->cells[0] - 1)), c1 = FN(mini)(u1i / RAY_CELL, (I)(f->cells[0] - 1));
            const I d0 = FN(mini)(v0i / RAY_CELL, (I)(f->cells[1] - 1)), d1 = FN(mini)(v1i / RAY_CELL, (I)(f->cells[1] - 1));
            // 32-bit offsets reach a little beyond the box, for gradients.
            const I wide = FN(toF)(u1i - u0i + 4) * (float)f->step[0] + FN(toF)(v1i - v0i + 4) * (float)f->step[1] > 1e9f, safe = deep & ~wide;
            memcpy(touched, &within, sizeof touched); memcpy(inner, &safe, sizeof inner); memcpy(far, &wide, sizeof far);
            memcpy(firstCell[0], &c0, sizeof c0); memcpy(firstCell[1], &d0, sizeof d0); memcpy(lastCell[0], &c1, sizeof c1); memcpy(lastCell[1], &d1, sizeof d1);
            memcpy(low[0], &u0i, sizeof u0i); memcpy(low[1], &v0i, sizeof v0i); memcpy(high[0], &u1i, sizeof u1i); memcpy(high[1], &v1i, sizeof v1i);
        }
        const int l = layer % LANES;
        if (!touched[l]) continue;
        const int u0 = low[0][l], u1 = high[0][l], v0 = low[1][l], v1 = high[1][l];
        Block b = { layer, !q->unbounded && inner[l], 0, 0 };
        const int c0 = firstCell[0][l], c1 = lastCell[0][l], d0 = firstCell[1][l], d1 = lastCell[1][l];
        if (searching) { if (!occupied(w, f, c0, c1, d0, d1, layer, layer)) continue; }
        else if (w->fold != RayMean) {
            float bound = FN(rankBound)(w, f, c0, c1, d0, d1, layer);
            if (bound == -INFINITY) continue;
            if (w->depthCue > 0) bound = fmaxf(bound, w->cueFloor);
            b.bound = bound + fabsf(bound) * 1e-6f;
        }
        corners[n] = (FN(Corner)){ u0, v0, far[l], u1 - u0 + 2, v1 - v0 + 2 };
        out[n++] = b;
    }
    return n;
}

/// Asks for the voxels of the block that comes next while this one is computed: in order of rank, or a slice away, no prefetcher
/// of the processor finds them. Not for the nearest cache, where rows a slice apart would push each other out of one set.
INLINE void FN(fetch)(const RayWork *w, const Frame *f, const FN(Corner) *c, int plane, int planes) {
    const int bytes = w->format == VOXELS_INT16 ? 2 : 4;
    const char *p = (const char *)w->voxels + bytes * (plane * f->step[2] + c->u * f->step[0] + c->v * f->step[1]);
    const int alongX = f->axis[2] == 0;
    // Cells along the axis that does not run through memory, lines of memory along x.
    const int columns = alongX ? c->acrossU < 16 ? c->acrossU : 16 : planes, rows = c->acrossV < 16 ? c->acrossV : 16;
    const int64_t column = bytes * f->step[alongX ? 0 : 2], row = bytes * f->step[1];
    // Rows of voxels may go on in the next line of the cache.
    const int64_t end = alongX ? 0 : bytes * (c->acrossU < 32 ? c->acrossU : 32) - 1;
    for (int i = 0; i < columns; i++) for (int j = 0; j < rows; j++) {
        const char *q = p + i * column + j * row;
        __builtin_prefetch(q, 0, 1);
        if (((uintptr_t)(q + end) ^ (uintptr_t)q) & ~(uintptr_t)63) __builtin_prefetch(q + end, 0, 1);
    }
}

/// Where the packets' own rays, fewer than the tile's, cross a block.
INLINE void FN(cross)(const Frame *f, const FN(Edges) *edges, int packets, int layer, FN(Crossing) *x) {
    const float low = (float)(layer * RAY_CELL), high = low + RAY_CELL;
    I limit;
    for (int l = 0; l < LANES; l++) limit[l] = f->cells[l >> 1 & 1] - 1;
    for (int i = 0; i < packets * 4 / LANES; i++) {
        const FN(Edges) *e = edges + i;
        const F at[4] = { e->u0 + low * e->du, e->u0 + high * e->du, e->v0 + low * e->dv, e->v0 + high * e->dv };
        F corner[4];
        FN(transpose)((const I *)at, (I *)corner);
        const F least = FN(minf)(FN(minf)(corner[0], corner[1]), FN(minf)(corner[2], corner[3]));
        const F most = FN(maxf)(FN(maxf)(corner[0], corner[1]), FN(maxf)(corner[2], corner[3]));
#if LANES == 16
#define OTHER(a) __builtin_shufflevector(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#else
#define OTHER(a) __builtin_shufflevector(a, a, 1, 0, 3, 2, 5, 4, 7, 6)
#endif
        const F from = FN(minf)(least, OTHER(least)) - 0.01f, to = FN(maxf)(most, OTHER(most)) + 0.01f;
#undef OTHER
        const I first = FN(mini)(FN(toI)(FN(maxf)(from, (F)0.0f)) / RAY_CELL, limit), last = FN(mini)(FN(toI)(FN(maxf)(to, (F)0.0f)) / RAY_CELL, limit);
        memcpy(x->least + i * LANES, &least, sizeof least); memcpy(x->most + i * LANES, &most, sizeof most);
        memcpy(x->first + i * LANES, &first, sizeof first); memcpy(x->last + i * LANES, &last, sizeof last);
    }
}

/// Whether packet i can gain anything from a block.
INLINE int FN(gains)(const RayWork *w, const Frame *f, const FN(Crossing) *x, int i, const Packet *p, int layer) {
    const int32_t *first = x->first + 4 * i, *last = x->last + 4 * i;
    if (w->fold == RayComposite || w->fold == RayIsosurface) return occupied(w, f, first[0], last[0], first[2], last[2], layer, layer);
    if (w->fold == RayMean) return 1;
    float bound = FN(rankBound)(w, f, first[0], last[0], first[2], last[2], layer);
    if (w->depthCue > 0) bound = fmaxf(bound, w->cueFloor);
    return FN(any)((p->enter <= p->leave) & (p->best < bound + fabsf(bound) * 1e-6f));
}

INLINE void FN(window)(const FN(Crossing) *x, int i, int layer, FN(Window) *q) {
    const float *least = x->least + 4 * i, *most = x->most + 4 * i;
    q->low = (float)(layer * RAY_CELL);
    q->u = least[0]; q->du = (least[1] - least[0]) * (1.0f / RAY_CELL);
    q->v = least[2]; q->dv = (least[3] - least[2]) * (1.0f / RAY_CELL);
    q->extentU = fmaxf(most[0] - least[0], most[1] - least[1]);
    q->extentV = fmaxf(most[2] - least[2], most[3] - least[3]);
}

/// Index of the largest of the bounds, which is then struck out; -1 when none is left.
INLINE int FN(largest)(F *bounds, int vectors) {
    F most = (F)-INFINITY;
    for (int i = 0; i < vectors; i++) most = FN(maxf)(most, bounds[i]);
    const float top = __builtin_reduce_max(most);
    if (top == -INFINITY) return -1;
    int i = 0, l = 0;
    while (!FN(any)(bounds[i] == top)) i++;
#if LANES == 16
    l = __builtin_ctz(_mm512_cmp_ps_mask((__m512)bounds[i], _mm512_set1_ps(top), _CMP_EQ_OQ));
#else
    while (bounds[i][l] != top) l++;
#endif
    bounds[i][l] = -INFINITY;
    return i * LANES + l;
}

/// Marches the packets' rays through the frame.
static void FN(march)(const RayWork *w, const Frame *f, const FN(Corners) *q, Packet *packets, int packetCount) {
    float enter = INFINITY, leave = -INFINITY;
    for (int i = 0; i < packetCount; i++) {
        Packet *p = packets + i;
        p->frontAt = p->litAt = -1;
        I hit = p->enter <= p->leave;
        enter = fminf(enter, __builtin_reduce_min(FN(sel)(hit, p->enter, (F)INFINITY)));
        leave = fmaxf(leave, __builtin_reduce_max(FN(sel)(hit, p->leave, (F)-INFINITY)));
    }
    if (!(enter <= leave)) return;
    Block blocks[RAY_LONGEST_AXIS / RAY_CELL];
    FN(Corner) corners[RAY_LONGEST_AXIS / RAY_CELL];
    const int count = FN(list)(w, f, q, enter, leave, blocks, corners);
    const int pairs = f->axis[0] == 0;
    FN(Edges) edges[PACKETS * 4 / LANES];
    for (int i = 0; i < packetCount; i++) for (int n = 0; n < 4; n++) {
        const Packet *p = packets + i;
        FN(Edges) *e = edges + i * 4 / LANES;
        const int from = (n & 1 ? 3 : 0) + (n & 2 ? LANES - 4 : 0), l = i * 4 % LANES + n;
        e->u0[l] = p->u0[from]; e->du[l] = p->du[from]; e->v0[l] = p->v0[from]; e->dv[l] = p->dv[from];
    }

#if LANES == 16
    FN(Brick) brick;
    brick.layer = -1;
    const int margin = w->fold == RayComposite && (w->shaded || w->gradientOpacity);
    const int fresh = f->forward ? 1 + margin : -margin;
    // Extremes without labels and depth: both kinds of samples at once.
    const int plain = (w->fold == RayMaximum || w->fold == RayMinimum) && f->substeps == 1 && !w->labelCount && !(w->depthCue > 0);
    // Bricks at the faces of the volume serve those, and composites.
    const int bricked = plain || w->fold == RayComposite;
#define FETCH_BRICK if (w->format == VOXELS_INT16 && (b_->inner || (bricked && !f->thin && !q->unbounded)) && (brick.layer == b_->layer || FN(fill)(w, f, c_, b_->layer, margin, &brick))) q_.brick = &brick; \
            if (plain) { if (FN(extremeBlock)(w, f, &q_, packets + i, b_, w->substeps == 2)) { b_->done |= 1 << i; continue; } } \
            else if (w->fold == RayComposite && FN(compositePatched)(w, f, c_, &q_, packets + i, b_)) continue;
#else
    const int fresh = 0;
#define FETCH_BRICK
#endif
#define EACH_PACKET(block, function) { Block *b_ = (block); const FN(Corner) *c_ = corners + (b_ - blocks); \
        FN(Crossing) x_; \
        if (!q->unbounded) FN(cross)(f, edges, packetCount, b_->layer, &x_); \
        for (int i = 0; i < packetCount; i++) { \
            FN(Window) q_ = { 0 }; \
            if (b_->done >> i & 1) continue; \
            if (!q->unbounded) { \
                if (!FN(gains)(w, f, &x_, i, packets + i, b_->layer)) continue; \
                FN(window)(&x_, i, b_->layer, &q_); \
            } \
            FETCH_BRICK \
            if (w->format == VOXELS_INT16) { if (pairs) FN(function)(w, f, c_, &q_, packets + i, b_, VOXELS_INT16, 1); else FN(function)(w, f, c_, &q_, packets + i, b_, VOXELS_INT16, 0); } \
            else if (pairs) FN(function)(w, f, c_, &q_, packets + i, b_, VOXELS_FLOAT32, 1); else FN(function)(w, f, c_, &q_, packets + i, b_, VOXELS_FLOAT32, 0); } }

    switch (w->fold) {
    case RayComposite:
    case RayIsosurface: {
        int ended = 0;              // a bit a packet whose rays all have
        for (int n = 0; n < count && ended != (1 << packetCount) - 1; n++) {
            // The planes that the block before does not hold.
            if (n + 1 < count) FN(fetch)(w, f, corners + n + 1, blocks[n + 1].layer * RAY_CELL + fresh, RAY_CELL);
            blocks[n].done = ended;
            if (w->fold == RayComposite) EACH_PACKET(blocks + n, compositeBlock) else EACH_PACKET(blocks + n, surfaceBlock)
            for (int i = 0; i < packetCount; i++)
                if (!FN(any)((packets[i].enter <= packets[i].leave) & (packets[i].rest > w->opaque))) ended |= 1 << i;
        }
        break;
    }
    case RayMean:
        for (int n = 0; n < count; n++) EACH_PACKET(blocks + n, foldBlock)
        break;
    default: {
        // Largest first: a maximum does not care for order, and soon no other block can raise it. Few are visited, so each is looked
        // for when its turn comes; and its voxels are asked for one turn before.
        F bounds[RAY_LONGEST_AXIS / RAY_CELL / LANES];
        int32_t order[RAY_LONGEST_AXIS / RAY_CELL];
        int visited = 0, vectors = 0;
        for (int n = 0; n < count; n += LANES, vectors++)
            for (int l = 0; l < LANES; l++) bounds[vectors][l] = n + l < count ? blocks[n + l].bound : -INFINITY;
        // Along x the bricks of blocks before have mostly brought the lines already.
        const int known = LANES == 16 && w->format == VOXELS_INT16 && f->axis[2] == 0;
        for (int next = FN(largest)(bounds, vectors); next >= 0;) {
            Block *b = blocks + next;
            I live = (I)0;
            for (int i = 0; i < packetCount; i++) live |= (packets[i].enter <= packets[i].leave) & (packets[i].best < b->bound);
            if (!FN(any)(live)) break;
            order[visited++] = next;
            next = FN(largest)(bounds, vectors);
            if (next >= 0 && !known) FN(fetch)(w, f, corners + next, blocks[next].layer * RAY_CELL, RAY_CELL + 1);
            EACH_PACKET(b, foldBlock)
        }
        if (f->between || w->substeps != 2) break;
        // Now half way between planes, where hardly any block can still raise what was found.
        Frame between = *f;
        between.between = 1;
        f = &between;
        for (int n = 0; n < visited; n++) {
            Block *b = blocks + order[n];
            I live = (I)0;
            for (int i = 0; i < packetCount; i++) live |= (packets[i].enter <= packets[i].leave) & (packets[i].best < b->bound);
            if (!FN(any)(live)) break;
            EACH_PACKET(b, foldBlock)
        }
    }
    }
#undef EACH_PACKET
#undef FETCH_BRICK
}

/// A ray as it comes from the camera.
INLINE void FN(ray)(const RayWork *w, float x, float y, float o[3], float d[3]) {
    for (int a = 0; a < 3; a++) {
        o[a] = w->origin[a] + x * w->originX[a] + y * w->originY[a];
        d[a] = w->direction[a] + x * w->directionX[a] + y * w->directionY[a];
    }
}
INLINE int FN(steepest)(const float d[3]) {
    float x = fabsf(d[0]), y = fabsf(d[1]), z = fabsf(d[2]);
    return x > y && x > z ? 0 : y > z ? 1 : 2;
}

/// Places the packets' rays along the frame, `across` packets side by side. `steepestOnly`: lanes with another steepest axis or direction are left out.
static void FN(setUp)(const RayWork *w, const Frame *f, float x0, float y0, int across, int steepestOnly, Packet *packets) {
    F laneX, laneY;
    for (int l = 0; l < LANES; l++) { laneX[l] = (float)(l & 3); laneY[l] = (float)(l >> 2); }
    for (int i = 0; i < across * RAY_TILE / PACKET_ROWS; i++) {
        Packet *p = packets + i;
        F x = laneX + (x0 + (float)(i % across) * 4), y = laneY + (y0 + (float)(i / across) * PACKET_ROWS);
        F o[3], d[3];
        for (int a = 0; a < 3; a++) {
            o[a] = w->origin[a] + x * w->originX[a] + y * w->originY[a];
            d[a] = w->direction[a] + x * w->directionX[a] + y * w->directionY[a];
        }
        F low = (F)w->near, high = (F)INFINITY;
        I miss = (I)0;
        for (int a = 0; a < 3; a++) {
            // A single voxel reaches half its size to either side; several end at their centres.
            float from = w->size[a] > 1 ? 0 : -0.5f, to = w->size[a] > 1 ? (float)(w->size[a] - 1) : 0.5f;
            I parallel = FN(absf)(d[a]) < 1e-9f;
            F inverse = 1.0f / FN(sel)(parallel, (F)1.0f, d[a]);
            F s = (from - o[a]) * inverse, e = (to - o[a]) * inverse;
            low = FN(sel)(parallel, low, FN(maxf)(FN(minf)(s, e), low));
            high = FN(sel)(parallel, high, FN(minf)(FN(maxf)(s, e), high));
            miss |= parallel & ((o[a] < from) | (o[a] > to));
        }
        for (int n = 0; n < w->cuts; n++) {
            const float *c = w->cut[n];
            F slope = d[0] * c[0] + d[1] * c[1] + d[2] * c[2], room = c[3] - (o[0] * c[0] + o[1] * c[1] + o[2] * c[2]);
            I parallel = FN(absf)(slope) < 1e-9f;
            F t = room / FN(sel)(parallel, (F)1.0f, slope);
            low = FN(sel)(~parallel & (slope < 0), FN(maxf)(t, low), low);
            high = FN(sel)(~parallel & (slope > 0), FN(minf)(t, high), high);
            miss |= parallel & (room < 0);
        }
        F ou = o[f->axis[0]], ov = o[f->axis[1]], ok = o[f->axis[2]] + (f->thin ? 0.5f : 0);
        F du = d[f->axis[0]], dv = d[f->axis[1]], dk = d[f->axis[2]];
        if (steepestOnly)
            for (int l = 0; l < LANES; l++) {
                float one[3] = { d[0][l], d[1][l], d[2][l] };
                if (FN(steepest)(one) != f->axis[2] || (dk[l] > 0) != f->forward) miss[l] = -1;
            }
        F inverse = 1.0f / FN(sel)(FN(absf)(dk) < 1e-9f, (F)1.0f, dk);
        p->du = du * inverse; p->dv = dv * inverse;
        p->u0 = ou - ok * p->du; p->v0 = ov - ok * p->dv;
        p->dt = inverse; p->t0 = -ok * inverse;
        F a = ok + low * dk, z = ok + high * dk;
        miss |= ~(low <= high);
        const float top = f->thin ? 1 : (float)(f->size[2] - 1);
        p->enter = FN(sel)(miss, (F)1.0f, FN(maxf)(FN(minf)(a, z), (F)0.0f));
        p->leave = FN(sel)(miss, (F)-1.0f, FN(minf)(FN(maxf)(a, z), (F)top));
        // A plane within rounding of the first or last position counts as inside.
        F slack = (F)2e-4f;
        p->enter = FN(sel)(miss, p->enter, FN(maxf)(p->enter - slack, (F)0.0f)); p->leave = FN(sel)(miss, p->leave, FN(minf)(p->leave + slack, (F)top));
        F sx = x * w->slopeX + w->slopeX0, sy = y * w->slopeY + w->slopeY0;
        F length = __builtin_elementwise_sqrt(1.0f + sx * sx + sy * sy), unit = 1.0f / length;
        p->length = length * FN(absf)(inverse);
        p->viewX = (w->forward[0] + sx * w->right[0] + sy * w->down[0]) * unit;
        p->viewY = (w->forward[1] + sx * w->right[1] + sy * w->down[1]) * unit;
        p->viewZ = (w->forward[2] + sx * w->right[2] + sy * w->down[2]) * unit;
    }
}

/// The frame of the axis along which the rays of an area advance fastest, and the rays at its corners; unbounded: they look along several.
static void FN(corners)(const RayWork *w, float x0, float y0, int columns, Frame *f, FN(Corners) *q) {
    float o[4][3], d[4][3], center[3], unused[3];
    FN(ray)(w, x0 + 0.5f * (float)(columns - 1), y0 + 0.5f * (RAY_TILE - 1), unused, center);
    const int axis = FN(steepest)(center), forward = center[axis] > 0;
    q->unbounded = 0;
    for (int i = 0; i < 4; i++) {
        FN(ray)(w, x0 + (float)(i & 1 ? columns - 1 : 0), y0 + (i & 2 ? RAY_TILE - 1 : 0), o[i], d[i]);
        float most = fmaxf(fabsf(d[i][0]), fmaxf(fabsf(d[i][1]), fabsf(d[i][2])));
        if ((d[i][axis] > 0) != forward || fabsf(d[i][axis]) < 0.5f * most) q->unbounded = 1;
    }
    frameAlong(w, axis, forward, f);
    if (q->unbounded) return;
    for (int i = 0; i < 4; i++) {
        float inverse = 1 / d[i][axis];
        q->du[i] = d[i][f->axis[0]] * inverse; q->u0[i] = o[i][f->axis[0]] - (o[i][axis] + (f->thin ? 0.5f : 0)) * q->du[i];
        q->dv[i] = d[i][f->axis[1]] * inverse; q->v0[i] = o[i][f->axis[1]] - (o[i][axis] + (f->thin ? 0.5f : 0)) * q->dv[i];
    }
}

/// Computes an area of the picture as wide as `columns`.
static void FN(area)(const RayWork *w, int firstX, int firstY, int columns) {
    const int across = columns / 4, count = columns * RAY_TILE / LANES, clear = w->fold == RayComposite ? clearClass(w) : 0;
    Packet packets[PACKETS];
    F sums[PACKETS][3];
    memset(sums, 0, sizeof sums);
    const int passes = w->picture && w->passes > 1 ? w->passes : 1;
    for (int pass = 0; pass < passes; pass++) {
        float jx, jy;
        jitter(pass, passes, &jx, &jy);
        const float x0 = (float)firstX + jx, y0 = (float)firstY + jy;
        for (int i = 0; i < count; i++) {
            Packet *p = packets + i;
            // Of light none yet: halves that give nothing are weighed with it all the same, by 0.
            p->red = p->green = p->blue = p->count = p->lit = p->gloss = p->steep = (F)0.0f;
            p->rest = (F)1.0f;
            p->best = (F)(w->fold == RayMean ? 0.0f : -INFINITY);
        }
        Frame f;
        FN(Corners) q;
        FN(corners)(w, x0, y0, columns, &f, &q);
        f.clear = clear;
        if (!q.unbounded) {
            FN(setUp)(w, &f, x0, y0, across, 0, packets);
            FN(march)(w, &f, &q, packets, count);
        } else {
            // A tile of a very wide view looks along several axes: each ray is marched along its own.
            for (int k = 0; k < 6; k++) {
                frameAlong(w, k >> 1, k & 1, &f);
                f.clear = clear;
                FN(setUp)(w, &f, x0, y0, across, 1, packets);
                FN(march)(w, &f, &q, packets, count);
            }
        }
        for (int i = 0; i < count; i++) { sums[i][0] += packets[i].red; sums[i][1] += packets[i].green; sums[i][2] += packets[i].blue; }
    }
    for (int i = 0; i < count; i++) {
        const Packet *p = packets + i;
        F value = p->best;
        I missed = p->best == -INFINITY;
        if (w->fold == RayMean) { missed = p->count < 0.5f; value = p->best / FN(maxf)(p->count, (F)1.0f); }
        if (w->fold == RayMinimum) value = -value;
        value = FN(sel)(missed, (F)w->background, value * w->slope + w->intercept);
        const F scale = (F)(255.0f / (float)passes), half = (F)0.5f, most = (F)255.0f;
        I level[3];
        for (int n = 0; n < 3; n++) level[n] = FN(toI)(FN(minf)(sums[i][n] * scale + half, most));
        const I shown = w->picture ? level[0] | level[1] << 8 | level[2] << 16 | (I)(int32_t)0xff000000 : __builtin_bit_cast(I, value);
        int32_t pixels[LANES];
        memcpy(pixels, &shown, sizeof pixels);
        // Four pixels of a row after the other.
        const int x = firstX + i % across * 4, columns_ = w->width - x < 4 ? w->width - x : 4;
        for (int row = 0; row < PACKET_ROWS; row++) {
            const int y = firstY + i / across * PACKET_ROWS + row;
            if (columns_ <= 0 || y >= w->height) break;
            const int64_t pixel = (int64_t)y * w->width + x;
            memcpy(w->picture ? (void *)(w->picture + 4 * pixel) : (void *)(w->values + pixel), pixels + 4 * row, 4 * (size_t)columns_);
        }
    }
}

static void FN(tile)(const RayWork *w, int tileX, int tileY, int columns) {
    const int x = tileX * columns, y = tileY * RAY_TILE;
    if (columns == RAY_TILE) { FN(area)(w, x, y, RAY_TILE); return; }
#if LANES == 16
    // As a whole where both halves look along the same axis and the voxels around a block are few enough to be copied: lists, and lines
    // of memory that both need, are then there once. Extremes, which visit blocks in their own order, gain from it only in fine pictures
    // and along x, where a line of memory holds many blocks.
    Frame left, right, whole;
    FN(Corners) corners, q;
    FN(corners)(w, (float)x, (float)y, RAY_TILE, &left, &corners);
    FN(corners)(w, (float)(x + RAY_TILE), (float)y, RAY_TILE, &right, &corners);
    FN(corners)(w, (float)x, (float)y, RAY_TILE_WIDTH, &whole, &q);
    if (x + RAY_TILE < w->width && left.axis[2] == right.axis[2] && left.forward == right.forward && whole.axis[2] == left.axis[2] && !q.unbounded) {
        const float around = w->fold == RayComposite ? 5 : 3;
        // In a perspective blocks behind the middle are larger; few of them do not fit.
        const float middle = 0.5f * (float)whole.size[2];
        float u0, u1, v0, v1;
        FN(box)(&q, middle, middle + RAY_CELL, &u0, &u1, &v0, &v1);
        if (u1 - u0 + around <= (w->fold == RayComposite || whole.axis[2] == 0 ? BRICK_ROW : BRICK_ROW / 2) && v1 - v0 + around <= BRICK_ROWS) {
            FN(area)(w, x, y, RAY_TILE_WIDTH);
            return;
        }
    }
#endif
    FN(area)(w, x, y, RAY_TILE);
    if (x + RAY_TILE < w->width) FN(area)(w, x + RAY_TILE, y, RAY_TILE);
}

static void FN(cellLayer)(const void *voxels, int format, const int32_t size[3], int z, float *minimum, float *maximum) {
    const int cellsX = rayCells(size[0]), cellsY = rayCells(size[1]);
    const int z0 = z * RAY_CELL, z1 = z0 + RAY_CELL < size[2] - 1 ? z0 + RAY_CELL : size[2] - 1;
    const int64_t plane = (int64_t)size[0] * size[1];
    for (int cy = 0; cy < cellsY; cy++) {
        const int y0 = cy * RAY_CELL, y1 = y0 + RAY_CELL < size[1] - 1 ? y0 + RAY_CELL : size[1] - 1;
        float *low = minimum + ((int64_t)z * cellsY + cy) * cellsX, *high = maximum + ((int64_t)z * cellsY + cy) * cellsX;
        // Columns of voxels first, in runs that stay in registers and the nearest cache.
        enum { RUN = 64 };
        for (int x0 = 0; x0 < size[0]; x0 += RUN) {
            const int count = x0 + RUN < size[0] ? RUN + 1 : size[0] - x0;
#define COLUMNS(T, LOWEST, HIGHEST) { \
            T least[RUN + 1], most[RUN + 1]; \
            for (int i = 0; i <= RUN; i++) { least[i] = HIGHEST; most[i] = LOWEST; } \
            for (int zz = z0; zz <= z1; zz++) for (int y = y0; y <= y1; y++) { \
                const T *row = (const T *)voxels + zz * plane + (int64_t)y * size[0] + x0; \
                for (int i = 0; i < count; i++) { T v = row[i]; least[i] = v < least[i] ? v : least[i]; most[i] = v > most[i] ? v : most[i]; } \
            } \
            for (int c = 0; c * RAY_CELL < count && x0 / RAY_CELL + c < cellsX; c++) { \
                T a = HIGHEST, b = LOWEST; \
                for (int i = c * RAY_CELL; i <= c * RAY_CELL + RAY_CELL && i < count; i++) { a = least[i] < a ? least[i] : a; b = most[i] > b ? most[i] : b; } \
                if (c * RAY_CELL < RUN) { low[x0 / RAY_CELL + c] = (float)a; high[x0 / RAY_CELL + c] = (float)b; } \
            } }
            if (format == VOXELS_INT16) COLUMNS(int16_t, INT16_MIN, INT16_MAX) else COLUMNS(float, -INFINITY, INFINITY)
#undef COLUMNS
        }
    }
}

#undef PACKETS
#undef PATCHED
#undef PACKET_ROWS
#undef F
#undef I
#undef Quad
#undef Packet
#undef Rays
#undef FN
#undef LANES
#undef NAME
