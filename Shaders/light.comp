#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// Light that reaches the cells of a volume: rayClarity, rayAmbientSweep, rayAmbientMean and rayShadow of CKernels/rays.c.
#include "parameters.h"

layout(local_size_x = 64) in;
#define CLARITY 0
#define SWEEP 1
#define MEAN 2
#define SHADOW 3
layout(constant_id = 0) const int MODE = CLARITY;
layout(constant_id = 1) const int FORMAT = VOXELS_INT16;
layout(constant_id = 2) const int SURFACE = 0;
const int CLASSES = 8192;

// Clarity 0 ... 1; sweeps and shadows 0 ... 255, whole numbers; the mean is bytes, four a word.
layout(set = 0, binding = 0, std430) buffer Clarity { float clarity[]; };
layout(set = 0, binding = 1, std430) buffer Sum { uint sum[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Bytes { uint bytes[]; };
layout(set = 0, binding = 3, std140) uniform Parameters { RayParameters w; };
layout(set = 0, binding = 4) uniform itextureBuffer classes;
layout(set = 0, binding = 5) uniform itexture3D wholeVolume;
layout(set = 0, binding = 6) uniform texture3D realVolume;
layout(set = 0, binding = 7) uniform texture3D ranges;
// CLARITY: first cell, slices before those of the image, end of the cells. SWEEP: direction, and how much of a shadow is left after one cell. SHADOW: steepest axis, its layer, the one before (or -1), and the lateral way of the light.
layout(push_constant) uniform Push { int a, b, c; float x, y, z; };

uint cellIndex(ivec3 i) { return (uint(i.z) * uint(w.cellsY) + uint(i.y)) * uint(w.cellsX) + uint(i.x); }
int classOf(float v) { return int(clamp((v - w.classFirst) * w.classesPerUnit, 0.0, float(CLASSES - 1))); }

// x: the length in mm for which the clarity holds.
void clarify(uint index) {
    ivec3 n = ivec3(w.cellsX, w.cellsY, w.cellsZ);
    uint row = index / uint(n.x);
    ivec3 cell = ivec3(index - row * uint(n.x), row % uint(n.y), row / uint(n.y));
    float result = 1.0;
    vec2 r = texelFetch(ranges, cell, 0).rg;
    bool empty = r.x > r.y || (SURFACE != 0 ? r.y < w.isovalue : texelFetch(classes, classOf(r.y) + 1).x == texelFetch(classes, classOf(r.x)).x);
    vec3 center = vec3(cell) * 4.0 + 2.0;
    for (int k = 0; k < w.cuts; k++) if (dot(center, w.cut[k].xyz) > w.cut[k].w) empty = true;
    if (!empty) {
        float total = 0.0, count = 0.0;
        ivec3 high = min(cell * 4 + 3, ivec3(w.sizeX, w.sizeY, w.sizeZ) - 1);
        for (int k = cell.z * 4; k <= high.z; k += 2) for (int j = cell.y * 4; j <= high.y; j += 2) for (int i = cell.x * 4; i <= high.x; i += 2) {
            float v = FORMAT == VOXELS_INT16 ? float(texelFetch(wholeVolume, ivec3(i, j, k - b), 0).r) : texelFetch(realVolume, ivec3(i, j, k - b), 0).r;
            if (SURFACE != 0) total += v >= w.isovalue ? 3.0 : 0.0;
            else { int q = classOf(v); total += float(texelFetch(classes, q + 1).x - texelFetch(classes, q).x) * w.extinctionScale; }
            count += 1.0;
        }
        result = exp2(-total / count * x);
    }
    clarity[index] = result;
}

// One line of cells along a direction, from where it enters the volume: every cell lies on one line.
void sweep(uint index) {
    ivec3 n = ivec3(w.cellsX, w.cellsY, w.cellsZ), d = ivec3(0);
    if (a < 6) d[a >> 1] = (a & 1) != 0 ? 1 : -1;
    else for (int i = 0; i < 3; i++) d[i] = (a - 6 >> i & 1) != 0 ? 1 : -1;
    // Cells with no neighbour towards the light: up to three faces, without counting edges twice.
    ivec3 cell;
    uint faceX = d.x != 0 ? uint(n.y * n.z) : 0, faceY = d.y != 0 ? uint((n.x - abs(d.x)) * n.z) : 0, faceZ = d.z != 0 ? uint((n.x - abs(d.x)) * (n.y - abs(d.y))) : 0;
    if (index < faceX) cell = ivec3(0, index % uint(n.y), index / uint(n.y));
    else if (index < faceX + faceY) {
        index -= faceX;
        uint across = uint(n.x - abs(d.x));
        cell = ivec3(int(index % across) + abs(d.x), 0, index / across);
    } else if (index < faceX + faceY + faceZ) {
        index -= faceX + faceY;
        uint across = uint(n.x - abs(d.x));
        cell = ivec3(int(index % across) + abs(d.x), int(index / across) + abs(d.y), 0);
    } else return;
    // Counted from the side the light comes from.
    if (d.x < 0) cell.x = n.x - 1 - cell.x;
    if (d.y < 0) cell.y = n.y - 1 - cell.y;
    if (d.z < 0) cell.z = n.z - 1 - cell.z;
    float light = 255.0;
    while (true) {
        uint i = cellIndex(cell);
        sum[i] += uint(light);
        float passed = light * clarity[i];
        light = floor(255.5 - (255.0 - passed) * x);
        cell += d;
        if (any(lessThan(cell, ivec3(0))) || any(greaterThanEqual(cell, n))) break;
    }
}

void mean(uint word) {
    uint count = uint(w.cellsX) * uint(w.cellsY) * uint(w.cellsZ), bits = 0;
    for (uint k = 0; k < 4; k++) {
        uint i = word * 4 + k;
        if (i >= count) break;
        // Ambient light comes from 14 directions; a flat wall, which sees half of them, counts as lit.
        uint value = a != 0 ? min(sum[i] * 2 / 14, 255) : sum[i];
        bits |= value << (8 * k);
    }
    if (word * 4 < count) bytes[word] = bits;
}

// One layer of cells from the one before; z: power from the clarity's length to that of a step.
void shadow(uint index) {
    ivec3 n = ivec3(w.cellsX, w.cellsY, w.cellsZ);
    int axisU = a == 0 ? 1 : 0, axisV = a == 2 ? 1 : 2;
    int nu = n[axisU], nv = n[axisV], iu = int(index % uint(nu)), iv = int(index / uint(nu));
    if (iv >= nv) return;
    ivec3 cell = ivec3(0);
    cell[axisU] = iu; cell[axisV] = iv; cell[a] = b;
    float u = float(iu) - x, v = float(iv) - y;
    uint here = cellIndex(cell);
    if (c < 0 || u < 0.0 || v < 0.0 || u > float(nu - 1) || v > float(nv - 1)) { sum[here] = 255; return; }
    int u0 = clamp(int(u), 0, max(nu - 2, 0)), v0 = clamp(int(v), 0, max(nv - 2, 0));
    float tu = u - float(u0), tv = v - float(v0), total = 0.0;
    for (int corner = 0; corner < 4; corner++) {
        float weight = ((corner & 1) != 0 ? tu : 1.0 - tu) * ((corner & 2) != 0 ? tv : 1.0 - tv);
        if (!(weight > 0.0)) continue;
        cell[axisU] = min(u0 + (corner & 1), nu - 1); cell[axisV] = min(v0 + (corner >> 1), nv - 1); cell[a] = c;
        uint before = cellIndex(cell);
        total += weight * float(sum[before]) * (clarity[before] < 1.0 ? pow(clarity[before], z) : 1.0);
    }
    sum[here] = uint(total + 0.5);
}

void main() {
    uint index = (gl_WorkGroupID.y * 65535u + gl_WorkGroupID.x) * 64u + gl_LocalInvocationID.x;
    if (MODE == CLARITY) { if (index < uint(c - a)) clarify(index + uint(a)); }
    else if (MODE == SWEEP) sweep(index);
    else if (MODE == MEAN) mean(index);
    else shadow(index);
}
