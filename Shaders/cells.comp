#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// Ranges of cells: 4 voxels along each edge and their far faces, so that neighbours share a face; and of groups of 8 cells. An
// empty cell has a smallest value above its largest.
#include "parameters.h"

layout(local_size_x = 8, local_size_y = 8) in;
layout(constant_id = 0) const int FORMAT = VOXELS_INT16;
// 0: cells from voxels; 1: groups from cells.
layout(constant_id = 1) const int LEVEL = 0;
layout(set = 0, binding = 0, std430) writeonly buffer Target { vec2 target[]; };
layout(set = 0, binding = 1) uniform itexture3D wholeVolume;
layout(set = 0, binding = 2) uniform texture3D realVolume;
layout(set = 0, binding = 3) uniform texture3D cells;
// Of what is reduced, of the result, the layer that comes first in the target; and the slice of the volume that is the texture's first.
layout(push_constant) uniform Push { int sizeX, sizeY, sizeZ, countX, countY, countZ, firstLayer, sliceOffset; };

void main() {
    ivec3 cell = ivec3(gl_GlobalInvocationID) + ivec3(0, 0, firstLayer);
    if (cell.x >= countX || cell.y >= countY || cell.z >= countZ) return;
    const int edge = LEVEL == 0 ? 4 : 8;
    ivec3 low = cell * edge, high = min(low + (LEVEL == 0 ? edge : edge - 1), ivec3(sizeX, sizeY, sizeZ) - 1);
    float least = 3.0e38, most = -3.0e38;
    for (int z = low.z; z <= high.z; z++) for (int y = low.y; y <= high.y; y++) for (int x = low.x; x <= high.x; x++) {
        if (LEVEL == 1) {
            vec2 r = texelFetch(cells, ivec3(x, y, z), 0).rg;
            if (r.x <= r.y) { least = min(least, r.x); most = max(most, r.y); }
        } else {
            float v = FORMAT == VOXELS_INT16 ? float(texelFetch(wholeVolume, ivec3(x, y, z - sliceOffset), 0).r) : texelFetch(realVolume, ivec3(x, y, z - sliceOffset), 0).r;
            if (v < least) least = v;
            if (v > most) most = v;
        }
    }
    target[(uint(cell.z - firstLayer) * uint(countY) + uint(cell.y)) * uint(countX) + uint(cell.x)] = vec2(least, most);
}
