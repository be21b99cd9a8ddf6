#version 450
#extension GL_GOOGLE_include_directive : require
// Filtered views of a cone to voxels: backproject_cone of CTomography. Slices are neighbours in memory, so that neighbouring
// invocations read neighbouring rows of two detector columns; each has four slices, for which these are found once.
#include "parameters.h"
#include "arithmetic.h"

layout(local_size_x = 32, local_size_y = 2) in;
layout(constant_id = 0) const int BEAM = BEAM_FLAT;
layout(set = 0, binding = 0, std430) buffer Volume { float volume[]; };
// [view − firstOfData][column][row]
layout(set = 0, binding = 1, std430) readonly buffer Data { float data[]; };
layout(set = 0, binding = 2, std430) readonly buffer Views { vec4 views[]; };
layout(set = 0, binding = 3, std140) uniform Parameters { ScanParameters p; };
layout(push_constant) uniform Push { int firstRow, firstView, endView, firstOfData; };

void main() {
    int z = int(gl_WorkGroupID.x) * 128 + int(gl_LocalInvocationID.x), x = int(gl_GlobalInvocationID.y), y = firstRow + int(gl_WorkGroupID.z);
    if (x >= p.width || z >= p.slices) return;
    float sum[4] = float[4](0.0, 0.0, 0.0, 0.0);
    for (int v = firstView; v < endView; v++) {
        vec4 a = views[2 * v], b = views[2 * v + 1];
        float n = a.x + a.y * float(x) + a.z * float(y), d = b.x + b.y * float(x) + b.z * float(y), q = n / d;
        // A curved detector is met at one distance by all rays in the plane.
        float away = BEAM == BEAM_FLAT ? d : sqrt(n * n + d * d), u = (BEAM == BEAM_FLAT ? q : fanAngle(q)) * p.scale + p.center;
        if (!(u > -1.0 && u < float(p.detectors))) continue;
        int c = u < 0.0 ? -1 : int(u);
        float f = u - float(c), weight = 1.0 / (away * away);
        float wl = c >= 0 ? (1.0 - f) * weight : 0.0, wr = c + 1 < p.detectors ? f * weight : 0.0;
        int base = (v - firstOfData) * p.stride, left = base + max(c, 0) * p.rows, right = base + min(c + 1, p.detectors - 1) * p.rows;
        float magnification = p.distance / (away * p.rowSpacing);
        for (int k = 0; k < 4; k++) {
            float r = (p.firstZ + float(z + 32 * k) * p.sliceSpacing) * magnification + p.centerRow;
            if (!(r > -1.0 && r < float(p.rows))) continue;
            int i = r < 0.0 ? -1 : int(r);
            float lower = i >= 0 ? data[left + i] * wl + data[right + i] * wr : 0.0;
            float upper = i + 1 < p.rows ? data[left + i + 1] * wl + data[right + i + 1] * wr : 0.0;
            sum[k] += lower + (r - float(i)) * (upper - lower);
        }
    }
    int at = ((y - p.bandBegin) * p.width + x) * p.slices + z;
    for (int k = 0; k < 4; k++) if (z + 32 * k < p.slices) volume[at + 32 * k] += sum[k];
}
