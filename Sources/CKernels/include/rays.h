// Rays through a whole volume: composite, maximum, minimum, mean, isosurface. Plain structures of pointers and numbers;
// what they mean in patient space is compiled by Swift.
//
// Rays are sampled on the planes of voxel centres across the axis along which a tile's rays advance fastest (and
// `substeps` - 1 planes between two of them; with two samples per plane, the one between is left out where it cannot matter: in
// steps that give little to a composite, and where no voxel exceeds the extreme of all planes). A sample on such a plane needs four voxels instead of eight, a step never
// exceeds one voxel along any axis, and blocks of samples coincide with layers of cells, which makes skipping empty space
// and taking the largest cell first tight. After Lacroute and Levoy 1994 (shear-warp), without its intermediate picture.
#pragma once
#include <stdint.h>
#include "instructions.h"

/// Voxels along the edge of a cell. A cell holds the range of voxels 4 i ... 4 i + 4, so neighbours share a face.
#define RAY_CELL 4
/// Greatest width, and height and smallest width of a tile in pixels. Wide ones are computed whole, or as two squares where those look along
/// different axes.
#define RAY_TILE_WIDTH 16
#define RAY_TILE 8
/// Longest axis of a volume that rays can cross.
#define RAY_LONGEST_AXIS 32768
/// Most half-spaces that cut rays: an oriented box and six planes.
#define RAY_MAXIMUM_CUTS 12
/// Entries of the classification; one more follows.
#define RAY_CLASSES 8192

typedef enum { RayMean = 0, RayMaximum = 1, RayMinimum = 2, RayComposite = 3, RayIsosurface = 4 } RayFold;

/// Integrals of the transfer function up to the start of a class, times `scale`: extinction, and red, green and blue times
/// extinction. Differences of whole numbers stay exact however small they are (Engel et al. 2001, pre-integration with
/// integral functions: attenuation inside one step is left out of its colour).
typedef struct {
    int32_t extinction, red, green, blue;
} RayClass;

/// Labels in their own grid, nearest neighbour.
typedef struct {
    const uint16_t *labels;
    int32_t size[3];
    float labelFromVoxel[12];       // rows of the affine map from the volume's voxels
    const uint8_t *hidden;          // per combination: bit 0 leaves the sample out, bit 1 + n what layer n adds to it
    const uint32_t *tint;           // per combination 0xAABBGGRR; alpha is the opacity
    int32_t hiddenOutside;          // the same bits for what lies outside the grid
} RayLabels;

/// A second volume in its own grid, emitting through its own table.
typedef struct {
    const void *voxels;
    int32_t format;                 // VOXELS_INT16, VOXELS_FLOAT32
    int32_t size[3];
    float layerFromVoxel[12];
    float first, perUnit;           // class = (stored - first) × perUnit, 0 ... 255
    const float *table;             // 256 × red, green, blue, extinction per mm
    int32_t lit;                    // shaded as the volume is
} RayLayer;

typedef struct {
    // Volume
    const void *voxels;             // first voxel; 64 readable bytes before the first and behind the last
    int32_t format;                 // VOXELS_INT16, VOXELS_FLOAT32
    int32_t size[3];
    float slope, intercept;
    // Cells, x fastest; an empty cell has minimum > maximum
    int32_t cells[3];
    const float *cellMinimum, *cellMaximum;
    int32_t summable;               // maximum and minimum: no sum of two voxels leaves 16 bits
    const int32_t *occupancy;       // (cells + 1) each way: number of visible cells below; composite and isosurface

    // Rays in voxels: origin + x originX + y originY + t (direction + x directionX + y directionY), t in mm along the axis of view
    int32_t width, height;
    float origin[3], originX[3], originY[3];
    float direction[3], directionX[3], directionY[3];
    float near;                     // smallest t
    // The same directions in patient space, for light and path lengths: orthonormal
    float forward[3], right[3], down[3];
    float slopeX, slopeX0, slopeY, slopeY0; // of the direction: forward + (x slopeX + slopeX0) right + (y slopeY + slopeY0) down

    int32_t cuts;
    float cut[RAY_MAXIMUM_CUTS][4]; // kept: a x + b y + c z <= d, in voxels

    RayFold fold;
    int32_t substeps;               // samples per voxel plane, 1 ... 8; with 2, between planes only where it matters
    int32_t passes;                 // pictures averaged, each with its own offset below a pixel

    // Composite
    float classFirst, classesPerUnit; // class = (stored - classFirst) × classesPerUnit
    const RayClass *classes;        // RAY_CLASSES + 1
    float extinctionScale;          // to per mm, as a power of two: × log2(e) / scale
    float opaque;                   // transparency below which a ray ends
    int32_t shaded;
    float ambient, diffuse, specular, shininess;
    int32_t headlight;
    float light[3];                 // towards the light, patient space, unit
    float gradientFromVoxel[9];     // rows: patient components of a gradient in modality units per mm
    float gradientKnee;             // squared magnitude at which shading counts half
    int32_t gradientOpacity;
    float gradientLow, gradientPerUnit;
    // Isosurface
    float isovalue;                 // stored
    float surface[3];               // colour
    // Maximum
    float depthCue, cueFloor;       // weight at the far end is 1 - depthCue; stored value that is black
    float cueNear, cuePerUnit;      // depth 0 ... 1 = (t - cueNear) × cuePerUnit

    const RayLabels *labels;        // `labelCount` of them
    int32_t labelCount;
    const RayLayer *layers;
    int32_t layerCount;
    /// Light that reaches the centres of cells, 0 ... 255, looked up `reachedOffset` voxels away; NULL: all.
    /// `occludesAmbient`: it dims ambient and diffuse light alike; else diffuse and specular only (a shadow).
    const uint8_t *reached;
    int32_t occludesAmbient;
    float reachedOffset[3];

    // Results
    float background;               // where a ray meets nothing
    float *values;                  // width × height modality values; mean, maximum, minimum
    uint8_t *picture;               // 4 × width × height: red, green, blue, 255; composite and isosurface
} RayWork;

/// Cells along an axis of `voxels`: together they hold all positions between the first and the last centre.
static inline int32_t rayCells(int32_t voxels) { return voxels > 1 ? (voxels - 2) / RAY_CELL + 1 : 1; }

/// Computes one tile, `columns` pixels wide: RAY_TILE or RAY_TILE_WIDTH. Paths agree within rounding.
void rayTile(const RayWork *work, int tileX, int tileY, int columns, Instructions instructions);

/// Ranges of one layer of cells (z counts cells) from stored voxels; NaN is left out.
void rayCellLayer(const void *voxels, int format, const int32_t size[3], int z, float *minimum, float *maximum, Instructions instructions);

/// Voxels of a halved axis: voxel i of the copy lies at voxel 2 i.
static inline int32_t rayHalved(int32_t voxels) { return voxels / 2 + 1; }

/// One slice of a copy with half the voxels along x, y and z where `halved` says so. Each is the largest (or smallest) of voxels
/// 2 i - 1 ... 2 i + 1 along those axes: at every voxel, and so between them, the interpolated copy is never less.
void rayHalvedSlice(const void *voxels, int format, const int32_t size[3], const int32_t halved[3], int z, int smallest, void *out);

/// Which cells can contribute, as sums over all cells before (x, y, z): `sums` has (cells + 1) entries each way.
/// composite: a class with extinction lies in the range; isosurface: the isovalue does. `extra` marks cells in any case, or is NULL.
void rayOccupancy(const RayWork *work, const uint8_t *extra, int32_t *sums);

/// How much light one layer of cells lets through over `length` mm, 0 ... 1, from every second voxel along each axis. What cuts
/// leave out is clear.
void rayClarity(const RayWork *work, int z, float length, float *clarity);

/// Directions from which ambient light comes: the axes and the diagonals of cells.
#define RAY_AMBIENT_DIRECTIONS 14
/// Light that comes to every cell from one direction, 0 ... 255. `forget` 0 ... 1 is how much of a shadow is left after one cell.
void rayAmbientSweep(const RayWork *work, const float *clarity, int direction, float forget, uint8_t *light);
/// Mean of all directions for one layer of cells; a flat wall, which sees half of them, counts as lit.
void rayAmbientMean(const RayWork *work, const uint8_t *light, int z, uint8_t *reached);
/// Light that comes to every cell along `travel` (voxels); `length` is the mm for which `clarity` holds, `perVoxel` the mm of
/// `travel` per step of one voxel along its steepest axis.
void rayShadow(const RayWork *work, const float *clarity, const float travel[3], float perVoxel, float length, uint8_t *reached);
