// Parameter blocks and constants that Swift, the C kernels and the shaders share. Only 4-byte scalars and 16-byte
// vectors (never vec3), so that C and std430 agree on every offset.
#ifndef TOMOS_PARAMETERS_H
#define TOMOS_PARAMETERS_H

#ifdef GL_core_profile
#define PARAMETER_BLOCK(name, size) struct name
#define PARAMETER_BLOCK_END(name, size)
#else
#include <stdint.h>
typedef float vec4 __attribute__((ext_vector_type(4)));
#define PARAMETER_BLOCK(name, size) typedef struct name name; struct name
#define PARAMETER_BLOCK_END(name, size) _Static_assert(sizeof(name) == size, #name " must have the same layout in C and GLSL");
#endif

// How the samples of a ray become one value.
#define FOLD_MEAN 0
#define FOLD_MAXIMUM 1
#define FOLD_MINIMUM 2

#define INTERPOLATION_NEAREST 0
#define INTERPOLATION_LINEAR 1
// Catmull-Rom: interpolating, third order, needs no prefilter (Keys 1981, a = -1/2).
#define INTERPOLATION_CUBIC 2

// Voxel storage; the first three are `VoxelFormat`'s raw values.
#define VOXELS_INT16 1
#define VOXELS_FLOAT32 2
#define VOXELS_RGBA8 3
#define VOXELS_LABEL16 4

// VOI functions of PS3.3 C.11.2.1.2 and C.11.2.1.3.
#define VOI_LINEAR 0
#define VOI_LINEAR_EXACT 1
#define VOI_SIGMOID 2

// Planes, slabs, curves and slices: sample k of pixel (i, j) lies at origin + i right + j down + k step, in voxels.
PARAMETER_BLOCK(MarchParameters, 112) {
    vec4 origin;                    // xyz: first sample of pixel (0, 0)
    vec4 right;                     // xyz: to the next column of the picture
    vec4 down;                      // xyz: to the next row; unused when every row has its own line (curves)
    vec4 step;                      // xyz: to the next sample
    int columns, rows, slices;      // of the volume
    int width, height;              // of the picture
    int samples;                    // folded into one value, at least 1
    int fold, interpolation, format;
    float slope, intercept;         // modality = stored × slope + intercept
    float background;               // modality value where no sample lies in the volume
};
PARAMETER_BLOCK_END(MarchParameters, 112)

// VOI window and polarity.
PARAMETER_BLOCK(WindowParameters, 16) {
    float center, width;
    int voiFunction;                // VOI_…
    int inverted;                   // 1: display value becomes 1 − value
};
PARAMETER_BLOCK_END(WindowParameters, 16)

#endif
