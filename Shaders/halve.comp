#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// A copy at half the resolution: each voxel is the largest (or smallest) of those around it, so that at no point the copy is less than the volume.
#include "parameters.h"

layout(local_size_x = 64) in;
layout(constant_id = 0) const int FORMAT = VOXELS_INT16;
layout(constant_id = 1) const int SMALLEST = 0;
// Voxels of the copy, x fastest; two of 16 bits share a word.
layout(set = 0, binding = 0, std430) writeonly buffer Target { uint target[]; };
layout(set = 0, binding = 1) uniform itexture3D whole;
layout(set = 0, binding = 2) uniform texture3D real_;
// Of the volume; which axes are halved; of the copy; slices and voxels of it in the target.
layout(push_constant) uniform Push { int sizeX, sizeY, sizeZ, halvedX, halvedY, halvedZ, countX, countY, firstSlice, total; };

float extreme(int index) {
    ivec3 i = ivec3(index % countX, index / countX % countY, firstSlice + index / (countX * countY)), last = ivec3(sizeX, sizeY, sizeZ) - 1;
    ivec3 halved = ivec3(halvedX, halvedY, halvedZ), middle = i * (1 + halved), low = clamp(middle - halved, ivec3(0), last), high = clamp(middle + halved, ivec3(0), last);
    // What is no number counts for nothing.
    float best = uintBitsToFloat(0x7fc00000u);
    for (int z = low.z; z <= high.z; z++) for (int y = low.y; y <= high.y; y++) for (int x = low.x; x <= high.x; x++) {
        float v = FORMAT == VOXELS_INT16 ? float(texelFetch(whole, ivec3(x, y, z), 0).r) : texelFetch(real_, ivec3(x, y, z), 0).r;
        if (!isnan(v) && (isnan(best) || (SMALLEST != 0 ? v < best : v > best))) best = v;
    }
    return best;
}

void main() {
    int n = int(gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * 64 + int(gl_LocalInvocationID.x);
    if (FORMAT == VOXELS_INT16) {
        if (2 * n >= total) return;
        target[n] = uint(int(extreme(2 * n)) & 0xffff) | (2 * n + 1 < total ? uint(int(extreme(2 * n + 1)) & 0xffff) << 16 : 0);
    } else if (n < total) target[n] = floatBitsToUint(extreme(n));
}
