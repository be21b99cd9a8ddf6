#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// Which cells can contribute to a composite or hold a surface: 0 or 255. An invocation has four cells, one word.
#include "parameters.h"

layout(local_size_x = 64) in;
// 0: cells of a composite; 1: of a surface; 2: groups of 8 cells.
layout(constant_id = 0) const int MODE = 0;
layout(set = 0, binding = 0, std430) writeonly buffer Target { uint target[]; };
layout(set = 0, binding = 1) uniform texture3D ranges;
layout(set = 0, binding = 2) uniform itextureBuffer classes;
layout(set = 0, binding = 3) uniform texture3D visible;
// Cells that a second volume may light up, visible in any case: first and last, at most two boxes.
layout(set = 0, binding = 4, std430) readonly buffer Boxes { int boxes[]; };
layout(push_constant) uniform Push { int countX, countY, countZ, sourceX, sourceY, sourceZ; float classFirst, classesPerUnit, isovalue; int boxCount; };

int classOf(float v) { return int(clamp((v - classFirst) * classesPerUnit, 0.0, 8191.0)); }

bool isVisible(ivec3 c) {
    if (MODE == 2) {
        ivec3 low = c * 8, high = min(low + 7, ivec3(sourceX, sourceY, sourceZ) - 1);
        for (int z = low.z; z <= high.z; z++) for (int y = low.y; y <= high.y; y++) for (int x = low.x; x <= high.x; x++)
            if (texelFetch(visible, ivec3(x, y, z), 0).r > 0.0) return true;
        return false;
    }
    for (int b = 0; b < boxCount; b++) {
        ivec3 low = ivec3(boxes[6 * b], boxes[6 * b + 1], boxes[6 * b + 2]), high = ivec3(boxes[6 * b + 3], boxes[6 * b + 4], boxes[6 * b + 5]);
        if (all(greaterThanEqual(c, low)) && all(lessThanEqual(c, high))) return true;
    }
    vec2 r = texelFetch(ranges, c, 0).rg;
    if (r.x > r.y) return false;
    if (MODE == 1) return r.x <= isovalue && isovalue <= r.y;
    return texelFetch(classes, classOf(r.y) + 1).x > texelFetch(classes, classOf(r.x)).x;
}

void main() {
    uint word = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x, count = uint(countX) * uint(countY) * uint(countZ), bits = 0;
    if (word * 4 >= count) return;
    for (uint k = 0; k < 4; k++) {
        uint i = word * 4 + k;
        if (i >= count) break;
        uint row = i / uint(countX);
        if (isVisible(ivec3(i - row * uint(countX), row % uint(countY), row / uint(countY)))) bits |= 255u << (8 * k);
    }
    target[word] = bits;
}
