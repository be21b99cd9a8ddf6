#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// Planes, slabs, curves and slices: the loop of CKernels/plane_body.h, one invocation a pixel.
#include "parameters.h"
#include "arithmetic.h"

// See rays.comp. A work group of one row reads its line once for all of its pixels.
#ifdef LOADS
layout(local_size_x = 64) in;
#define INTEGERS(n, name) layout(set = 0, binding = n, r16i) uniform readonly iimage3D name
#define FETCH(image, i) imageLoad(image, i)
#define DECIDING(uniform_) ((uniform_) + int(gl_GlobalInvocationID.x >> 31))
#else
layout(local_size_x = 8, local_size_y = 8) in;
#define INTEGERS(n, name) layout(set = 0, binding = n) uniform itexture3D name
#define FETCH(image, i) texelFetch(image, i, 0)
#define DECIDING(uniform_) (uniform_)
#endif
layout(constant_id = 0) const int FORMAT = VOXELS_INT16;
layout(constant_id = 1) const int INTERPOLATION = INTERPOLATION_LINEAR;
layout(constant_id = 2) const int FOLD = FOLD_MEAN;
// Some slices have not arrived.
layout(constant_id = 3) const int PARTIAL = 0;
// Cuts and labels leave samples out.
layout(constant_id = 4) const int CROPPED = 0;
// Labels are folded by their ranks.
layout(constant_id = 5) const int RANKED = 0;
// The image is a pool of bricks of a volume that does not fit.
layout(constant_id = 6) const int BRICKED = 0;

layout(set = 0, binding = 0, std430) writeonly buffer Target { uint target[]; };
INTEGERS(1, whole);
layout(set = 0, binding = 2) uniform texture3D real_;
layout(set = 0, binding = 3, std140) uniform Parameters { MarchParameters m; };
layout(set = 0, binding = 4, std430) readonly buffer Lines { MarchLine lines[]; };
layout(set = 0, binding = 5, std430) readonly buffer Loaded { uint loaded[]; };
layout(set = 0, binding = 6, std140) uniform Cropping { CropParameters crop; };
// Ranks of labels, or per label whether it is hidden; behind them where in the pool each brick lies, ten bits an axis.
layout(set = 0, binding = 7, std430) readonly buffer Tables { uint tables[]; };
INTEGERS(8, labels0);
INTEGERS(9, labels1);
INTEGERS(10, labels2);
INTEGERS(11, labels3);
layout(push_constant) uniform Band { int firstRow; int pages, bricksX, bricksY; };

vec4 stored(ivec3 i) {
    if (BRICKED != 0) {
        ivec3 brick = i / BRICK_EDGE;
        uint page = tables[pages + (brick.z * bricksY + brick.y) * bricksX + brick.x];
        i += (ivec3(page & 1023u, page >> 10 & 1023u, page >> 20) - brick) * BRICK_EDGE;
    }
    if (FORMAT == VOXELS_INT16) return vec4(float(FETCH(whole, i).r));
    if (FORMAT == VOXELS_LABEL16) {
        int label = FETCH(whole, i).r & 0xffff;
        return vec4(float(RANKED != 0 ? int(tables[label]) : label));
    }
    if (FORMAT == VOXELS_RGBA8) return floor(texelFetch(real_, i, 0) * 255.0 + 0.5);
    return vec4(texelFetch(real_, i, 0).r);
}
vec4 mixed(vec4 a, vec4 b, float t) { return a + t * (b - a); }

// origin + i right, exact to 2^-32 voxels.
void place(int i, int originWhole, int originFraction, int rightWhole, int rightFraction, out int whole_, out float rest) {
    uint high, low, carry;
    umulExtended(uint(rightFraction), uint(i), high, low);
    uint sum = uaddCarry(uint(originFraction), low, carry);
    whole_ = originWhole + rightWhole * i + int(high) + int(carry);
    rest = float(sum >> 8) * (1.0 / 16777216.0);
}

// Rows of the stencil along one axis: the first neighbour, its distance, in the volume.
void cell(int base, float p, int n, out int first, out float t) {
    float q = min(max(p, float(-base)), float(n - 1 - base));
    int i = min(int(floor(q)), max(n - 2, 0) - base);
    first = base + i;
    t = q - float(i);
}

vec4 linear(ivec3 a, vec3 t) {
    ivec3 b = min(a + 1, ivec3(m.columns, m.rows, m.slices) - 1);
    return mixed(mixed(mixed(stored(a), stored(ivec3(b.x, a.yz)), t.x), mixed(stored(ivec3(a.x, b.y, a.z)), stored(ivec3(b.xy, a.z)), t.x), t.y),
                 mixed(mixed(stored(ivec3(a.xy, b.z)), stored(ivec3(b.x, a.y, b.z)), t.x), mixed(stored(ivec3(a.x, b.yz)), stored(b), t.x), t.y), t.z);
}

vec4 cubic(ivec3 a, vec3 t) {
    ivec3 last = ivec3(m.columns, m.rows, m.slices) - 1;
    float wx[4] = float[4](cubicWeightA(t.x), cubicWeightB(t.x), cubicWeightC(t.x), cubicWeightD(t.x));
    float wy[4] = float[4](cubicWeightA(t.y), cubicWeightB(t.y), cubicWeightC(t.y), cubicWeightD(t.y));
    float wz[4] = float[4](cubicWeightA(t.z), cubicWeightB(t.z), cubicWeightC(t.z), cubicWeightD(t.z));
    vec4 sum = vec4(0);
    for (int z = 0; z < 4; z++) {
        vec4 plane = vec4(0);
        for (int y = 0; y < 4; y++) {
            ivec3 i = clamp(a + ivec3(0, y - 1, z - 1), ivec3(0), last);
            vec4 row = (stored(ivec3(max(a.x - 1, 0), i.yz)) * wx[0] + stored(ivec3(a.x, i.yz)) * wx[1]) +
                       (stored(ivec3(min(a.x + 1, last.x), i.yz)) * wx[2] + stored(ivec3(min(a.x + 2, last.x), i.yz)) * wx[3]);
            plane += row * wy[y];
        }
        sum += plane * wz[z];
    }
    return sum;
}

int labelAt(int map, ivec3 i) {
    int label = map == 0 ? FETCH(labels0, i).r : map == 1 ? FETCH(labels1, i).r : map == 2 ? FETCH(labels2, i).r : FETCH(labels3, i).r;
    return label & 0xffff;
}

// Whether cuts and labels leave a sample, so many voxels from the middle voxel.
bool keeps(vec3 p) {
    for (int n = 0; n < DECIDING(crop.cuts); n++) if (dot(crop.cut[n].xyz, p) > crop.cut[n].w + BORDER_SLACK) return false;
    for (int n = 0; n < DECIDING(crop.labelCount); n++) {
        vec4 q = vec4(p, 1.0);
        ivec3 n_ = ivec3(crop.labels[n].sizeX, crop.labels[n].sizeY, crop.labels[n].sizeZ);
        vec3 x = floor(vec3(dot(crop.labels[n].rowX, q), dot(crop.labels[n].rowY, q), dot(crop.labels[n].rowZ, q)) + (0.5 + BORDER_SLACK));
        if (any(lessThan(x, vec3(0))) || any(greaterThanEqual(x, vec3(n_)))) {
            if (crop.labels[n].hiddenOutside != 0) return false;
        } else if (tables[crop.labels[n].table + labelAt(n, ivec3(x))] != 0) return false;
    }
    return true;
}

void main() {
    ivec2 pixel = ivec2(gl_GlobalInvocationID.xy) + ivec2(0, firstRow);
#ifdef LOADS
    MarchLine l = lines[gl_WorkGroupID.y];
    if (pixel.x >= m.width || pixel.y >= m.height) return;
#else
    if (pixel.x >= m.width || pixel.y >= m.height) return;
    MarchLine l = lines[pixel.y - firstRow];
#endif
    ivec3 base, size = ivec3(m.columns, m.rows, m.slices);
    vec3 start, stride = vec3(l.stepX, l.stepY, l.stepZ);
    place(pixel.x, l.originX, l.originFractionX, l.rightX, l.rightFractionX, base.x, start.x);
    place(pixel.x, l.originY, l.originFractionY, l.rightY, l.rightFractionY, base.y, start.y);
    place(pixel.x, l.originZ, l.originFractionZ, l.rightZ, l.rightFractionZ, base.z, start.z);
    vec3 low = vec3(-0.5) - vec3(base), high = vec3(size) - 0.5 - vec3(base);
    vec4 best = vec4(FOLD == FOLD_MEAN ? 0.0 : FOLD == FOLD_MAXIMUM ? -3.4e38 : 3.4e38);
    float count = 0.0;
    int k = 0;
    // At least one: where branches are masks, a loop that ends before its body runs it once more in vain.
    do {
        vec3 p = start + float(k) * stride;
        bool isIn = all(greaterThanEqual(p, low)) && all(lessThanEqual(p, high));
        if (CROPPED != 0 && isIn) isIn = keeps(vec3(base - size / 2) + p);
        if (isIn) {
            vec4 value;
            if (INTERPOLATION == INTERPOLATION_NEAREST) {
                ivec3 i = clamp(base + ivec3(floor(p + (0.5 + BORDER_SLACK))), ivec3(0), size - 1);
                if (PARTIAL != 0 && loaded[i.z] == 0) isIn = false;
                value = stored(i);
            } else {
                ivec3 first;
                vec3 t;
                cell(base.x, p.x, size.x, first.x, t.x);
                cell(base.y, p.y, size.y, first.y, t.y);
                cell(base.z, p.z, size.z, first.z, t.z);
                if (PARTIAL != 0) {
                    // A slice that has not arrived is replaced by its neighbour; between two of them there is nothing.
                    uint here = loaded[first.z], behind = loaded[min(first.z + 1, size.z - 1)];
                    if ((here | behind) == 0) isIn = false;
                    if (here == 0) t.z = 1.0; else if (behind == 0) t.z = 0.0;
                }
                value = INTERPOLATION == INTERPOLATION_CUBIC ? cubic(first, t) : linear(first, t);
            }
            if (isIn) {
                if (FOLD == FOLD_MEAN) best += value;
                else if (FOLD == FOLD_MAXIMUM) best = max(best, value);
                else best = min(best, value);
                count += 1.0;
            }
        }
    } while (++k < DECIDING(m.samples));
    if (FOLD == FOLD_MEAN) best /= max(count, 1.0);
    uint at = uint(pixel.y) * uint(m.width) + uint(pixel.x);
    if (FORMAT == VOXELS_RGBA8) {
        uvec4 c = uvec4(clamp(best + 0.5, vec4(0), vec4(255)));
        target[at] = count > 0.0 ? c.r | c.g << 8 | c.b << 16 | c.a << 24 : 0;
    } else target[at] = floatBitsToUint(count > 0.0 ? best.r * m.slope + m.intercept : m.background);
}
