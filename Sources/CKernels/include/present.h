// From values to display: window, polarity, palette, fused layers and segments, in one pass.
#pragma once
#include "parameters.h"
#include "instructions.h"

typedef struct {
    WindowParameters window;
    const uint32_t *palette;        // 256 × 0x00BBGGRR, or NULL: grey
    float opacity;                  // of a layer; unused for the first
    const float *values;            // width × height; NaN: nothing there (layers)
} PresentSource;

typedef struct {
    const float *labels;            // width × height: indices of combinations
    const uint32_t *fill;           // per combination 0xAABBGGRR, alpha is the opacity
    const uint32_t *outline;        // per combination 0xAABBGGRR, or NULL: no outlines
    const int32_t *group;           // per combination: equal where the visible segments are the same; 0: none
} PresentSegments;

typedef struct {
    int width, height;
    PresentSource base;
    const uint8_t *colors;          // instead of base.values: 4 bytes a pixel, shown as they are
    int layerCount, segmentCount;
    const PresentSource *layers;
    const PresentSegments *segments;
    uint8_t *picture;
    int channels;                   // 1: grey; 3: red, green, blue
} PresentWork;

/// Rows y0 ..< y1. All paths give the same bits.
void presentRows(const PresentWork *work, int y0, int y1, Instructions instructions);
