// Marching of planes, slabs, curves and slices: `MarchParameters`, voxel memory and a tile of the picture.
#pragma once
#include "parameters.h"
#include "instructions.h"

/// Positions in voxels, in double: the kernels split them into a whole voxel and a small rest, so that precision does not
/// depend on the size of the volume.
typedef struct {
    MarchParameters parameters;
    const void *voxels;             // first voxel; 64 readable bytes before the first and behind the last
    const uint8_t *loaded;          // per slice, 0: not there yet; NULL: all loaded
    double origin[3], right[3], down[3], step[3];
    /// Curves: for every row of the picture nine numbers, origin, right and step; NULL: the affine above.
    const double *lines;
    /// Prefetch two rows ahead: worth it when neighbouring pixels lie in different cache lines.
    int prefetch;
    float *values;                  // width × height, or
    uint8_t *colors;                // 4 × width × height, for VOXELS_RGBA8
} PlaneWork;

/// Width of the runs of pixels in which kernels work; tiles start at multiples of it.
#define PLANE_RUN 32

/// Computes columns x0 ..< x1 and rows y0 ..< y1. All paths give the same bits.
void planeTile(const PlaneWork *work, int x0, int y0, int x1, int y1, Instructions instructions);
