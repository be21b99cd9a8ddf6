// Marching of planes, slabs, curves and slices: `MarchParameters`, voxel memory and a tile of the picture.
#pragma once
#include "parameters.h"
#include "instructions.h"

/// Planes and slabs along the volume's axes: interpolation is separable, and every axis has a table. Axis 0 runs along the rows
/// of the picture, 1 down its columns, 2 along the normal.
typedef struct {
    int taps;                       // 1, 2 or 4 neighbours along every axis
    int64_t stride[3];              // in voxels
    int size[3];
    int columnFirst, columnEnd;     // columns of the picture in the volume
    int rowFirst, rowEnd;
    int paddedWidth;                // row length of columnIndex and columnWeight: width and a vector more
    const int32_t *columnIndex;     // per column: first neighbour, may be -1; the others follow
    const float *columnWeight;      // taps × paddedWidth
    int isUnit;                     // neighbouring columns have neighbouring voxels, ascending
    int longestLine;                // voxels under the widest tile
    const int32_t *rowIndex;        // taps × height, in the volume
    const float *rowWeight;         // taps × height
    int lines;                      // samples along the normal; one for a mean, whose weights hold the fold
    const int32_t *depthStart;      // lines + 1: where each sample's neighbours start
    const int32_t *depthIndex;
    const float *depthWeight;
    int ahead;                      // voxel rows ahead (signed) to prefetch when lines are strided
} PlaneAligned;

/// Widest tile of `planeTile` with `aligned`, and samples kept at once. Scratch memory: `longestLine` + 128 floats for voxels and
/// 4 × PLANE_LINES × (PLANE_TILE_WIDTH + 16) for resampled lines.
#define PLANE_TILE_WIDTH 128
#define PLANE_LINES 32

/// Labels in a grid of their own whose samples are left out.
typedef struct {
    const uint16_t *labels;
    const uint8_t *hidden;          // per label, 1: left out
    int size[3];
    int hidesOutside;
    double rows[12];                // of the affine map from the volume's voxels
} PlaneLabels;

/// Positions in voxels, in double: the kernels split them into a whole voxel and a small rest, so that precision does not
/// depend on the size of the volume.
typedef struct {
    MarchParameters parameters;
    const void *voxels;             // first voxel; 64 readable bytes before the first and behind the last
    const uint8_t *loaded;          // per slice, 0: not there yet; NULL: all loaded
    double origin[3], right[3], down[3], step[3];
    /// Curves: for every row of the picture nine numbers, origin, right and step; NULL: the affine above.
    const double *lines;
    /// What is left out: beyond planes (four numbers each, p · xyz > w) and in labels.
    const double *cuts;
    const PlaneLabels *labels;
    int cutCount, labelCount;
    const int32_t *ranks;           // VOXELS_LABEL16: what is folded instead of each label; NULL: labels themselves
    const PlaneAligned *aligned;    // instead of the affine; NULL: the general path
    /// Prefetch two rows ahead: worth it when neighbouring pixels lie in different cache lines.
    int prefetch;
    float *values;                  // width × height, or
    uint8_t *colors;                // 4 × width × height, for VOXELS_RGBA8
} PlaneWork;

/// Longest run of pixels in which kernels work; tiles start at multiples of it. Those of slabs, slower at the edges of a volume, are half
/// as long.
#define PLANE_RUN 128

/// Computes columns x0 ..< x1 and rows y0 ..< y1. All paths give the same bits.
/// `scratch`, aligned to 64 bytes, is needed with `aligned` only.
void planeTile(const PlaneWork *work, int x0, int y0, int x1, int y1, float *scratch, Instructions instructions);
