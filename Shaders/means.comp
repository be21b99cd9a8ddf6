#version 450
#extension GL_GOOGLE_include_directive : require
// Non-local means of one slice: tg_nlm of CTomography. An invocation has eight pixels below each other, whose patches share rows.
#include "parameters.h"

layout(local_size_x = 64) in;
layout(constant_id = 0) const int PATCH = 2;
const int ROWS = 8;
layout(set = 0, binding = 0, std430) writeonly buffer Output { float outputs[]; };
layout(set = 0, binding = 1, std430) readonly buffer Values { float values[]; };
layout(set = 0, binding = 2, std430) readonly buffer Guides { float guides[]; };
layout(set = 0, binding = 3, std430) readonly buffer Inverse { float inverse[]; };
layout(set = 0, binding = 4, std140) uniform Parameters { MeansParameters p; };
layout(push_constant) uniform Push { int firstLine; };

void main() {
    int x = int(gl_GlobalInvocationID.x), y = (firstLine + int(gl_WorkGroupID.y)) * ROWS;
    if (x >= p.width) return;
    // Rows below the image lie in the margin.
    int own = p.origin + y * p.stride + x;
    float total[ROWS], sum[ROWS];
    for (int r = 0; r < ROWS; r++) total[r] = sum[r] = 0.0;
    for (int s = 0; s < p.slices; s++) for (int dy = -p.radius; dy <= p.radius; dy++) for (int dx = -p.radius; dx <= p.radius; dx++) {
        int mine = p.center * p.size + own, other = s * p.size + own + dy * p.stride + dx;
        float rows[ROWS + 2 * PATCH];
        for (int r = 0; r < ROWS + 2 * PATCH; r++) {
            int line = (r - PATCH) * p.stride;
            float t = 0.0;
            for (int k = -PATCH; k <= PATCH; k++) { float e = guides[mine + line + k] - guides[other + line + k]; t += e * e; }
            rows[r] = t;
        }
        for (int r = 0; r < ROWS; r++) {
            float t = 0.0;
            for (int k = 0; k <= 2 * PATCH; k++) t += rows[r + k];
            // (1 − t)⁸ approximates exp(−8t) and ends at t = 1.
            float w = max(0.0, 1.0 - t * inverse[own + r * p.stride]);
            w *= w; w *= w; w *= w;
            total[r] += w;
            sum[r] += w * values[other + r * p.stride];
        }
    }
    // The voxel itself is always among the candidates with weight 1, so the total is never 0.
    for (int r = 0; r < ROWS; r++) if (y + r < p.height) outputs[(y + r) * p.width + x] = sum[r] / total[r];
}
