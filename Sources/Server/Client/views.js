// Planes and cameras in patient space (DICOM LPS, mm: +x to the patient's left, +y to the back, +z to the head), the
// gestures that move them, and the words for directions. No drawing, no network.

// ------------------------------------------------------------------------------------------------------------- Vectors

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const length = (a) => Math.hypot(...a);
export const unit = (a) => scale(a, 1 / length(a));
export const along = (a, direction, distance) => add(a, scale(direction, distance));

/** `v` turned about the unit vector `axis` by `angle` (radians, right-handed). */
export function turn(v, axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return add(add(scale(v, c), scale(cross(axis, v), s)), scale(axis, dot(axis, v) * (1 - c)));
}

// Sums of products drift; twelve digits are a picometre, and keep the JSON short.
const tidy = (v) => v.map((x) => { const r = Number(x.toFixed(9)); return r === 0 ? 0 : r; });

// ------------------------------------------------------------------------------------------------------------ The grid

/** What the client needs to know of a volume, from one entry of `volumes` of `GET /api/series`. */
export class Grid {
  constructor({ columns, rows, slices, spacing, origin, axes, center }) {
    Object.assign(this, { size: [columns, rows, slices], spacing, origin, axes });
    this.center = center ?? this.position(this.size.map((n) => (n - 1) / 2));
  }
  /** Patient position of a voxel index. */
  position(index) {
    return this.axes.reduce((p, axis, i) => along(p, axis, index[i] * this.spacing[i]), this.origin);
  }
  get corners() {
    const [c, r, s] = this.size.map((n) => n - 1);
    return [0, 1, 2, 3, 4, 5, 6, 7].map((k) => this.position([k & 1 ? c : 0, k & 2 ? r : 0, k & 4 ? s : 0]));
  }
  /** Smallest and largest coordinate of the volume along a direction. */
  extent(direction) {
    const d = this.corners.map((p) => dot(p, direction));
    return [Math.min(...d), Math.max(...d)];
  }
  /** Distance between neighbouring samples along a direction: the natural step of scrolling. */
  step(normal) {
    let best = 0, step = 1;
    this.axes.forEach((axis, i) => { const c = Math.abs(dot(axis, normal)); if (c > best) { best = c; step = this.spacing[i]; } });
    return step;
  }
  clampAlong(point, direction) {
    const [low, high] = this.extent(direction), d = dot(point, direction);
    return along(point, direction, Math.min(Math.max(d, low), high) - d);
  }
  clamp(point) { return [[1, 0, 0], [0, 1, 0], [0, 0, 1]].reduce((p, axis) => this.clampAlong(p, axis), point); }

  /**
   * The reader's left, back and head: the patient's own axes, or those of an obliquely acquired volume that come closest to
   * them, so that the acquired slices are shown as they are.
   */
  get frame() {
    const patient = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    const isRight = this.axes.every((a, i) => Math.abs(dot(a, this.axes[(i + 1) % 3])) < 1e-3);
    if (!isRight) return patient; // gantry tilt
    const free = [0, 1, 2];
    const frame = [];
    for (const target of [2, 1, 0]) {
      free.sort((a, b) => Math.abs(dot(this.axes[b], patient[target])) - Math.abs(dot(this.axes[a], patient[target])));
      const axis = this.axes[free.shift()];
      frame[target] = dot(axis, patient[target]) < 0 ? scale(axis, -1) : axis;
    }
    return dot(cross(frame[0], frame[1]), frame[2]) > 0 ? frame : patient;
  }
}

// -------------------------------------------------------------------------------------------------------------- Planes

/** The three standard planes as radiologists look at them: the patient's right is on the left of the picture. */
export const ORIENTATIONS = Object.freeze({
  axial: ([left, back]) => ({ right: left, down: back }),
  coronal: ([left, , head]) => ({ right: left, down: scale(head, -1) }),
  sagittal: ([, back, head]) => ({ right: back, down: scale(head, -1) }),
});

/** A plane that is looked at: its middle, directions, and mm per pixel. */
export class PlaneView {
  constructor(grid, orientation) {
    this.grid = grid;
    this.orientation = orientation;
    this.size = [1, 1];
    this.zoom = 1;
    this.reset();
  }
  reset() {
    const { right, down } = ORIENTATIONS[this.orientation](this.grid.frame);
    Object.assign(this, { right, down, center: this.grid.center, zoom: 1 });
  }
  get normal() { return cross(this.right, this.down); }
  /** Where scrolling along the normal begins, and its step. */
  get low() { return this.grid.extent(this.normal)[0]; }
  get step() { return this.grid.step(this.normal); }
  /** Takes over a plane of a scene. */
  adopt({ origin, right, down, spacing }) {
    Object.assign(this, { right, down });
    this.zoom *= this.spacing / spacing;
    const [w, h] = this.size;
    this.center = along(along(origin, right, (spacing * (w - 1)) / 2), down, (spacing * (h - 1)) / 2);
  }
  /** mm per pixel: at zoom 1 the volume, seen straight, fits the picture. Tilting does not change it. */
  get spacing() {
    const [w, h] = this.size, { right, down } = ORIENTATIONS[this.orientation](this.grid.frame);
    const extent = (d) => { const [low, high] = this.grid.extent(d); return Math.max(high - low, 1e-3) + this.grid.step(d); };
    return Math.max(extent(right) / w, extent(down) / h) / this.zoom;
  }
  /** The `view` of the scene. */
  get view() {
    const s = this.spacing, [w, h] = this.size;
    const origin = along(along(this.center, this.right, (-s * (w - 1)) / 2), this.down, (-s * (h - 1)) / 2);
    return { plane: { origin: tidy(origin), right: tidy(this.right), down: tidy(this.down), spacing: Number(s.toPrecision(12)) } };
  }
  /** Patient position under a pixel. */
  position([x, y]) {
    const s = this.spacing, [w, h] = this.size;
    return along(along(this.center, this.right, (x - (w - 1) / 2) * s), this.down, (y - (h - 1) / 2) * s);
  }
  /** Pixel of a patient position, projected onto the plane. */
  pixel(point) {
    const s = this.spacing, [w, h] = this.size, d = subtract(point, this.center);
    return [dot(d, this.right) / s + (w - 1) / 2, dot(d, this.down) / s + (h - 1) / 2];
  }
  /** Moves the plane along its normal so that it passes through a point. */
  through(point) {
    const n = this.normal;
    this.center = along(this.center, n, dot(subtract(point, this.center), n));
  }
  pan([dx, dy]) {
    const s = this.spacing;
    this.center = along(along(this.center, this.right, -dx * s), this.down, -dy * s);
  }
  /** Zooms by a factor with the patient position under `pixel` fixed. */
  zoomBy(factor, pixel = this.size.map((n) => (n - 1) / 2)) {
    const before = this.position(pixel);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.2), 40);
    this.center = add(this.center, subtract(before, this.position(pixel)));
  }
  /** Tilts the plane about an axis through `pivot`. */
  turn(axis, angle, pivot) {
    this.right = unit(turn(this.right, axis, angle));
    const down = turn(this.down, axis, angle);
    this.down = unit(subtract(down, scale(this.right, dot(down, this.right))));
    this.center = add(pivot, turn(subtract(this.center, pivot), axis, angle));
  }
  /** Where another plane cuts this one: a point and a direction in pixels, or null when they are parallel. */
  cut(normal, point) {
    const n = this.normal, direction = cross(n, normal);
    if (length(direction) < 1e-3) return null;
    const d = unit(direction);
    return { point: this.pixel(point), direction: [dot(d, this.right), dot(d, this.down)] };
  }
  /** Number of the slice shown, and of how many, along the normal; the count follows the natural step. */
  get place() {
    const n = this.normal, step = this.grid.step(n), [low, high] = this.grid.extent(n);
    return { index: Math.round((dot(this.center, n) - low) / step) + 1, count: Math.round((high - low) / step) + 1 };
  }
}

// -------------------------------------------------------------------------------------------------------------- Camera

/** A camera around the volume. */
export class CameraView {
  constructor(grid) {
    this.grid = grid;
    this.size = [1, 1];
    this.reset();
  }
  reset() {
    const [left, back, head] = this.grid.frame;
    this.look(back, head);
    Object.assign(this, { target: this.grid.center, zoom: 1, projection: "orthographic", right: left });
  }
  /** Looks along `forward` with `up` up. */
  look(forward, up) {
    this.forward = unit(forward);
    this.right = unit(cross(this.forward, up));
    this.up = cross(this.right, this.forward);
  }
  get diagonal() { return length(subtract(this.grid.corners[7], this.grid.corners[0])); }
  /** mm that the height of the picture covers; the volume fits at zoom 1, however it is turned. */
  get height() {
    const [w, h] = this.size;
    const [low, high] = this.grid.extent(this.grid.frame[2]);
    const wide = Math.max(...[0, 1].map((i) => { const [a, b] = this.grid.extent(this.grid.frame[i]); return b - a; }));
    return Math.max((high - low) * 1.06, (wide * 1.06 * h) / w, 1) / this.zoom;
  }
  get spacing() { return this.height / this.size[1]; }
  get view() {
    const distance = this.projection === "perspective" ? this.height / 2 / Math.tan((15 * Math.PI) / 180) : 2 * this.diagonal;
    return { camera: {
      position: tidy(along(this.target, this.forward, -distance)), target: tidy(this.target), up: tidy(this.up),
      height: Number(this.height.toPrecision(12)), projection: this.projection,
    } };
  }
  /** Takes over a camera of a scene. */
  adopt({ position, target, up, height, projection = "orthographic" }) {
    this.look(subtract(target, position), up);
    this.zoom *= this.height / height;
    Object.assign(this, { target, projection });
  }
  /** Turns about the screen's axes, as a hand turns a ball: radians to the right and downwards. */
  rotate(dx, dy) {
    const spin = (v) => turn(turn(v, this.up, -dx), this.right, -dy);
    const forward = spin(this.forward), up = spin(this.up);
    this.look(forward, up);
  }
  pan([dx, dy]) {
    const s = this.spacing;
    this.target = along(along(this.target, this.right, -dx * s), this.up, dy * s);
  }
  zoomBy(factor) { this.zoom = Math.min(Math.max(this.zoom * factor, 0.2), 40); }
  get down() { return scale(this.up, -1); }
}

// --------------------------------------------------------------------------------------------------------------- Stack

/** A stack of pictures, or stored slices as they are. */
export class SliceView {
  constructor(grid) {
    this.grid = grid;
    this.size = [1, 1];
    this.reset();
  }
  reset() { Object.assign(this, { index: Math.floor((this.grid.size[2] - 1) / 2), zoom: 1, offset: [0, 0], rotation: 0, flip: false }); }
  /** Picture pixels per stored column when the slice fits. */
  get fit() {
    const [c, r] = this.grid.size, aspect = this.grid.spacing[1] / this.grid.spacing[0] || 1;
    const [w, h] = this.rotation % 2 ? [this.size[1], this.size[0]] : this.size;
    return Math.min(w / c, h / (r * aspect));
  }
  get view() {
    const slice = { index: this.index };
    if (this.zoom !== 1 || this.offset[0] || this.offset[1]) {
      const z = this.fit * this.zoom, [c, r] = this.grid.size, aspect = this.grid.spacing[1] / this.grid.spacing[0] || 1;
      slice.zoom = Number(z.toPrecision(9));
      slice.center = tidy([(c - 1) / 2 - this.offset[0] / z, (r - 1) / 2 - this.offset[1] / (z * aspect)]);
    }
    if (this.rotation) slice.rotation = this.rotation;
    if (this.flip) slice.flip = true;
    return { slice };
  }
  scroll(by) { this.index = Math.min(Math.max(this.index + by, 0), this.grid.size[2] - 1); }
  pan([dx, dy]) { this.offset = [this.offset[0] + dx, this.offset[1] + dy]; }
  zoomBy(factor) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.2), 40);
    this.offset = this.offset.map((o) => (o * this.zoom) / before);
  }
  get place() { return { index: this.index + 1, count: this.grid.size[2] }; }
}

// --------------------------------------------------------------------------------------------------------------- Words

/**
 * The letters of a direction in the patient (PS3.3 C.7.6.1.1.1): L, R, A, P, H, F, the strongest first; those below a
 * fifth are left out.
 */
export function letters(direction) {
  return direction
    .map((v, i) => [Math.abs(v), v > 0 ? "LPH"[i] : "RAF"[i]])
    .filter(([size]) => size > 0.2)
    .sort((a, b) => b[0] - a[0])
    .map(([, letter]) => letter)
    .join("");
}

/** A round length in mm that is at most `limit`, for the scale bar. */
export function roundLength(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return [5, 2, 1].map((m) => m * power).find((l) => l <= limit) ?? power;
}
