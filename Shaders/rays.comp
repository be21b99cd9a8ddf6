#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_samplerless_texture_functions : require
// Rays through a whole volume: the loops of CKernels/ray_body.h, one invocation a ray. A work group is a tile of the CPU's, so
// that both choose the same axis to march along.
#include "parameters.h"
#include "arithmetic.h"

// Eight by eight pixels; see `main`.
layout(local_size_x = 64) in;
// Volumes are read as textures, or (compiled with LOADS, for software drivers) as storage images: what a texture unit does for nothing they do by hand.
#ifdef LOADS
#define INTEGERS(n, name) layout(set = 0, binding = n, r16i) uniform readonly iimage3D name
#define NUMBERS(n, name) layout(set = 0, binding = n, r32f) uniform readonly image3D name
#define RANGES(n, name) layout(set = 0, binding = n, rg32f) uniform readonly image3D name
#define PARTS(n, name) layout(set = 0, binding = n, r8) uniform readonly image3D name
#define FETCH(image, i) imageLoad(image, i)
// For what alone decides a branch: lavapipe looks such uniforms up at every dispatch and makes a shader for their values, which takes longer than it saves. This
// zero, of which it does not know that it is one, keeps it from that.
#define DECIDING(uniform_) ((uniform_) + int(gl_GlobalInvocationID.x >> 31))
#else
#define INTEGERS(n, name) layout(set = 0, binding = n) uniform itexture3D name
#define NUMBERS(n, name) layout(set = 0, binding = n) uniform texture3D name
#define RANGES(n, name) NUMBERS(n, name)
#define PARTS(n, name) NUMBERS(n, name)
#define FETCH(image, i) texelFetch(image, i, 0)
#define DECIDING(uniform_) (uniform_)
#endif

layout(constant_id = 0) const int FORMAT = VOXELS_INT16;
layout(constant_id = 1) const int FOLD = RAY_FOLD_COMPOSITE;
// Samples per voxel plane.
layout(constant_id = 2) const int SUB = 2;
// Gradients are needed: shading or gradient opacity.
layout(constant_id = 3) const int SHADES = 1;
layout(constant_id = 4) const int LABELS = 0;
layout(constant_id = 5) const int GLOWS = 0;
layout(constant_id = 6) const int OCCLUDED = 0;
// Steps that give much to a composite are halved.
layout(constant_id = 7) const int HALVES = 0;

// The volume comes in slabs of slices, one after the other; the state of every ray is kept between them.
layout(constant_id = 8) const int SLABS = 0;
// Values between voxels come from the sampler, whose weights may have no more than 8 bits, and gradients from those: for moving pictures.
#ifndef LOADS
layout(constant_id = 9) const int FILTERED = 0;
#else
// Threads of the software driver.
layout(constant_id = 10) const int THREADS = 1;
#endif

layout(set = 0, binding = 0, std430) writeonly buffer Target { uint target[]; };
// Sums of the passes so far; with slabs, the state of the rays.
layout(set = 0, binding = 1, std430) buffer Work { vec4 work[]; };
layout(set = 0, binding = 2, std430) readonly buffer Tables { uint tables[]; };
layout(set = 0, binding = 3, std140) uniform Parameters { RayParameters w; };
// Integrals of the transfer function: extinction, and colours times extinction.
layout(set = 0, binding = 4) uniform itextureBuffer classes;
INTEGERS(5, wholeVolume);
// With FILTERED integers too, divided by 32767.
NUMBERS(6, realVolume);
// Cells of 4 voxels and groups of 8 cells: smallest and largest value; whether anything is visible.
RANGES(7, ranges);
RANGES(8, groupRanges);
PARTS(9, visible);
PARTS(10, groupVisible);
PARTS(11, reached);
INTEGERS(12, labels0);
INTEGERS(13, labels1);
INTEGERS(14, labels2);
INTEGERS(15, labels3);
INTEGERS(16, wholeGlow0);
NUMBERS(17, realGlow0);
INTEGERS(18, wholeGlow1);
NUMBERS(19, realGlow1);
#ifndef LOADS
layout(set = 0, binding = 20) uniform sampler smoothing;
#endif
// Of a slab: the slice of the volume that is the texture's first, the texture's slices; the slices for whose samples it answers; whether rays that rise
// through the slices are marched or those that fall; 1: their first slab, 2: their last.
layout(push_constant) uniform Band { int firstRow; int pass; float jitterX, jitterY; int sliceOffset, sliceCount; float slabLow, slabHigh; int rising, phase; };

const int CELL = 4, GROUP = 8, CLASSES = 8192;
const float INFINITE = 3.0e38;

// The frame: lateral axes u and v, and k along which the ray is marched.
int axis;
bool forwards, thin;
ivec3 size, cellCount;              // in u, v, k
ivec3 stepU, stepV, stepK;          // to the neighbours in voxels; zero along an axis of one voxel
float u0, du, v0, dv;               // u = u0 + k du
float enter, leave;                 // in k; enter > leave: the ray misses
float lengthPerPlane;               // mm
float t0, dt;                       // of plane k
vec3 viewing;                       // unit direction in patient space

// Parameters of the loops, read once by `main`: where branches are masks, a read under one is a gather.
float classFirst, classesPerUnit, extinctionScale, opaque, ambient, diffuse, specular, shininess, gradientKnee, gradientLow, gradientPerUnit, isovalue;
float depthCue, cueFloor, cueNear, cuePerUnit;
int lowestClass, highestClass, headlight, gradientOpacity, shaded;
vec3 gradientX, gradientY, gradientZ, lightWay;

ivec3 at(int u, int v, int k) { return axis == 0 ? ivec3(k, u, v) : axis == 1 ? ivec3(u, k, v) : ivec3(u, v, k); }
vec3 at(float u, float v, float k) { return axis == 0 ? vec3(k, u, v) : axis == 1 ? vec3(u, k, v) : vec3(u, v, k); }
ivec3 turned(ivec3 i) { return axis == 0 ? i.yzx : axis == 1 ? i.xzy : i; }
vec3 turned(vec3 p) { return axis == 0 ? p.yzx : axis == 1 ? p.xzy : p; }

float stored(ivec3 i) {
    if (SLABS != 0) i.z = clamp(i.z - sliceOffset, 0, sliceCount - 1);
    return FORMAT == VOXELS_INT16 ? float(FETCH(wholeVolume, i).r) : FETCH(realVolume, i).r;
}

#ifdef LOADS
const int FILTERED = 0;
float smoothed(vec3 p) { return 0.0; }
#else
// Value at any position, by the sampler.
float smoothed(vec3 p) {
    float value = textureLod(sampler3D(realVolume, smoothing), (p + 0.5) / vec3(w.sizeX, w.sizeY, w.sizeZ), 0.0).r;
    return FORMAT == VOXELS_INT16 ? value * 32767.0 : value;
}
#endif

// Value on plane `plane` + part of the frame, clamped to the volume.
float sampled(float u, float v, int plane, float part) {
    if (FILTERED != 0) return smoothed(at(u, v, float(plane) + part));
    u = clamp(u, 0.0, float(size.x - 1)); v = clamp(v, 0.0, float(size.y - 1));
    int iu = min(int(u), max(size.x - 2, 0)), iv = min(int(v), max(size.y - 2, 0));
    float fu = u - float(iu), fv = v - float(iv);
    ivec3 i = at(iu, iv, plane), uv = stepU + stepV;
    float a = lerp(lerp(stored(i), stored(i + stepU), fu), lerp(stored(i + stepV), stored(i + uv), fu), fv);
    // A constant, or the plane behind would be read in any case where branches are masks.
    if (part == 0.0) return a;
    i += stepK;
    return lerp(a, lerp(lerp(stored(i), stored(i + stepU), fu), lerp(stored(i + stepV), stored(i + uv), fu), fv), part);
}
float onPlane(int plane) { return sampled(u0 + float(plane) * du, v0 + float(plane) * dv, thin ? 0 : plane, 0.0); }
// At position n / SUB along the ray.
float along(int n) {
    if (SUB == 1) return onPlane(n);
    int plane = thin ? 0 : n / SUB;
    float k = float(n) * (1.0 / float(SUB));
    return sampled(u0 + k * du, v0 + k * dv, plane, float(n - plane * SUB) * (1.0 / float(SUB)));
}

// Value at any position, clamped to the volume.
float anywhere(vec3 p) {
    if (FILTERED != 0) return smoothed(p);
    ivec3 n = ivec3(w.sizeX, w.sizeY, w.sizeZ);
    p = clamp(p, vec3(0), vec3(n - 1));
    ivec3 i = min(ivec3(p), max(n - 2, 0)), j = min(i + 1, n - 1);
    vec3 t = p - vec3(i);
    return lerp(lerp(lerp(stored(i), stored(ivec3(j.x, i.yz)), t.x), lerp(stored(ivec3(i.x, j.y, i.z)), stored(ivec3(j.xy, i.z)), t.x), t.y),
                lerp(lerp(stored(ivec3(i.xy, j.z)), stored(ivec3(j.x, i.y, j.z)), t.x), lerp(stored(ivec3(i.x, j.yz)), stored(j), t.x), t.y), t.z);
}

// Light of the last shaded plane.
float lit, gloss, steep;
int litAt;

// Blinn-Phong factors from a gradient in voxels (x, y, z).
void lighten(vec3 g) {
    vec3 n = vec3(dot(gradientX, g), dot(gradientY, g), dot(gradientZ, g));
    float square = dot(n, n) + 1e-20, root = sqrt(square), inverse = 1.0 / root;
    float nl, nh;
    if (headlight != 0) nl = nh = abs(dot(n, viewing)) * inverse;
    else {
        vec3 h = lightWay - viewing;
        nl = abs(dot(n, lightWay)) * inverse;
        nh = abs(dot(n, h)) * inversesqrt(dot(h, h) + 1e-12) * inverse;
    }
    float weight = square / (square + gradientKnee);
    lit = ambient + diffuse * (1.0 + weight * (nl - 1.0));
    gloss = specular * weight * exp2(shininess * log2(clamp(nh, 1e-6, 1.0)));
    if (gradientOpacity != 0) steep = clampUnit((root - gradientLow) * gradientPerUnit);
}

// Light that reaches a position in voxels, 0 ... 1, between the centres of cells.
float reaching(vec3 q) {
    ivec3 n = ivec3(w.cellsX, w.cellsY, w.cellsZ);
    vec3 x = clamp((q + w.reachedOffset.xyz) * (1.0 / float(CELL)) - 0.5, vec3(0), vec3(n - 1));
    ivec3 i = min(ivec3(x), max(n - 2, 0)), j = min(i + 1, n - 1);
    vec3 t = x - vec3(i);
#define LIGHT(x, y, z) FETCH(reached, ivec3(x, y, z)).r
    return lerp(lerp(lerp(LIGHT(i.x, i.y, i.z), LIGHT(j.x, i.y, i.z), t.x), lerp(LIGHT(i.x, j.y, i.z), LIGHT(j.x, j.y, i.z), t.x), t.y),
                lerp(lerp(LIGHT(i.x, i.y, j.z), LIGHT(j.x, i.y, j.z), t.x), lerp(LIGHT(i.x, j.y, j.z), LIGHT(j.x, j.y, j.z), t.x), t.y), t.z);
}
void occlude(vec3 q) {
    float r = reaching(q);
    lit = DECIDING(w.occludesAmbient) != 0 ? lit * r : ambient + (lit - ambient) * r;
    gloss *= r;
}

// Central differences of interpolated samples on a plane.
void shade(int plane) {
    float k = float(plane), lastU = float(size.x - 1), lastV = float(size.y - 1);
    float u = clamp(u0 + k * du, 0.0, lastU), v = clamp(v0 + k * dv, 0.0, lastV);
    float u1 = min(u + 1.0, lastU), uLow = max(u - 1.0, 0.0), v1 = min(v + 1.0, lastV), vLow = max(v - 1.0, 0.0);
    int k1 = min(plane + 1, size.z - 1), kLow = max(plane - 1, 0);
    float gu, gv;
    if (FILTERED != 0) {
        gu = sampled(u1, v, plane, 0.0) - sampled(uLow, v, plane, 0.0);
        gv = sampled(u, v1, plane, 0.0) - sampled(u, vLow, plane, 0.0);
    } else {
        // The four samples share voxels: those around the position, and the next on each side. At the border the last voxel stands for the one beyond it.
        int iu = min(int(u), max(size.x - 2, 0)), iv = min(int(v), max(size.y - 2, 0));
        float fu = u - float(iu), fv = v - float(iv);
        int ju = min(iu + 1, size.x - 1), jv = min(iv + 1, size.y - 1), au = max(iu - 1, 0), av = max(iv - 1, 0), bu = min(iu + 2, size.x - 1), bv = min(iv + 2, size.y - 1);
        float a = stored(at(iu, iv, plane)), b = stored(at(ju, iv, plane)), c = stored(at(iu, jv, plane)), d = stored(at(ju, jv, plane));
        gu = lerp(lerp(b, stored(at(bu, iv, plane)), fu), lerp(d, stored(at(bu, jv, plane)), fu), fv) - lerp(lerp(stored(at(au, iv, plane)), a, fu), lerp(stored(at(au, jv, plane)), c, fu), fv);
        gv = lerp(lerp(c, d, fu), lerp(stored(at(iu, bv, plane)), stored(at(ju, bv, plane)), fu), fv) - lerp(lerp(stored(at(iu, av, plane)), stored(at(ju, av, plane)), fu), lerp(a, b, fu), fv);
    }
    gu /= max(u1 - uLow, 1e-3); gv /= max(v1 - vLow, 1e-3);
    float gk = (sampled(u, v, k1, 0.0) - sampled(u, v, kLow, 0.0)) / float(max(k1 - kLow, 1));
    lighten(at(gu, gv, gk));
    if (OCCLUDED != 0) occlude(at(u, v, k));
    litAt = plane;
}

int classOf(float value) { return int(clamp((value - classFirst) * classesPerUnit, 0.0, float(CLASSES - 1))); }

int labelAt(int map, ivec3 i) {
    int label = map == 0 ? FETCH(labels0, i).r : map == 1 ? FETCH(labels1, i).r : map == 2 ? FETCH(labels2, i).r : FETCH(labels3, i).r;
    return label & 0xffff;
}

// Whether labels hide a position in voxels (bit 0), second volumes that add nothing to it (bit 1 + n), and the colour laid over what is there.
uint hidden(vec3 q, out vec4 tint) {
    uint bits = 0;
    tint = vec4(0);
    for (int n = 0; n < DECIDING(w.labelCount); n++) {
        vec4 p = vec4(q, 1.0);
        ivec3 n_ = ivec3(w.labels[n].sizeX, w.labels[n].sizeY, w.labels[n].sizeZ);
        vec3 x = clamp(vec3(dot(w.labels[n].rowX, p), dot(w.labels[n].rowY, p), dot(w.labels[n].rowZ, p)), vec3(-2), vec3(n_ + 1));
        ivec3 i = ivec3(x + 2.5) - 2;
        if (any(lessThan(i, ivec3(0))) || any(greaterThanEqual(i, n_))) {
            bits |= uint(w.labels[n].hiddenOutside);
            continue;
        }
        int entry = w.labels[n].table + 2 * labelAt(n, i);
        bits |= tables[entry];
        uint t = tables[entry + 1];
        if (t >> 24 != 0) tint = vec4(float(t & 255), float(t >> 8 & 255), float(t >> 16 & 255), float(t >> 24)) * (1.0 / 255.0);
    }
    return bits;
}

float glowStored(int n, ivec3 i) {
    if (n == 0) return DECIDING(w.glows[0].format) == VOXELS_INT16 ? float(FETCH(wholeGlow0, i).r) : FETCH(realGlow0, i).r;
    return DECIDING(w.glows[1].format) == VOXELS_INT16 ? float(FETCH(wholeGlow1, i).r) : FETCH(realGlow1, i).r;
}

// Colour times extinction, and extinction per mm, of the second volumes at a position in voxels.
vec4 glowing(vec3 q, uint mute, float light, float shine) {
    vec4 sum = vec4(0);
    for (int n = 0; n < DECIDING(w.glowCount); n++) {
        if ((mute >> (n + 1) & 1) != 0) continue;
        vec4 p = vec4(q, 1.0);
        ivec3 n_ = ivec3(w.glows[n].sizeX, w.glows[n].sizeY, w.glows[n].sizeZ);
        vec3 x = vec3(dot(w.glows[n].rowX, p), dot(w.glows[n].rowY, p), dot(w.glows[n].rowZ, p));
        if (any(lessThan(x, vec3(-0.5))) || any(greaterThan(x, vec3(n_) - 0.5))) continue;
        x = clamp(x, vec3(0), vec3(n_ - 1));
        ivec3 i = min(ivec3(x), max(n_ - 2, 0)), j = min(i + 1, n_ - 1);
        vec3 t = x - vec3(i);
        float value = lerp(
            lerp(lerp(glowStored(n, i), glowStored(n, ivec3(j.x, i.yz)), t.x), lerp(glowStored(n, ivec3(i.x, j.y, i.z)), glowStored(n, ivec3(j.xy, i.z)), t.x), t.y),
            lerp(lerp(glowStored(n, ivec3(i.xy, j.z)), glowStored(n, ivec3(j.x, i.y, j.z)), t.x), lerp(glowStored(n, ivec3(i.x, j.yz)), glowStored(n, j), t.x), t.y), t.z);
        int entry = w.glows[n].table + 4 * int(clamp((value - w.glows[n].first) * w.glows[n].perUnit, 0.0, 255.0) + 0.5);
        vec4 e = uintBitsToFloat(uvec4(tables[entry], tables[entry + 1], tables[entry + 2], tables[entry + 3]));
        sum += vec4((w.glows[n].lit != 0 ? e.rgb * light + shine : e.rgb) * e.a, e.a);
    }
    return sum;
}

int steepest(vec3 d) { d = abs(d); return d.x > d.y && d.x > d.z ? 0 : d.y > d.z ? 1 : 2; }

// Cells along u and v that the ray touches between two positions: two each way at most.
ivec4 touched(float from, float to, float edge, ivec2 count) {
    vec2 a = vec2(u0, v0) + from * vec2(du, dv), b = vec2(u0, v0) + to * vec2(du, dv);
    ivec2 low = min(ivec2(max(min(a, b) - 0.01, 0.0) * (1.0 / edge)), count - 1);
    ivec2 high = min(min(ivec2(max(max(a, b) + 0.01, 0.0) * (1.0 / edge)), count - 1), low + 1);
    return ivec4(low, high);
}
bool isVisible(int layer) {
    ivec4 c = touched(float(layer * CELL), float((layer + 1) * CELL), float(CELL), cellCount.xy);
    return FETCH(visible, at(c.x, c.y, layer)).r + FETCH(visible, at(c.z, c.y, layer)).r +
           FETCH(visible, at(c.x, c.w, layer)).r + FETCH(visible, at(c.z, c.w, layer)).r > 0.0;
}
bool isGroupVisible(int group) {
    ivec4 c = touched(float(group * CELL * GROUP), float((group + 1) * CELL * GROUP), float(CELL * GROUP), (cellCount.xy + GROUP - 1) / GROUP);
    return FETCH(groupVisible, at(c.x, c.y, group)).r + FETCH(groupVisible, at(c.z, c.y, group)).r +
           FETCH(groupVisible, at(c.x, c.w, group)).r + FETCH(groupVisible, at(c.z, c.w, group)).r > 0.0;
}
// Largest value (minimum: negated smallest) that a ray can find.
float bounded(float bound) {
    if (FOLD == RAY_FOLD_MAXIMUM && depthCue > 0.0) bound = max(bound, cueFloor);
    return bound + abs(bound) * 1e-6;
}
// Of an empty cell, which holds the largest number and its opposite, the lowest rank.
float rangeOf(vec2 r) { return FOLD == RAY_FOLD_MAXIMUM ? r.y : -r.x; }
float bound(int layer) {
    ivec4 c = touched(float(layer * CELL), float((layer + 1) * CELL), float(CELL), cellCount.xy);
    return bounded(max(max(rangeOf(FETCH(ranges, at(c.x, c.y, layer)).rg), rangeOf(FETCH(ranges, at(c.z, c.y, layer)).rg)),
                       max(rangeOf(FETCH(ranges, at(c.x, c.w, layer)).rg), rangeOf(FETCH(ranges, at(c.z, c.w, layer)).rg))));
}
float groupBound(int group) {
    ivec4 c = touched(float(group * CELL * GROUP), float((group + 1) * CELL * GROUP), float(CELL * GROUP), (cellCount.xy + GROUP - 1) / GROUP);
    return bounded(max(max(rangeOf(FETCH(groupRanges, at(c.x, c.y, group)).rg), rangeOf(FETCH(groupRanges, at(c.z, c.y, group)).rg)),
                       max(rangeOf(FETCH(groupRanges, at(c.x, c.w, group)).rg), rangeOf(FETCH(groupRanges, at(c.z, c.w, group)).rg))));
}

// Whether a position along the ray belongs to the slab.
bool owned(float k) {
    if (SLABS == 0) return true;
    float z = axis == 2 ? k : v0 + k * dv;
    return z >= slabLow && z < slabHigh;
}

// What the ray has met so far.
vec3 color;
float rest, best, count;

// What the transfer function says of a stretch of the ray between two values.
struct Lookup {
    float tau;                      // per mm, in binary logarithms
    vec3 color;
    float path;                     // mm within the ray's limits; 0: it gives nothing
};
Lookup lookUp(float from, float to, int c0, int c1, float start, float end) {
    float low = min(start, end), high = max(start, end), first = max(enter, low), last = min(leave, high);
    Lookup l = Lookup(0.0, vec3(0), 0.0);
    if (!(last > first)) return l;
    if (first > low || last < high) {
        // A ray that starts or ends within the stretch: the values there, and what is left of its length.
        float per = 1.0 / (end - start);
        c0 = classOf(lerp(from, to, clampUnit((first - start) * per)));
        c1 = classOf(lerp(from, to, clampUnit((last - start) * per)));
    }
    int lower = min(c0, c1), upper = max(c0, c1) + 1;
    ivec4 integral = texelFetch(classes, upper) - texelFetch(classes, lower);
    if (GLOWS == 0 && integral.x <= 0) return l;
    l.path = lengthPerPlane * (last - first);
    l.tau = float(integral.x) * extinctionScale / float(upper - lower);
    if (integral.x > 0) l.color = vec3(integral.yzw) * (1.0 / float(integral.x));
    return l;
}
// Whether a step gives much to the ray.
bool isMuch(Lookup l) { return GLOWS != 0 || LABELS != 0 || rest * min(l.tau * l.path * 0.6931472, 1.0) > RAY_HALVED; }
// The voxel plane next to a stretch's middle, whose light it has; half way between two planes the one behind.
int planeOf(float middle) { return thin ? 0 : forwards ? int(middle + 0.5) : int(ceil(middle - 0.5)); }

void add(Lookup l, float start, float end) {
    float tau = l.tau, middle = 0.5 * (start + end), shine = 0.0, light = 1.0;
    uint bits = 0;
    vec3 c = l.color;
    if (SHADES != 0) {
        if (shaded != 0) { light = lit; c *= light; shine = gloss; }
        if (gradientOpacity != 0) tau *= steep;
    }
    if (LABELS != 0) {
        vec4 tint;
        bits = hidden(at(u0 + middle * du, v0 + middle * dv, middle - (thin ? 0.5 : 0.0)), tint);
        if ((bits & 1) != 0) tau = 0.0;
        c += tint.a * (tint.rgb * light - c);
    }
    c += shine;
    if (GLOWS != 0) {
        vec4 g = glowing(at(u0 + middle * du, v0 + middle * dv, middle - (thin ? 0.5 : 0.0)), bits, light, shine) * 1.44269504;
        float sum = tau + g.a;
        c = sum > 0.0 ? (c * tau + g.rgb) * (1.0 / sum) : vec3(0);
        tau = sum;
    }
    float after = rest * exp2(-(tau * l.path));
    color += (rest - after) * c;
    rest = after;
}

// Where a ray is in its search for the next stretch that matters: layer by layer, and within what is visible of them step by step. A loop
// finds the next stretch, the loop around it deals with it: neighbours wait for each other only there, and where a device runs both sides of
// every branch (software drivers do) the costly part runs as often as it must.
int layer, position, layerEnd;      // positions count samples
bool isOn;                          // there may be more
bool hasFront;                      // the value at `position` is known
float before, front;                // values at both ends of the last stretch
int beforeClass, frontClass;

void start(int firstLayer, int lastLayer) {
    layer = forwards ? firstLayer - 1 : lastLayer + 1;
    position = layerEnd = 0;
    isOn = rest > opaque;
    hasFront = false;
}
// From the end of a layer to the next with anything visible.
void seek(int firstLayer, int lastLayer) {
    const int direction = forwards ? 1 : -1, edge = forwards ? 0 : GROUP - 1, top = thin ? 1 : size.z - 1;
    bool seeks = isOn && position == layerEnd;
    do {
        if (seeks) {
            layer += direction;
            if (layer < firstLayer || layer > lastLayer) isOn = seeks = false;
            // Eight layers at once: most of a volume is empty.
            else if ((layer & (GROUP - 1)) == edge && !isGroupVisible(layer / GROUP)) layer += (GROUP - 1) * direction;
            else if (isVisible(layer)) {
                int low = layer * CELL * SUB, high = min(layer * CELL + CELL, top) * SUB;
                if (enter < float(high) * (1.0 / float(SUB)) && leave > float(low) * (1.0 / float(SUB))) {
                    int begin = forwards ? low : high;
                    layerEnd = forwards ? high : low;
                    if (begin != position) { position = begin; hasFront = false; }
                    seeks = false;
                }
            }
        }
    } while (seeks);
}

void composite(int firstLayer, int lastLayer) {
    const float spacing = 1.0 / float(SUB);
    const int direction = forwards ? 1 : -1;
    start(firstLayer, lastLayer);
    // A stretch that waits for the light of plane `heldAt`, where the next may start: they share it.
    Lookup held = Lookup(0.0, vec3(0), 0.0);
    float heldFrom = 0.0, heldTo = 0.0;
    int heldAt = 0;
    bool holds = false;
    do {
        Lookup l = Lookup(0.0, vec3(0), 0.0);
        bool searches;
        do {
            seek(firstLayer, lastLayer);
            bool steps = isOn, mayGive = false;
            do {
                if (steps) {
                    int next = hasFront ? position + direction : position;
                    float value = along(next);
                    before = front; beforeClass = frontClass;
                    front = value; frontClass = classOf(value);
                    mayGive = hasFront && max(beforeClass, frontClass) >= lowestClass && min(beforeClass, frontClass) <= highestClass && owned(0.5 * float(position + next) * spacing);
                    position = next;
                    hasFront = true;
                    // Who holds something looks at the very next stretch only.
                    steps = !holds && !mayGive && position != layerEnd;
                }
            } while (steps);
            if (mayGive) l = lookUp(before, front, beforeClass, frontClass, float(position - direction) * spacing, float(position) * spacing);
            searches = isOn && !holds && !(l.path > 0.0);
        } while (searches);

        float from = float(position - direction) * spacing, to = float(position) * spacing, half_ = 0.5 * (from + to);
        bool has = l.path > 0.0, held_ = holds, isHalved = HALVES != 0 && has && !holds && isMuch(l);
        if (SHADES != 0) {
            int plane = holds ? heldAt : planeOf(isHalved ? 0.5 * (from + half_) : half_);
            if ((has || holds) && litAt != plane) shade(plane);
        }
        if (holds) {
            add(held, heldFrom, heldTo);
            holds = false;
            if (!(rest > opaque)) isOn = has = false;
            isHalved = HALVES != 0 && has && isMuch(l);
        }
        if (HALVES != 0) {
            // Both halves where the step gives much to the ray, the whole elsewhere.
            Lookup second = l;
            float secondFrom = from;
            if (isHalved) {
                int low = min(position, position - direction);
                float k = float(low) + 0.5, middle = sampled(u0 + k * du, v0 + k * dv, thin ? 0 : low, 0.5);
                int middleClass = classOf(middle);
                l = lookUp(before, middle, beforeClass, middleClass, from, half_);
                second = lookUp(middle, front, middleClass, frontClass, half_, to);
                secondFrom = half_;
                if (l.path > 0.0) add(l, from, half_);
            }
            if (has && second.path > 0.0) {
                if (SHADES != 0 && (isHalved || held_)) {
                    held = second; heldFrom = secondFrom; heldTo = to; heldAt = planeOf(0.5 * (secondFrom + to));
                    holds = true;
                } else add(second, secondFrom, to);
            }
        } else if (has) add(l, from, to);
        if (!holds && !(rest > opaque)) isOn = false;
    } while (isOn || holds);
}

void surface(int firstLayer, int lastLayer) {
    const float spacing = 1.0 / float(SUB);
    const int direction = forwards ? 1 : -1;
    start(firstLayer, lastLayer);
    do {
        bool crosses = false;
        do {
            seek(firstLayer, lastLayer);
            bool steps = isOn;
            do {
                if (steps) {
                    int next = hasFront ? position + direction : position;
                    float value = along(next);
                    crosses = hasFront && owned(0.5 * float(position + next) * spacing) && (front < isovalue) != (value < isovalue);
                    before = front; front = value;
                    position = next;
                    hasFront = true;
                    steps = !crosses && position != layerEnd;
                }
            } while (steps);
        } while (isOn && !crosses);
        // Regula falsi with halving (Illinois).
        float a = float(position - direction) * spacing, z = float(position) * spacing, fa = before - isovalue, fz = front - isovalue, k = a;
        int round = 0;
        do {
            float down = fa - fz;
            k = a + clampUnit(abs(down) > 1e-20 ? fa / down : 0.5) * (z - a);
            float value = anywhere(at(u0 + k * du, v0 + k * dv, k)) - isovalue;
            bool same = (value < 0.0) == (fa < 0.0);
            if (same) { a = k; fz *= 0.5; fa = value; } else { z = k; fa *= 0.5; fz = value; }
        } while (++round < 5);
        bool isHit = crosses && k >= enter && k <= leave;
        vec3 q = at(u0 + k * du, v0 + k * dv, k), c = w.surface.rgb;
        if (LABELS != 0 && isHit) {
            vec4 tint;
            if ((hidden(q - (thin ? at(0.0, 0.0, 0.5) : vec3(0)), tint) & 1) != 0) isHit = false;
            c += tint.a * (tint.rgb - c);
        }
        if (isHit) {
            lighten(vec3(anywhere(q + vec3(1, 0, 0)) - anywhere(q - vec3(1, 0, 0)), anywhere(q + vec3(0, 1, 0)) - anywhere(q - vec3(0, 1, 0)),
                         anywhere(q + vec3(0, 0, 1)) - anywhere(q - vec3(0, 0, 1))) * 0.5);
            if (OCCLUDED != 0) occlude(q);
            color = c * lit + gloss;
            rest = 0.0;
            isOn = false;
        }
    } while (isOn);
}

// What a maximum compares: negated for a minimum, paler with depth.
float ranked(float k, float value) {
    if (FOLD == RAY_FOLD_MINIMUM) return -value;
    if (depthCue > 0.0) value = cueFloor + (value - cueFloor) * (1.0 - depthCue * clampUnit((t0 + k * dt - cueNear) * cuePerUnit));
    return value;
}

void fold(float k, float value) {
    if (LABELS != 0) {
        vec4 tint;
        if ((hidden(at(u0 + k * du, v0 + k * dv, k - (thin ? 0.5 : 0.0)), tint) & 1) != 0) return;
    }
    if (FOLD == RAY_FOLD_MEAN) { best += value; count += 1.0; }
    else best = max(best, ranked(k, value));
}

// Samples of a layer of cells that the ray reaches: its start and all between, its end too when no layer follows.
ivec2 samplesOf(int layer) {
    int first = layer * CELL * SUB, last = layer == cellCount.z - 1 ? (thin ? SUB : (size.z - 1) * SUB) : first + CELL * SUB - 1;
    return ivec2(max(first, int(ceil(enter * float(SUB)))), min(last, int(floor(leave * float(SUB)))));
}

void mean(int first, int last) {
    int n = samplesOf(first).x, end = samplesOf(last).y;
    if (n > end) return;
    do {
        float k = float(n) * (1.0 / float(SUB));
        float value = along(n);
        if (owned(k)) fold(k, value);
    } while (++n <= end);
}

// The layers that can raise what was found, the most promising first, of the most promising group and then of the others: a maximum does not
// care for order, and soon little else can raise it. Of two samples per voxel plane those half way to the next, which cost twice as much, come
// when the layer's others are known.
void extreme(int first, int last) {
    // Sixteen groups at a time, few volumes have more.
    const int groups = 16;
    int begin = first / GROUP;
    isOn = true;
    do {
        // Bounds by name and not in an array: what is found by an index would have to lie in memory.
#define GROUPS(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7) of(8) of(9) of(10) of(11) of(12) of(13) of(14) of(15)
#define GROUP_BOUND(n) float group##n = begin + n <= last / GROUP ? groupBound(begin + n) : -INFINITE;
        GROUPS(GROUP_BOUND)
        float most = -INFINITE;
        int here = begin;
#define PICK_GROUP(n) if (group##n > most) { most = group##n; here = begin + n; }
        GROUPS(PICK_GROUP)
        bool isGroup = best < most;
        do {
#define EACH(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7)
#define BOUND(n) float bound##n = here * GROUP + n >= first && here * GROUP + n <= last ? bound(here * GROUP + n) : -INFINITE;
            EACH(BOUND)
            float limit = -INFINITE;
            int at = 0;
#define PICK(n) if (bound##n > limit) { limit = bound##n; at = n; }
            EACH(PICK)
            bool isLayer = best < limit;
            do {
                ivec2 samples = samplesOf(here * GROUP + at);
                int n = samples.x + (SUB == 2 ? samples.x & 1 : 0);
                bool isInside = isLayer && n <= samples.y;
                do {
                    if (isInside) {
                        float k = float(n) * (1.0 / float(SUB)), value = SUB == 2 ? onPlane(n / 2) : along(n);
                        if (owned(k)) fold(k, value);
                        n += SUB == 2 ? 2 : 1;
                        isInside = n <= samples.y;
                    }
                } while (isInside);
                if (SUB == 2) {
                    n = samples.x | 1;
                    isInside = isLayer && n <= samples.y && best < limit;
                    do {
                        if (isInside) {
                            float k = float(n) * 0.5, value = sampled(u0 + k * du, v0 + k * dv, thin ? 0 : n / 2, 0.5);
                            if (owned(k)) fold(k, value);
                            n += 2;
                            isInside = n <= samples.y;
                        }
                    } while (isInside);
                }
#define STRIKE(n) if (at == n) bound##n = -INFINITE;
                EACH(STRIKE)
                limit = -INFINITE;
                EACH(PICK)
                isLayer = best < limit;
            } while (isLayer);
#undef EACH
#undef BOUND
#undef PICK
#undef STRIKE
#define STRIKE_GROUP(n) if (here == begin + n) group##n = -INFINITE;
            GROUPS(STRIKE_GROUP)
            most = -INFINITE;
            GROUPS(PICK_GROUP)
            isGroup = best < most;
        } while (isGroup);
#undef GROUPS
#undef GROUP_BOUND
#undef PICK_GROUP
#undef STRIKE_GROUP
        begin += groups;
        isOn = begin <= last / GROUP;
    } while (isOn);
}

void march() {
    float from = enter, to = leave;
    if (SLABS != 0) {
        // Layers that the slab may answer for.
        if (axis == 2) { from = max(from, slabLow - 1.0); to = min(to, slabHigh + 1.0); }
        else if (abs(dv) > 1e-6) {
            float a = (slabLow - 1.0 - v0) / dv, b = (slabHigh + 1.0 - v0) / dv;
            from = max(from, min(a, b)); to = min(to, max(a, b));
        } else if (v0 < slabLow - 1.0 || v0 > slabHigh + 1.0) return;
        if (!(from <= to)) return;
    }
    int first = clamp(int(from) / CELL, 0, cellCount.z - 1), last = clamp(int(to) / CELL, 0, cellCount.z - 1);
    if (FOLD == RAY_FOLD_COMPOSITE) composite(first, last);
    else if (FOLD == RAY_FOLD_ISOSURFACE) surface(first, last);
    else if (FOLD == RAY_FOLD_MEAN) mean(first, last);
    else extreme(first, last);
}

void main() {
    classFirst = w.classFirst; classesPerUnit = w.classesPerUnit; extinctionScale = w.extinctionScale; lowestClass = w.lowestClass; highestClass = w.highestClass;
    opaque = w.opaque; isovalue = w.isovalue; shaded = DECIDING(w.shaded); headlight = DECIDING(w.headlight); gradientOpacity = DECIDING(w.gradientOpacity);
    ambient = w.ambient; diffuse = w.diffuse; specular = w.specular; shininess = w.shininess; gradientKnee = w.gradientKnee;
    gradientLow = w.gradientLow; gradientPerUnit = w.gradientPerUnit;
    depthCue = DECIDING(w.depthCue); cueFloor = w.cueFloor; cueNear = w.cueNear; cuePerUnit = w.cuePerUnit;
    gradientX = w.gradientX.xyz; gradientY = w.gradientY.xyz; gradientZ = w.gradientZ.xyz; lightWay = w.light.xyz;
    // Neighbours in the order of invocations are neighbours in the picture both ways: four by two, eight by two, eight by four.
    int lane = int(gl_LocalInvocationIndex);
    ivec2 group = ivec2(gl_WorkGroupID.xy);
#ifdef LOADS
    // Of the work groups, in their order, lavapipe gives every thread as many that follow each other: they are shuffled like cards, so that no
    // thread gets the part of the picture where there is most to do.
    int across = int(gl_NumWorkGroups.x), number = group.y * across + group.x, each = across * int(gl_NumWorkGroups.y) / THREADS;
    if (number < each * THREADS) number = number % each * THREADS + number / each;
    group = ivec2(number % across, number / across);
#endif
    ivec2 tile = group * 8 + ivec2(0, firstRow), pixel = tile + ivec2((lane & 3) | (lane >> 1 & 4), (lane >> 2 & 1) | (lane >> 3 & 6));
    if (pixel.x >= w.width || pixel.y >= w.height) return;
    uint index = uint(pixel.y) * uint(w.width) + uint(pixel.x);
    float x = float(pixel.x) + jitterX, y = float(pixel.y) + jitterY;
    vec3 o = w.origin.xyz + x * w.originX.xyz + y * w.originY.xyz, d = w.direction.xyz + x * w.directionX.xyz + y * w.directionY.xyz;

    // The axis along which the tile's rays advance fastest; a tile of a very wide view has none, and each ray takes its own.
    float x0 = float(tile.x) + jitterX, y0 = float(tile.y) + jitterY;
    vec3 center = w.direction.xyz + (x0 + 3.5) * w.directionX.xyz + (y0 + 3.5) * w.directionY.xyz;
    axis = steepest(center);
    forwards = center[axis] > 0.0;
    bool isShared = true;
    for (int i = 0; i < 4; i++) {
        vec3 c = w.direction.xyz + (x0 + ((i & 1) != 0 ? 7.0 : 0.0)) * w.directionX.xyz + (y0 + ((i & 2) != 0 ? 7.0 : 0.0)) * w.directionY.xyz;
        vec3 m = abs(c);
        if ((c[axis] > 0.0) != forwards || m[axis] < 0.5 * max(m.x, max(m.y, m.z))) isShared = false;
    }
    if (!isShared) { axis = steepest(d); forwards = d[axis] > 0.0; }

    // Where the ray is in the volume and in what the cuts leave.
    ivec3 whole = ivec3(w.sizeX, w.sizeY, w.sizeZ);
    float low = w.nearest, high = INFINITE;
    bool miss = false;
    for (int a = 0; a < 3; a++) {
        // A single voxel reaches half its size to either side; several end at their centres.
        float from = whole[a] > 1 ? 0.0 : -0.5, to = whole[a] > 1 ? float(whole[a] - 1) : 0.5;
        if (abs(d[a]) < 1e-9) { if (o[a] < from || o[a] > to) miss = true; }
        else {
            float inverse = 1.0 / d[a], s = (from - o[a]) * inverse, e = (to - o[a]) * inverse;
            low = max(low, min(s, e)); high = min(high, max(s, e));
        }
    }
    for (int n = 0; n < DECIDING(w.cuts); n++) {
        float slope = dot(d, w.cut[n].xyz), room = w.cut[n].w - dot(o, w.cut[n].xyz);
        if (abs(slope) < 1e-9) { if (room < 0.0) miss = true; }
        else if (slope < 0.0) low = max(low, room / slope);
        else high = min(high, room / slope);
    }
    size = turned(whole);
    cellCount = turned(ivec3(w.cellsX, w.cellsY, w.cellsZ));
    stepU = at(size.x > 1 ? 1 : 0, 0, 0); stepV = at(0, size.y > 1 ? 1 : 0, 0); stepK = at(0, 0, size.z > 1 ? 1 : 0);
    thin = size.z == 1;
    vec3 ot = turned(o), step_ = turned(d);
    float ok = ot.z + (thin ? 0.5 : 0.0), inverse = 1.0 / (abs(step_.z) < 1e-9 ? 1.0 : step_.z);
    du = step_.x * inverse; dv = step_.y * inverse;
    u0 = ot.x - ok * du; v0 = ot.y - ok * dv;
    dt = inverse; t0 = -ok * inverse;
    float a = ok + low * step_.z, z = ok + high * step_.z, top = thin ? 1.0 : float(size.z - 1);
    // A plane within rounding of the first or last position counts as inside.
    enter = max(max(min(a, z), 0.0) - 2e-4, 0.0);
    leave = min(min(max(a, z), top) + 2e-4, top);
    float sx = x * w.slopeX + w.slopeX0, sy = y * w.slopeY + w.slopeY0, stretch = sqrt(1.0 + sx * sx + sy * sy);
    lengthPerPlane = stretch * abs(inverse);
    viewing = (w.forward.xyz + sx * w.right.xyz + sy * w.down.xyz) * (1.0 / stretch);

    color = vec3(0); rest = 1.0; count = 0.0;
    best = FOLD == RAY_FOLD_MEAN ? 0.0 : -INFINITE;
    litAt = -1;
    lit = 1.0; gloss = 0.0; steep = 1.0;
    if (SLABS != 0) {
        if ((d.z >= 0.0) != (rising != 0)) return;
        if ((DECIDING(phase) & 1) == 0) {
            vec4 before = work[index];
            if (FOLD == RAY_FOLD_COMPOSITE || FOLD == RAY_FOLD_ISOSURFACE) { color = before.rgb; rest = before.a; }
            else { best = before.x; count = before.y; }
        }
    }
    if (!miss && low <= high && enter <= leave) march();
    if (SLABS != 0 && (DECIDING(phase) & 2) == 0) {
        work[index] = FOLD == RAY_FOLD_COMPOSITE || FOLD == RAY_FOLD_ISOSURFACE ? vec4(color, rest) : vec4(best, count, 0.0, 0.0);
        return;
    }

    if (FOLD == RAY_FOLD_COMPOSITE || FOLD == RAY_FOLD_ISOSURFACE) {
        if (DECIDING(w.passes) > 1) {
            // Behind what a ray carries from slab to slab.
            uint sum = SLABS != 0 ? index + uint(w.width) * uint(w.height) : index;
            if (DECIDING(pass) > 0) color += work[sum].rgb;
            if (DECIDING(pass) + 1 < w.passes) { work[sum] = vec4(color, 0); return; }
        }
        uvec3 c = uvec3(min(color * (255.0 / float(w.passes)) + 0.5, 255.0));
        target[index] = c.r | c.g << 8 | c.b << 16 | 0xff000000u;
        return;
    }
    bool missed = FOLD == RAY_FOLD_MEAN ? count < 0.5 : best == -INFINITE;
    float value = FOLD == RAY_FOLD_MEAN ? best / max(count, 1.0) : FOLD == RAY_FOLD_MINIMUM ? -best : best;
    target[index] = floatBitsToUint(missed ? w.background : value * w.slope + w.intercept);
}
