#version 450
// Convolution of views with a symmetric kernel, straight from its definition: what the transforms of `filterViews` compute. Four views and
// two elements an invocation, so that six reads serve eight multiplications.
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) writeonly buffer Output { float outputs[]; };
layout(set = 0, binding = 1, std430) readonly buffer Data { float data[]; };
// By distance; from `fades` on, what a mirrored element is worth.
layout(set = 0, binding = 2, std430) readonly buffer Kernel { float kernel[]; };
// `margin`: elements by which views that end inside the object are continued by their mirror image, faded out.
layout(push_constant) uniform Push { int firstGroup, lines, detectors, margin, fades; };

shared vec4 part[64];

float valueOf(int line, int j) {
    if (line >= lines || j >= detectors + margin) return 0.0;
    int beyond = j < 0 ? -1 - j : j - detectors, at = j < 0 ? beyond : j < detectors ? j : detectors - 1 - beyond;
    float value = data[line * detectors + at];
    return j >= 0 && j < detectors ? value : value * kernel[fades + beyond];
}

void main() {
    int lane = int(gl_LocalInvocationID.x), line = (firstGroup + int(gl_WorkGroupID.y)) * 4, i = int(gl_WorkGroupID.x) * 128 + lane;
    vec4 a = vec4(0.0), b = vec4(0.0);
    for (int start = -margin; start < detectors + margin; start += 64) {
        barrier();
        int j = start + lane;
        part[lane] = vec4(valueOf(line, j), valueOf(line + 1, j), valueOf(line + 2, j), valueOf(line + 3, j));
        barrier();
        for (int k = 0; k < 64; k++) {
            int distance = i - start - k;
            a += part[k] * kernel[abs(distance)];
            b += part[k] * kernel[abs(distance + 64)];
        }
    }
    for (int k = 0; k < 4; k++) {
        if (line + k >= lines) break;
        int at = (line + k) * detectors + i;
        if (i < detectors) outputs[at] = a[k];
        if (i + 64 < detectors) outputs[at + 64] = b[k];
    }
}
