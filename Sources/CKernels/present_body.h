// The loops of present.c for one instruction set; LANES and NAME(x) come from the including file.
#include "vector.h"

typedef uint8_t NAME(B) __attribute__((ext_vector_type(LANES)));

/// Display value 0...1.
INLINE F display(const WindowParameters *w, F value) {
    F t;
    switch (w->voiFunction) {
    case VOI_SIGMOID: t = voiSigmoid(value, w->center, w->width); break;
    case VOI_LINEAR_EXACT: t = voiLinearExact(value, w->center, w->width); break;
    default: t = voiLinear(value, w->center, w->width);
    }
    return w->inverted ? 1.0f - t : t;
}

/// 0...255, rounded half up, once.
INLINE I byteOf(F t) { return truncated(t * 255.0f + 0.5f); }

INLINE F NAME(loadPart)(const float *p, int count) {
    F v = (F)0.0f;
    __builtin_memcpy(&v, p, (size_t)count * sizeof(float));
    return v;
}

/// Red, green and blue, 0...255.
typedef struct { F r, g, b; } NAME(Color);
INLINE NAME(Color) unpacked(I c) {
    return (NAME(Color)){ toFloat(c & 255), toFloat((c >> 8) & 255), toFloat((c >> 16) & 255) };
}
INLINE NAME(Color) looked(const PresentSource *s, F value) {
    F t = display(&s->window, value);
    if (!s->palette) { F v = t * 255.0f; return (NAME(Color)){ v, v, v }; }
    I index = byteOf(t), c;
    for (int l = 0; l < LANES; l++) c[l] = (int32_t)s->palette[index[l]];
    return unpacked(c);
}
INLINE NAME(Color) blended(NAME(Color) under, NAME(Color) over, F alpha) {
    return (NAME(Color)){ lerp(under.r, over.r, alpha), lerp(under.g, over.g, alpha), lerp(under.b, over.b, alpha) };
}

/// Colour of the segments at pixels x + lane of row y; alpha in the top byte.
INLINE I NAME(segmentColor)(const PresentSegments *s, int width, int height, int x, int y, int count) {
    I c = (I)0;
    const float *row = s->labels + (size_t)y * (size_t)width + (size_t)x;
    for (int l = 0; l < count; l++) {
        int label = (int)row[l];
        if (s->outline && s->group[label]) {
            int group = s->group[label], i = x + l;
            if ((i > 0 && s->group[(int)row[l - 1]] != group) || (i + 1 < width && s->group[(int)row[l + 1]] != group) ||
                (y > 0 && s->group[(int)row[l - width]] != group) || (y + 1 < height && s->group[(int)row[l + width]] != group)) {
                c[l] = (int32_t)s->outline[label];
                continue;
            }
        }
        c[l] = (int32_t)s->fill[label];
    }
    return c;
}

static void NAME(present)(const PresentWork *w, int y0, int y1) {
    for (int y = y0; y < y1; y++) {
        size_t row = (size_t)y * (size_t)w->width;
        for (int x = 0; x < w->width; x += LANES) {
            int count = w->width - x < LANES ? w->width - x : LANES;
            if (w->channels == 1) {
                I i = byteOf(display(&w->base.window, NAME(loadPart)(w->base.values + row + x, count)));
                NAME(B) bytes = __builtin_convertvector(i, NAME(B));
                __builtin_memcpy(w->picture + row + x, &bytes, (size_t)count);
                continue;
            }
            NAME(Color) color;
            if (w->colors) {
                I c = (I)0;
                __builtin_memcpy(&c, w->colors + 4 * (row + x), 4 * (size_t)count);
                color = unpacked(c);
            } else color = looked(&w->base, NAME(loadPart)(w->base.values + row + x, count));
            for (int k = 0; k < w->layerCount; k++) {
                const PresentSource *layer = w->layers + k;
                F value = NAME(loadPart)(layer->values + row + x, count);
                I there = value == value;
                if (!any(there)) continue;
                color = blended(color, looked(layer, select(there, value, (F)0.0f)), select(there, (F)layer->opacity, (F)0.0f));
            }
            for (int k = 0; k < w->segmentCount; k++) {
                I c = NAME(segmentColor)(w->segments + k, w->width, w->height, x, y, count);
                if (!any(c)) continue;
                color = blended(color, unpacked(c), toFloat((c >> 24) & 255) * (1.0f / 255));
            }
            I r = truncated(color.r + 0.5f), g = truncated(color.g + 0.5f), b = truncated(color.b + 0.5f);
            uint8_t *out = w->picture + 3 * (row + x);
            for (int l = 0; l < count; l++) { out[3 * l] = (uint8_t)r[l]; out[3 * l + 1] = (uint8_t)g[l]; out[3 * l + 2] = (uint8_t)b[l]; }
        }
    }
}
#include "vector_end.h"
