#version 450
#extension GL_GOOGLE_include_directive : require
// Filtered views of one slice to its pixels: backproject_parallel and backproject_fan of CTomography, a pixel an invocation.
#include "parameters.h"
#include "arithmetic.h"

layout(local_size_x = 16, local_size_y = 4) in;
layout(constant_id = 0) const int BEAM = BEAM_PARALLEL;
layout(set = 0, binding = 0, std430) buffer Image { float image[]; };
// Zeros before and behind each view.
layout(set = 0, binding = 1, std430) readonly buffer Data { float data[]; };
layout(set = 0, binding = 2, std430) readonly buffer Views { vec4 views[]; };
layout(set = 0, binding = 3, std140) uniform Parameters { ScanParameters p; };
layout(push_constant) uniform Push { int firstRow, endRow, firstView, endView; };

void main() {
    int x = int(gl_GlobalInvocationID.x), y = firstRow + int(gl_GlobalInvocationID.y);
    if (x >= p.width || y >= endRow) return;
    float sum = 0.0;
    for (int v = firstView; v < endView; v++) {
        vec4 a = views[2 * v];
        float n = a.x + a.y * float(x) + a.z * float(y), u = n, weight = 1.0;
        if (BEAM != BEAM_PARALLEL) {
            vec4 b = views[2 * v + 1];
            float d = b.x + b.y * float(x) + b.z * float(y), q = n / d;
            u = (BEAM == BEAM_FLAT ? q : fanAngle(q)) * p.scale + p.center;
            weight = BEAM == BEAM_FLAT ? 1.0 / (d * d) : 1.0 / (n * n + d * d);
        }
        if (!(u > -1.0 && u < float(p.detectors))) continue;
        int k = u < 0.0 ? -1 : int(u), at = p.first + v * p.stride + k;
        float here = data[at];
        sum += weight * (here + (u - float(k)) * (data[at + 1] - here));
    }
    image[y * p.width + x] += sum;
}
