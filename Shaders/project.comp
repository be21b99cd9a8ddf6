#version 450
#extension GL_GOOGLE_include_directive : require
// Joseph's projector of one slice and its transpose: a ray, or a pixel, an invocation. The transpose finds the rays near its pixel by the
// geometry, and weighs them by the tables of the forward operator, term for term the same numbers.
#include "parameters.h"
#include "arithmetic.h"

layout(local_size_x = 64) in;
// 0: image to data; 1: data to image.
layout(constant_id = 0) const int TRANSPOSED = 0;
layout(constant_id = 1) const int BEAM = BEAM_PARALLEL;
const int STEP = 2;
layout(set = 0, binding = 0, std430) buffer Image { float image[]; };
layout(set = 0, binding = 1, std430) buffer Data { float data[]; };
layout(set = 0, binding = 2, std430) readonly buffer Views { vec4 views[]; };
layout(set = 0, binding = 3, std430) readonly buffer Rays { vec4 rays[]; };
layout(set = 0, binding = 4, std140) uniform Parameters { ScanParameters p; };
layout(push_constant) uniform Push { int firstLine; };

// Where pixel (x, y) lies on the detector, and how many elements a pixel's width is there at most, with room for rounding.
vec2 placeOf(int v, int x, int y) {
    vec4 a = views[STEP * v], b = views[STEP * v + 1];
    float n = a.x + a.y * float(x) + a.z * float(y);
    if (BEAM == BEAM_PARALLEL) return vec2(n, length(a.yz) * 1.01 + 0.01);
    float d = b.x + b.y * float(x) + b.z * float(y), away = sqrt(n * n + d * d), u, reach;
    if (BEAM == BEAM_FLAT) {
        float q = (p.distance - b.w) / d;
        u = (n * q + a.w) / p.distance;
        reach = q * away / (d * p.distance);
    } else {
        // From the focal spot along the ray to the arc around the centre of the spot's orbit.
        vec2 w = vec2(n, d) / away, s = vec2(a.w, b.w);
        float along = dot(s, w), t = sqrt(along * along - dot(s, s) + p.distance * p.distance) - along;
        vec2 hit = s + t * w;
        u = fanAngle(hit.x / hit.y);
        reach = 1.05 / away;
    }
    // The pixel's width seen from the near side of the pixel.
    return vec2(u * p.scale + p.center, reach * p.scale * p.spacing * (1.0 + 3.0 * p.spacing / away) + 0.02);
}

void main() {
    int i = int(gl_GlobalInvocationID.x), line = firstLine + int(gl_WorkGroupID.y);
    if (TRANSPOSED == 0) {
        if (i >= p.detectors) return;
        vec4 ray = rays[line * p.detectors + i];
        bool alongRows = ray.w > 0.0;
        int mains = alongRows ? p.height : p.width, crosses = alongRows ? p.width : p.height, main = alongRows ? p.width : 1, cross = alongRows ? 1 : p.width;
        float sum = 0.0;
        for (int k = 0; k < mains; k++) {
            precise float x = ray.x + float(k) * ray.y;
            if (!(x > -1.0 && x < float(crosses))) continue;
            int c = x < 0.0 ? -1 : int(x), at = k * main + c * cross;
            float f = x - float(c), a = c >= 0 ? image[at] : 0.0, b = c + 1 < crosses ? image[at + cross] : 0.0;
            sum += a + f * (b - a);
        }
        data[p.first + line * p.stride + i] = sum * ray.z;
    } else {
        if (i >= p.width) return;
        float sum = 0.0;
        int views = p.slices;
        for (int v = 0; v < views; v++) {
            vec2 place = placeOf(v, i, line);
            if (!(place.x + place.y >= 0.0 && place.x - place.y <= float(p.detectors - 1))) continue;
            int begin = max(0, int(ceil(place.x - place.y))), end = min(p.detectors - 1, int(floor(place.x + place.y)));
            for (int j = begin; j <= end; j++) {
                vec4 ray = rays[v * p.detectors + j];
                bool alongRows = ray.w > 0.0;
                precise float x = ray.x + float(alongRows ? line : i) * ray.y;
                float weight = 1.0 - abs(x - float(alongRows ? i : line));
                if (weight > 0.0) sum += weight * (ray.z * data[p.first + v * p.stride + j]);
            }
        }
        image[line * p.width + i] = sum;
    }
}
