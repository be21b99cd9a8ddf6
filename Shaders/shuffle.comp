#version 450
#extension GL_GOOGLE_include_directive : require
// Four pixels of a plane as one of a plane of half the size, or the reverse, added to what is there. Planes as in convolve.comp.
layout(local_size_x = 64) in;
layout(constant_id = 0) const int SPREADS = 0;
layout(set = 0, binding = 0, std430) buffer Fine { vec4 fine[]; };
layout(set = 0, binding = 1, std430) buffer Coarse { vec4 coarse[]; };
// Of the coarse plane; vectors of a fine pixel.
layout(push_constant) uniform Push { int width, height, vectors, firstRow; };

void main() {
    int i = int(gl_GlobalInvocationID.x), y = firstRow + int(gl_WorkGroupID.y);
    if (i >= width * 4 * vectors) return;
    int c = i % vectors, q = i / vectors % 4, x = i / (4 * vectors);
    int small = ((y + 1) * (width + 2) + x + 1) * 4 * vectors + q * vectors + c;
    int large = ((2 * y + q / 2 + 1) * (2 * width + 2) + 2 * x + q % 2 + 1) * vectors + c;
    if (SPREADS == 0) coarse[small] = fine[large];
    else fine[large] += coarse[small];
}
