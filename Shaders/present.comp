#version 450
#extension GL_GOOGLE_include_directive : require
// From values to display: window, polarity, palette, fused layers and segments; CKernels/present_body.h layer by layer. An
// invocation has four pixels, which are three words of a colour picture or one of a grey one.
#include "parameters.h"
#include "arithmetic.h"

layout(local_size_x = 64) in;
// What decides between ways through the shader; software drivers would go all of them.
layout(constant_id = 0) const int SOURCE = PRESENT_VALUES;
layout(constant_id = 1) const int CHANNELS = 1;
layout(constant_id = 2) const int FUNCTION = VOI_LINEAR;
// The table holds 256 colours.
layout(constant_id = 3) const int HAS_PALETTE = 0;
// The last layer, which gives the picture's bytes; else the work in progress.
layout(constant_id = 4) const int FINISHES = 1;
layout(set = 0, binding = 0, std430) writeonly buffer Picture { uint picture[]; };
layout(set = 0, binding = 1, std430) readonly buffer Source { uint source[]; };
layout(set = 0, binding = 2, std430) buffer Work { vec4 work[]; };
layout(set = 0, binding = 3, std430) readonly buffer Table { uint table[]; };
layout(set = 0, binding = 4, std140) uniform Parameters { PresentParameters p; };

float display(float value) {
    float t;
    if (FUNCTION == VOI_SIGMOID) t = voiSigmoid(value, p.window.center, p.window.width);
    else if (FUNCTION == VOI_LINEAR_EXACT) t = voiLinearExact(value, p.window.center, p.window.width);
    else t = voiLinear(value, p.window.center, p.window.width);
    return p.window.inverted != 0 ? 1.0 - t : t;
}
vec3 unpacked(uint c) { return vec3(float(c & 255), float(c >> 8 & 255), float(c >> 16 & 255)); }
vec3 looked(float value) {
    float t = display(value);
    if (HAS_PALETTE == 0) return vec3(t * 255.0);
    return unpacked(table[uint(t * 255.0 + 0.5)]);
}
uint labelAt(uint i) { return uint(uintBitsToFloat(source[i])); }
uint groupOf(uint label) { return table[2 * p.combinations + label]; }
uint segmentColor(uint i) {
    uint label = labelAt(i), group = groupOf(label);
    if (p.hasOutline != 0 && group != 0) {
        uint width = uint(p.width), x = i % width, y = i / width;
        if ((x > 0 && groupOf(labelAt(i - 1)) != group) || (x + 1 < width && groupOf(labelAt(i + 1)) != group) ||
            (y > 0 && groupOf(labelAt(i - width)) != group) || (y + 1 < uint(p.height) && groupOf(labelAt(i + width)) != group))
            return table[p.combinations + label];
    }
    return table[label];
}

void main() {
    uint first = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 256u + gl_LocalInvocationID.x * 4u, count = uint(p.width) * uint(p.height);
    if (first >= count) return;
    uvec3 bytes[4];
    for (uint k = 0; k < 4; k++) {
        bytes[k] = uvec3(0);
        uint i = first + k;
        if (i >= count) continue;
        vec3 color;
        if (SOURCE == PRESENT_VALUES) {
            float value = uintBitsToFloat(source[i]);
            if (CHANNELS == 1) { bytes[k].r = uint(display(value) * 255.0 + 0.5); continue; }
            color = looked(value);
        } else if (SOURCE == PRESENT_COLORS) color = unpacked(source[i]);
        else if (SOURCE == PRESENT_LAYER) {
            color = work[i].rgb;
            // Not a number: nothing there.
            if ((source[i] & 0x7fffffffu) <= 0x7f800000u) color += p.opacity * (looked(uintBitsToFloat(source[i])) - color);
        } else {
            color = work[i].rgb;
            uint c = segmentColor(i);
            color += float(c >> 24) * (1.0 / 255.0) * (unpacked(c) - color);
        }
        if (FINISHES == 0) work[i] = vec4(color, 0);
        else bytes[k] = uvec3(color + 0.5);
    }
    if (FINISHES == 0) return;
    if (CHANNELS == 1) {
        picture[first / 4] = bytes[0].r | bytes[1].r << 8 | bytes[2].r << 16 | bytes[3].r << 24;
        return;
    }
    uint at = first / 4 * 3;
    picture[at] = bytes[0].r | bytes[0].g << 8 | bytes[0].b << 16 | bytes[1].r << 24;
    picture[at + 1] = bytes[1].g | bytes[1].b << 8 | bytes[2].r << 16 | bytes[2].g << 24;
    picture[at + 2] = bytes[2].b | bytes[3].r << 8 | bytes[3].g << 16 | bytes[3].b << 24;
}
