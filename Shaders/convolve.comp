#version 450
#extension GL_GOOGLE_include_directive : require
// One layer of convolution: dn_convolve of CDenoising. Two pixels and 16 outputs an invocation; the weights of a tap are shared by
// the work group. Sums are taken in the CPU's order.
layout(local_size_x = 32, local_size_y = 2) in;
layout(constant_id = 0) const int INPUTS = 32;
layout(constant_id = 1) const int SIDE = 3;
// 0: neither; 1: max(0, ·); 2: plus another plane.
layout(constant_id = 2) const int FINISH = 0;
layout(set = 0, binding = 0, std430) buffer Output { vec4 outputs[]; };
layout(set = 0, binding = 1, std430) readonly buffer Input { vec4 inputs[]; };
// [block of 16 outputs][tap][input][16], then a bias for each output.
layout(set = 0, binding = 2, std430) readonly buffer Weights { vec4 weights[]; };
layout(set = 0, binding = 3, std430) readonly buffer Added { vec4 added[]; };
layout(push_constant) uniform Push { int width, height, channels, firstRow, endRow, biases; };

shared vec4 taps[INPUTS * 4];

void main() {
    const int count = SIDE * SIDE, across = INPUTS / 4;
    int x = int(gl_WorkGroupID.x) * 64 + int(gl_LocalInvocationID.x), y = firstRow + int(gl_GlobalInvocationID.y), block = int(gl_WorkGroupID.z);
    // All invocations keep company at the barriers; those outside work on the last pixel.
    int xs[2] = int[2](min(x, width - 1), min(x + 32, width - 1)), row = min(y, endRow - 1);
    vec4 sum[8];
    for (int o = 0; o < 4; o++) sum[o] = sum[4 + o] = weights[biases + block * 4 + o];
    for (int t = 0; t < count; t++) {
        barrier();
        for (int i = int(gl_LocalInvocationIndex); i < INPUTS * 4; i += 64) taps[i] = weights[(block * count + t) * INPUTS * 4 + i];
        barrier();
        int line = (row + 1 + t / SIDE - SIDE / 2) * (width + 2) + 1 + t % SIDE - SIDE / 2;
        int first = (line + xs[0]) * across, second = (line + xs[1]) * across;
        for (int c = 0; c < across; c++) {
            vec4 a = inputs[first + c], b = inputs[second + c];
            for (int k = 0; k < 4; k++) for (int o = 0; o < 4; o++) {
                vec4 w = taps[(4 * c + k) * 4 + o];
                sum[o] += a[k] * w;
                sum[4 + o] += b[k] * w;
            }
        }
    }
    if (y >= endRow) return;
    for (int q = 0; q < 2; q++) {
        if (x + 32 * q >= width) continue;
        int at = ((y + 1) * (width + 2) + x + 32 * q + 1) * (channels / 4) + block * 4;
        for (int o = 0; o < 4; o++) {
            vec4 s = sum[4 * q + o];
            if (FINISH == 1) s = max(s, vec4(0.0));
            if (FINISH == 2) s += added[at + o];
            outputs[at + o] = s;
        }
    }
}
