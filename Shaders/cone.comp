#version 450
#extension GL_GOOGLE_include_directive : require
// Joseph's projector of a cone or helix and its transpose, as project.comp; slices and rows of the detector are neighbours in memory and
// in work groups. Only a band of the image's rows is in memory: a ray's sum over bands is its sum.
#include "parameters.h"
#include "arithmetic.h"

layout(local_size_x = 32, local_size_y = 2) in;
// 0: image to data; 1: data to image; 2: data times each ray's length per plane.
layout(constant_id = 0) const int OPERATION = 0;
layout(constant_id = 1) const int BEAM = BEAM_FLAT;
const int STEP = 3;
layout(set = 0, binding = 0, std430) buffer Image { float image[]; };
// [view − firstOfData][column][row]
layout(set = 0, binding = 1, std430) buffer Data { float data[]; };
layout(set = 0, binding = 2, std430) readonly buffer Views { vec4 views[]; };
// Two a ray: cross index, its step, length, axis; distance, its step, rise, slope.
layout(set = 0, binding = 3, std430) readonly buffer Rays { vec4 rays[]; };
layout(set = 0, binding = 4, std140) uniform Parameters { ScanParameters p; };
// Lines are blocks of 64 detector columns, view after view; or rows of the image.
layout(push_constant) uniform Push { int firstLine, blocks, firstView, endView, firstOfData; };

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

// Slice index at which the ray of a row crosses a plane; dz is its rise from row to row there.
float heightOf(vec4 view, int row, float dz) {
    precise float z = view.x + (float(row) - view.y) * dz;
    return z;
}

void main() {
    int lane = int(gl_GlobalInvocationID.x), line = firstLine + int(gl_WorkGroupID.z);
    if (OPERATION != 1) {
        int v = firstOfData + line / blocks, column = line % blocks * 64 + int(gl_GlobalInvocationID.y);
        if (lane >= p.rows || column >= p.detectors) return;
        vec4 ray = rays[2 * (v * p.detectors + column)], inclined = rays[2 * (v * p.detectors + column) + 1], view = views[STEP * v + 2];
        int at = ((v - firstOfData) * p.detectors + column) * p.rows + lane;
        if (OPERATION == 2) {
            float t = (float(lane) - view.y) * inclined.w;
            data[at] *= ray.z * sqrt(1.0 + t * t);
            return;
        }
        bool alongRows = ray.w > 0.0;
        int main = alongRows ? p.width * p.depth : p.depth, cross = alongRows ? p.depth : p.width * p.depth;
        // Along y only the band's planes are summed, across it only its rows.
        int begin = alongRows ? p.bandBegin : 0, end = alongRows ? p.bandEnd : p.width, low = alongRows ? 0 : p.bandBegin, high = alongRows ? p.width : p.bandEnd;
        int shift = p.bandBegin * p.width * p.depth;
        float sum = 0.0;
        for (int k = begin; k < end; k++) {
            precise float x = ray.x + float(k) * ray.y;
            if (!(x > float(low - 1) && x < float(high))) continue;
            precise float dz = inclined.z * (inclined.x + float(k) * inclined.y);
            float z = heightOf(view, lane, dz);
            if (!(z > -1.0 && z < float(p.slices))) continue;
            int c = int(floor(x)), i = z < 0.0 ? -1 : int(z), at0 = k * main + c * cross + i - shift, at1 = at0 + cross;
            float f = x - float(c), g = z - float(i);
            bool near = c >= low, far = c + 1 < high;
            float lower = i < 0 ? 0.0 : (near ? (1.0 - f) * image[at0] : 0.0) + (far ? f * image[at1] : 0.0);
            float upper = i + 1 >= p.slices ? 0.0 : (near ? (1.0 - f) * image[at0 + 1] : 0.0) + (far ? f * image[at1 + 1] : 0.0);
            sum += lower + g * (upper - lower);
        }
        data[at] += sum;
    } else {
        int x = int(gl_GlobalInvocationID.y), y = line;
        if (lane >= p.slices || x >= p.width) return;
        float sum = 0.0;
        for (int v = firstView; v < endView; v++) {
            vec2 place = placeOf(v, x, y);
            if (!(place.x + place.y >= 0.0 && place.x - place.y <= float(p.detectors - 1))) continue;
            int begin = max(0, int(ceil(place.x - place.y))), end = min(p.detectors - 1, int(floor(place.x + place.y)));
            vec4 view = views[STEP * v + 2];
            for (int j = begin; j <= end; j++) {
                vec4 ray = rays[2 * (v * p.detectors + j)];
                bool alongRows = ray.w > 0.0;
                float k = float(alongRows ? y : x);
                precise float at = ray.x + k * ray.y;
                float weight = 1.0 - abs(at - float(alongRows ? x : y));
                if (!(weight > 0.0)) continue;
                vec4 inclined = rays[2 * (v * p.detectors + j) + 1];
                precise float dz = inclined.z * (inclined.x + k * inclined.y);
                float row = (float(lane) - view.x) / dz + view.y, reach = 1.0 / dz + 0.02;
                if (!(row + reach >= 0.0 && row - reach <= float(p.rows - 1))) continue;
                int from = max(0, int(ceil(row - reach))), to = min(p.rows - 1, int(floor(row + reach))), base = ((v - firstOfData) * p.detectors + j) * p.rows;
                float part = 0.0;
                for (int r = from; r <= to; r++) part += max(0.0, 1.0 - abs(heightOf(view, r, dz) - float(lane))) * data[base + r];
                sum += weight * part;
            }
        }
        image[((y - p.bandBegin) * p.width + x) * p.depth + lane] += sum;
    }
}
