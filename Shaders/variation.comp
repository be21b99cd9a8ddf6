#version 450
// Total variation of a slab: dn_tv_primal and dn_tv_dual of CDenoising, a voxel an invocation.
layout(local_size_x = 64) in;
// 0: u = f + λ·div r; 1: r from the gradient of u.
layout(constant_id = 0) const int DUAL = 0;
layout(set = 0, binding = 0, std430) buffer Image { float u[]; };
// The noise map's part, the same for all slices.
layout(set = 0, binding = 1, std430) readonly buffer Lambda { float lambda[]; };
// Three components a slice.
layout(set = 0, binding = 2, std430) buffer Field { float r[]; };
// What is denoised; for the dual step the field before extrapolation.
layout(set = 0, binding = 3, std430) buffer Other { float other[]; };
layout(push_constant) uniform Push { int firstLine, width, height, slices; float sliceWeight, momentum; };

void main() {
    int x = int(gl_GlobalInvocationID.x), line = firstLine + int(gl_WorkGroupID.y), z = line / height, y = line % height, n = width * height;
    if (x >= width) return;
    int i = y * width + x, at = 3 * z * n + i;
    if (DUAL == 0) {
        float divergence = r[at] + r[at + n] + sliceWeight * r[at + 2 * n];
        if (x > 0) divergence -= r[at - 1];
        if (y > 0) divergence -= r[at + n - width];
        if (z > 0) divergence -= sliceWeight * r[at - n];
        u[z * n + i] = other[z * n + i] + lambda[i] * divergence;
    } else {
        float own = u[z * n + i], right = x + 1 < width ? u[z * n + i + 1] : own, down = y + 1 < height ? u[z * n + i + width] : own, over = z + 1 < slices ? u[z * n + i + n] : own;
        float step = 1.0 / (12.0 * lambda[i]);
        vec3 q = vec3(r[at], r[at + n], r[at + 2 * n]) + step * vec3(right - own, down - own, sliceWeight * (over - own));
        q /= max(1.0, sqrt(dot(q, q)));
        vec3 before = vec3(other[at], other[at + n], other[at + 2 * n]), moved = q + momentum * (q - before);
        r[at] = moved.x; r[at + n] = moved.y; r[at + 2 * n] = moved.z;
        other[at] = q.x; other[at + n] = q.y; other[at + 2 * n] = q.z;
    }
}
