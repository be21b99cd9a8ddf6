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

// A sample this close (in voxels) to the border between two voxels belongs to the further one, and so close to a cut to what is left: planes
// along a grid meet such borders exactly, and all devices must decide alike.
#define BORDER_SLACK 1e-4f

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

// Voxels along each edge of a brick, in which volumes that do not fit on a device come to it.
#define BRICK_EDGE 32

// Where one row of a picture starts and leads, in voxels: fixed point with 32 bits behind the point, so that positions
// keep their precision in volumes of any size; the step between samples is short and plain.
PARAMETER_BLOCK(MarchLine, 64) {
    int originX, originY, originZ, originFractionX, originFractionY, originFractionZ;
    int rightX, rightY, rightZ, rightFractionX, rightFractionY, rightFractionZ;
    float stepX, stepY, stepZ, unused;
};
PARAMETER_BLOCK_END(MarchLine, 64)

// VOI window and polarity.
PARAMETER_BLOCK(WindowParameters, 16) {
    float center, width;
    int voiFunction;                // VOI_…
    int inverted;                   // 1: display value becomes 1 − value
};
PARAMETER_BLOCK_END(WindowParameters, 16)

// One step of a presentation on a device that works layer by layer; see present.comp, which takes what it is (PRESENT_…) as a constant.
#define PRESENT_VALUES 0
#define PRESENT_COLORS 1
#define PRESENT_LAYER 2
#define PRESENT_SEGMENTS 3
PARAMETER_BLOCK(PresentParameters, 48) {
    WindowParameters window;
    int width, height;
    int hasOutline, combinations;   // of the table of segments: per combination fill, outline, group
    float opacity;
    int unusedA, unusedB, unusedC;
};
PARAMETER_BLOCK_END(PresentParameters, 48)

// Label maps and second volumes that a shader can bind; scenes with more are rendered by the CPU.
#define RAY_LABEL_MAPS 4
#define RAY_GLOWS 2
#define RAY_CUTS 12

// Labels in their own grid. Per combination the table of rays has two words: bits, tint. Bit 0 leaves a sample out, bit 1 + n what
// second volume n adds to it; hiddenOutside has the same bits for what lies outside the grid. The table of planes has one word: hidden.
PARAMETER_BLOCK(RayLabelParameters, 80) {
    vec4 rowX, rowY, rowZ;          // of the affine map from the volume's voxels
    int sizeX, sizeY, sizeZ;
    int hiddenOutside, table;
    int unusedA, unusedB, unusedC;
};
PARAMETER_BLOCK_END(RayLabelParameters, 80)

// What is left out of planes, slabs and curves: beyond cuts (p · xyz > w) and in labels. Positions are in voxels from the middle voxel
// (half the count, rounded down), which keeps them short: they are compared within BORDER_SLACK.
PARAMETER_BLOCK(CropParameters, 528) {
    vec4 cut[RAY_CUTS];
    RayLabelParameters labels[RAY_LABEL_MAPS];
    int cuts, labelCount;
    int unusedA, unusedB;
};
PARAMETER_BLOCK_END(CropParameters, 528)

// Rays; what the numbers mean is said at `RayWork` in CKernels/include/rays.h.
#define RAY_FOLD_MEAN 0
#define RAY_FOLD_MAXIMUM 1
#define RAY_FOLD_MINIMUM 2
#define RAY_FOLD_COMPOSITE 3
#define RAY_FOLD_ISOSURFACE 4
// What a step may at most give to a ray (0 ... 1) to be taken whole: its place and its light hardly matter then.
#define RAY_HALVED 0.01f
// A second volume. The table has 256 entries of four floats.
PARAMETER_BLOCK(RayGlowParameters, 80) {
    vec4 rowX, rowY, rowZ;
    int sizeX, sizeY, sizeZ;
    int format, table;
    float first, perUnit;
    int lit;                        // shaded as the volume is
};
PARAMETER_BLOCK_END(RayGlowParameters, 80)

PARAMETER_BLOCK(RayParameters, 1088) {
    vec4 origin, originX, originY, direction, directionX, directionY;
    vec4 forward, right, down;
    vec4 cut[RAY_CUTS];
    vec4 gradientX, gradientY, gradientZ; // rows: patient components of a gradient
    vec4 light, surface, reachedOffset;
    int sizeX, sizeY, sizeZ, cellsX, cellsY, cellsZ, width, height;
    float slope, intercept, nearest, slopeX, slopeX0, slopeY, slopeY0;
    int cuts;
    int passes, headlight, gradientOpacity, occludesAmbient;
    float classFirst, classesPerUnit, extinctionScale, opaque;
    float ambient, diffuse, specular, shininess;
    float gradientKnee, gradientLow, gradientPerUnit, isovalue;
    float depthCue, cueFloor, cueNear, cuePerUnit;
    float background;
    int labelCount, glowCount, shaded;
    RayLabelParameters labels[RAY_LABEL_MAPS];
    RayGlowParameters glows[RAY_GLOWS];
    int lowestClass, highestClass;  // of the transfer function, that give anything
    int unusedA, unusedB;
};
PARAMETER_BLOCK_END(RayParameters, 1088)

// Reconstruction: the grid and the detector; what the numbers mean is said in Compute/Accelerator.swift. Tables have two vectors a view:
// n0, nx, ny, lateral and d0, dx, dy, depth; for cones a third: slice index of the focal spot and the row at its height.
#define BEAM_PARALLEL 0
#define BEAM_FLAT 1
#define BEAM_CURVED 2
PARAMETER_BLOCK(ScanParameters, 80) {
    int width, height;              // of the image
    int slices, depth;              // that count, and floats from one column of voxels to the next
    int detectors, rows;            // columns and rows of the detector
    int first, stride;              // of data: floats before the first view, and from view to view
    float center, scale, distance, spacing;
    float rowSpacing, centerRow, firstZ, sliceSpacing;
    int bandBegin, bandEnd;         // rows of the image that are in memory
    int unusedA, unusedB;
};
PARAMETER_BLOCK_END(ScanParameters, 80)

// Non-local means: see `PatchMeans`.
PARAMETER_BLOCK(MeansParameters, 48) {
    int width, height, stride, origin;
    int size;                       // floats from slice to slice
    int slices, center, radius;
    int unusedA, unusedB, unusedC, unusedD;
};
PARAMETER_BLOCK_END(MeansParameters, 48)

#endif
