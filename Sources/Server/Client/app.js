// The page: a list of series, four linked pictures, and the hand that moves them. Transport and drawing of frames are in
// tomos.js, planes and cameras in views.js; this file ties them to pointers, keys and text.

import { Connection } from "./tomos.js";
import { LowDose, Scans } from "./lowdose.js";
import { Grid, PlaneView, CameraView, SliceView, letters, roundLength, along, dot, scale, cross, unit, subtract } from "./views.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
function shape(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}

// ----------------------------------------------------------------------------------------------------------- Choices

const TOOLS = [
  { id: "scroll", key: "s", name: "Scroll", icon: "M10 2.5v15M10 2.5L6.8 5.7M10 2.5l3.2 3.2M10 17.5l-3.2-3.2M10 17.5l3.2-3.2" },
  { id: "window", key: "w", name: "Window", icon: "M10 3.2v1.6M10 15.2v1.6M3.2 10h1.6M15.2 10h1.6M5.2 5.2l1.1 1.1M13.7 13.7l1.1 1.1M5.2 14.8l1.1-1.1M13.7 6.3l1.1-1.1M10 7a3 3 0 1 0 0 6 3 3 0 1 0 0-6" },
  { id: "zoom", key: "z", name: "Zoom", icon: "M8.8 3.5a5.3 5.3 0 1 0 0 10.6 5.3 5.3 0 1 0 0-10.6M12.7 12.7l4 4M8.8 6.6v4.4M6.6 8.8H11" },
  { id: "pan", key: "p", name: "Pan", icon: "M10 2.8v14.4M2.8 10h14.4M10 2.8L8 4.8M10 2.8l2 2M10 17.2l-2-2M10 17.2l2-2M2.8 10l2-2M2.8 10l2 2M17.2 10l-2-2M17.2 10l-2 2" },
  { id: "rotate", key: "r", name: "Rotate", icon: "M15.8 7.2A6.5 6.5 0 0 0 4 8M4.2 12.8A6.5 6.5 0 0 0 16 12M16.2 3.6v3.8h-3.8M3.8 16.4v-3.8h3.8" },
  { id: "cross", key: "c", name: "Cross-hair", icon: "M10 2.5v5M10 12.5v5M2.5 10h5M12.5 10h5" },
];

const WINDOWS = {
  CT: [
    ["Soft tissue", 40, 400], ["Lung", -600, 1500], ["Bone", 400, 1800], ["Brain", 40, 80], ["Abdomen", 60, 400],
    ["Mediastinum", 50, 350], ["Liver", 80, 150], ["Vessels", 300, 700], ["Wide", 200, 3000],
  ],
};
const SLABS = [0, 2, 5, 10, 20, 40];
const FOLDS = [["mean", "Mean"], ["maximum", "MIP"], ["minimum", "MinIP"]];
const PROJECTIONS = [["maximum", "MIP"], ["mean", "Mean"]];
/** Presets are in Hounsfield units; values of other modalities have no fixed meaning, so the server starts with their window. */
const VOLUMES = { CT: [["bone", "Bone"], ["soft-tissue", "Soft tissue"], ["vessels", "Vessels"], ["lung", "Lung"], ...PROJECTIONS], other: [["volume", "Volume"], ...PROJECTIONS] };
const SHADING = { ambient: 0.25, diffuse: 0.75, specular: 0.25, shininess: 24 };
const PASSES = ["moving", "full", "exact"];
const CINE_RATE = 15;

// ------------------------------------------------------------------------------------------------------------- State

/** The token of a link: this page is a guest, and shows one picture that somebody else leads. */
const shareToken = new URLSearchParams(location.hash.slice(1)).get("follow");
const connection = new Connection("/stream", { share: shareToken });
let tool = "scroll";
let active = null; // the pane that keys act on
let panes = [];
let study = null; // { series, volume, grid }
/** What the planes share. `point` is the cross-hair in patient mm. */
let shared = null;
let showCross = true;

/** Transfer functions of the server by name, so that they can be moved. */
let presets = {};

const isCT = () => study?.series.modality === "CT";
const volumeChoices = () => (isCT() ? VOLUMES.CT : VOLUMES.other);

/**
 * The window to begin with: the source's first, else CT's usual one, else the whole range. null while the range is not yet
 * known; the server chooses the same until then.
 */
function defaultWindow({ modality }, volume) {
  if (volume.windows?.length) return { ...volume.windows[0] };
  if (modality === "CT") return { center: 40, width: 400 };
  return volume.range ? rangeWindow(...volume.range) : null;
}

/**
 * Windows of projections to begin with, by fold: across a chest every ray meets bone, and its mean is air for the most part. The
 * server chooses the same.
 */
function projectionWindows(series, volume) {
  if (series.modality === "CT") return { maximum: { center: 450, width: 1500 }, mean: { center: -400, width: 1000 } };
  return { maximum: defaultWindow(series, volume), mean: defaultWindow(series, volume) };
}

/** Points of a composite's transfer function, as the server has them; null while they are not known. */
function pointsOf(preset) {
  if (preset !== "volume") return presets[preset]?.points ?? null;
  const { series, volume } = study, [lowest] = volume.range ?? [];
  if (!series.modality && lowest >= -1100 && lowest <= -900) return presets.bone?.points ?? null;
  const window = defaultWindow(series, volume);
  if (!window) return null;
  const point = (part, opacity, ...color) => ({ value: window.center + (part - 0.5) * window.width, opacity, color });
  return [point(0, 0, 0.6, 0.24, 0.16), point(0.35, 0.03, 0.86, 0.55, 0.4), point(0.7, 0.25, 0.98, 0.9, 0.76), point(1, 0.6, 1, 0.99, 0.95)];
}

/** Values between `low` and `high`, black to white. Narrow ranges are not of whole numbers. */
function rangeWindow(low, high) {
  return high - low < 8 ? { center: (low + high) / 2, width: Math.max(high - low, 1e-6), function: "linear-exact" }
    : { center: (low + high + 1) / 2, width: high - low + 1 };
}

/** Name and window of each preset; keys 1 to 9 follow this order. */
function windowChoices() {
  if (isCT()) return WINDOWS.CT.map(([name, center, width]) => [name, { center, width }]);
  const own = defaultWindow(study.series, study.volume);
  const choices = own ? [["Default", own]] : [];
  if (study.volume.range) {
    const [low, high] = study.volume.range, part = (a, b) => rangeWindow(low + a * (high - low), low + b * (high - low));
    choices.push(["Full range", part(0, 1)], ["Lower half", part(0, 0.5)], ["Lower fifth", part(0, 0.2)], ["Upper half", part(0.5, 1)]);
  }
  return choices;
}

// -------------------------------------------------------------------------------------------------------------- Pane

class PaneController {
  constructor(name, number, title) {
    Object.assign(this, { name, title, number, view: null, pointer: null, problem: null });
    this.canvas = element("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    this.marks = shape("svg", { class: "marks", "aria-hidden": "true" });
    this.text = {};
    const label = (key, classes) => (this.text[key] = element("div", { class: `label ${classes}` }));
    this.root = element("section", { class: "pane", tabindex: "0", "data-name": name, "aria-label": `${title} picture`, "aria-roledescription": "picture" },
      this.canvas, this.marks,
      label("place", "top-left"), label("fidelity", "top-right"), label("value", "bottom-left"), label("state", "bottom-right"),
      label("top", "letter top"), label("bottom", "letter bottom"), label("left", "letter left"), label("right", "letter right"));
    this.message = element("div", { class: "message", hidden: true });
    this.progress = element("div", { class: "bar-progress", hidden: true });
    this.root.append(this.message, this.progress);
    this.stream = connection.pane(number, this.canvas);
    this.stream.addEventListener("resize", ({ detail }) => { if (this.view) { this.view.size = detail; this.push(); this.drawMarks(); } });
    this.stream.addEventListener("frame", ({ detail }) => { this.problem = null; this.message.hidden = true; this.played(detail); this.drawState(); });
    this.stream.addEventListener("windowed", () => this.drawState());
    this.stream.addEventListener("scene", ({ detail }) => this.adopt(detail));
    this.stream.addEventListener("fidelity", () => this.drawState());
    this.stream.addEventListener("problem", ({ detail }) => { this.problem = detail; this.message.textContent = detail.message; this.message.hidden = false; });
    listenTo(this);
  }

  get isPlane() { return this.view instanceof PlaneView; }
  get isCamera() { return this.view instanceof CameraView; }
  get isComposite() { return this.isCamera && shared.preset !== "maximum" && shared.preset !== "mean"; }

  show(view) {
    this.view = view;
    if (this.stream.size) view.size = this.stream.size;
    this.push();
    this.stream.observe();
  }

  get presentation() {
    const { invert, slab, fold, preset } = shared;
    const look = { fold: "mean" };
    if (this.window) look.window = this.window;
    if (invert) look.invert = true;
    if (this.isPlane && slab > 0) Object.assign(look, { fold, slab });
    if (this.isCamera) {
      if (!this.isComposite) look.fold = preset;
      else {
        const composite = { fold: "composite", shading: SHADING };
        if (preset !== "volume") composite.preset = preset;
        const { shift, stretch } = shared;
        // A window for colour and opacity: the points, moved and spread about their middle.
        if (shift || stretch !== 1) composite.transferFunction = { points: moved(pointsOf(preset), shift, stretch) };
        return composite;
      }
    }
    return look;
  }

  /** A projection through the volume has bright things before and behind: it has a window of its own. */
  get window() { return lowDose.windowOf(this) ?? (this.isCamera ? shared.projectionWindows[shared.preset] : shared.window); }

  get scene() {
    const { series, volume } = study;
    const computed = lowDose.sourceOf(this);
    const reference = { series: computed ?? series.seriesInstanceUID };
    if (volume.index && !computed) reference.index = volume.index;
    if (shared.time && !computed) reference.time = shared.time;
    return { volume: reference, view: this.view.view, presentation: this.presentation };
  }

  /** Wants the picture of the present state. */
  push(options = {}) {
    this.stream.set(this.scene, options);
    this.drawMarks();
    if (lowDose.isComparing) linkViews(this, options);
  }

  // Pointer position in pixels of the picture.
  pixel({ clientX, clientY }) {
    const box = this.root.getBoundingClientRect(), [w, h] = this.view.size;
    return [((clientX - box.left) / box.width) * w - 0.5, ((clientY - box.top) / box.height) * h - 0.5];
  }
  get pixelsPerPoint() { return this.view.size[0] / Math.max(this.root.clientWidth, 1); }

  drawMarks() {
    if (!this.view) return;
    const { view, text } = this;
    const down = view.down, right = view.right;
    if (right) {
      text.left.textContent = letters(scale(right, -1));
      text.right.textContent = letters(right);
      text.top.textContent = letters(scale(down, -1));
      text.bottom.textContent = letters(down);
    }
    const place = view.place ? `  ${view.place.index}/${view.place.count}` : "";
    const lines = [];
    const { slab, fold, invert, preset, time } = shared, { window } = this;
    if (this.isComposite) lines.push(volumeChoices().find(([id]) => id === preset)[1]);
    else if (window) lines.push(`C ${tidyNumber(window.center)}  W ${tidyNumber(window.width)}${invert ? "  inverted" : ""}`);
    if (this.isPlane && slab > 0) lines.push(`${FOLDS.find(([id]) => id === fold)[1]} ${slab} mm`);
    if (this.isCamera && preset === "maximum") lines.push("MIP");
    if (study.volume.timePoints > 1) lines.push(`Time ${time + 1}/${study.volume.timePoints}`);
    text.place.replaceChildren(element("span", { class: "dot" }), element("b", { text: this.title }), `${place}\n${lines.join("\n")}`);

    this.marks.replaceChildren();
    const [w, h] = view.size;
    this.marks.setAttribute("viewBox", `0 0 ${w} ${h}`);
    this.drawScale(w, h);
    if (this.isPlane && showCross) this.drawCross();
  }

  drawScale(w, h) {
    const { view } = this;
    const spacing = view.spacing ?? (study.grid.spacing[0] && !study.volume.isStack ? study.grid.spacing[0] / (view.fit * view.zoom) : 0);
    if (!(spacing > 0) || !Number.isFinite(spacing)) return;
    const p = this.pixelsPerPoint;
    const mm = roundLength(spacing * Math.min(w * 0.3, 160 * p)), pixels = mm / spacing;
    const x = 12 * p, y = h - 12 * p, tick = 4 * p;
    shape("path", { class: "scale", "vector-effect": "non-scaling-stroke", d: `M${x} ${y - tick}v${tick}h${pixels}v${-tick}` }, this.marks);
    const label = shape("text", { class: "length", x: x + pixels + 7 * p, y: y + 1 * p, "font-size": 11 * p }, this.marks);
    label.textContent = mm >= 10 ? `${mm / 10} cm` : `${mm} mm`;
  }

  // The other planes' lines, with room around the cross-hair so that nothing is hidden there.
  drawCross() {
    this.handles = [];
    const p = this.pixelsPerPoint, [w, h] = this.view.size, reach = Math.hypot(w, h), gap = 16 * p;
    const edge = 30 * p; // the letters' margin stays free
    const field = shape("svg", { x: edge, y: edge, width: Math.max(w - 2 * edge, 1), height: Math.max(h - 2 * edge, 1), viewBox: `${edge} ${edge} ${Math.max(w - 2 * edge, 1)} ${Math.max(h - 2 * edge, 1)}` }, this.marks);
    for (const other of panes) {
      if (other === this || !other.isPlane) continue;
      const cut = this.view.cut(other.view.normal, shared.point);
      if (!cut) continue;
      const [x, y] = cut.point, [dx, dy] = cut.direction, color = `var(--${other.name})`;
      for (const side of [-1, 1]) {
        shape("line", { class: "cross", "vector-effect": "non-scaling-stroke", stroke: color,
          x1: x + side * gap * dx, y1: y + side * gap * dy, x2: x + side * reach * dx, y2: y + side * reach * dy }, field);
        const far = 0.36 * Math.min(w, h), handle = [x + side * far * dx, y + side * far * dy];
        shape("circle", { class: "handle", "vector-effect": "non-scaling-stroke", stroke: color, cx: handle[0], cy: handle[1], r: 5 * p }, this.marks);
        this.handles.push({ at: handle, pane: other });
      }
    }
  }

  /** The server plays and says which slice or time it shows; the marks follow. */
  played({ cine }) {
    if (cinePane !== this) return;
    if (study.volume.timePoints > 1) shared.time = cine;
    else if (this.isPlane) this.view.through(along(this.view.center, this.view.normal, this.view.low + cine * this.view.step - dot(this.view.center, this.view.normal)));
    else this.view.index = cine;
    this.drawMarks();
  }

  /** A guest with control has moved this picture: the page's state follows. */
  adopt({ view, presentation }) {
    if (!study || !this.view) return;
    if (view.plane && this.isPlane) this.view.adopt(view.plane);
    else if (view.camera && this.isCamera) this.view.adopt(view.camera);
    if (presentation?.window && !this.isComposite) {
      if (this.isCamera) shared.projectionWindows[shared.preset] = presentation.window; else shared.window = presentation.window;
    }
    if (!this.isCamera) { shared.invert = presentation?.invert === true; if (this.isPlane) shared.point = study.grid.clamp(this.view.center); }
    for (const pane of panes) if (pane === this) pane.drawMarks(); else pane.push();
    showLook();
  }

  drawState() {
    const { stream, text } = this, part = stream.last;
    const { mark, notes } = stream.fidelity;
    const lines = [];
    if (mark) lines.push(element("div", { class: `mark ${mark}`, text: mark === "green" ? "EXACT" : "LOSSY" }));
    if (notes.includes("windowed-locally")) lines.push(element("div", { class: "remark local", text: "Windowed here" }));
    if (notes.includes("source-lossy")) lines.push(element("div", { class: "remark", text: "Source was compressed with loss" }));
    if (notes.includes("corrected")) for (const remark of remarks()) lines.push(element("div", { class: "remark", text: remark }));
    text.fidelity.replaceChildren(...lines);
    if (!part) return;
    const parts = [PASSES[part.pass] ?? "", stream.isExact ? "lossless" : "lossy", formatBytes(stream.pictureBytes)];
    parts.push(`${formatTime(part.latency ?? part.rendering + part.encoding)} ms`);
    if (connection.server.device) parts.push(connection.server.device.split(",")[0]);
    text.state.textContent = parts.join(" · ");
    this.root.dataset.exact = stream.isExact;
  }
}

function moved(points, shift, stretch) {
  const middle = (points[0].value + points.at(-1).value) / 2;
  return points.map((p) => ({ ...p, value: Number((middle + (p.value - middle) * stretch + shift).toFixed(3)) }));
}

function remarks() {
  const all = (study?.volume.remarks ?? []).filter((r) => r.kind !== "information").map((r) => r.text);
  return all.length ? [...new Set(all)].slice(0, 3) : ["Geometry or grey values corrected"];
}

const tidyNumber = (v) => (Math.abs(v) < 10 && !Number.isInteger(v) ? v.toFixed(2) : Math.round(v).toString());
const formatBytes = (n) => (n < 1000 ? `${n} B` : n < 1e6 ? `${Math.round(n / 1000)} kB` : `${(n / 1e6).toFixed(1)} MB`);
const formatTime = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms));

// --------------------------------------------------------------------------------------------------- What hands can do

/** Side by side, all pictures show the same place: what one does the others do. */
function linkViews(leader, options) {
  if (!leader.isPlane || linkViews.isBusy) return;
  linkViews.isBusy = true;
  const { right, down, center, zoom } = leader.view;
  for (const pane of panes) {
    if (pane === leader || !pane.isPlane) continue;
    const same = (a, b) => a.every((v, i) => Math.abs(v - b[i]) < 1e-9);
    if (same(pane.view.center, center) && same(pane.view.right, right) && same(pane.view.down, down) && pane.view.zoom === zoom) continue;
    Object.assign(pane.view, { right, down, center, zoom });
    pane.push(options);
  }
  linkViews.isBusy = false;
}

/** Moves the cross-hair; every plane follows, only those that change are sent. */
function moveTo(point, options) {
  shared.point = study.grid.clamp(point);
  lowDose.moved();
  for (const pane of panes) {
    if (!pane.isPlane) continue;
    pane.view.through(shared.point);
    pane.push(options);
  }
}

function scroll(pane, steps, options) {
  if (pane.isPlane) {
    const n = pane.view.normal, grid = study.grid, step = grid.step(n), [low, high] = grid.extent(n);
    // On whole steps, so that acquired slices are met exactly.
    const here = (dot(pane.view.center, n) - low) / step;
    const there = Math.min(Math.max(Math.round(here) + steps, 0), Math.round((high - low) / step));
    moveTo(along(shared.point, n, low + there * step - dot(shared.point, n)), options);
  } else if (!pane.isCamera) {
    pane.view.scroll(steps);
    pane.push(options);
  }
}

/** Few digits, and a width the standard allows (PS3.3 C.11.2.1.2). */
function tidyWindow({ center, width, function: kind }) {
  return { center: Number(center.toPrecision(7)), width: Math.max(Number(width.toPrecision(7)), kind ? 1e-6 : 1), ...(kind && { function: kind }) };
}

function setWindow(window, options) {
  shared.window = tidyWindow(window);
  changeLook(options);
}

/** Sends the presentation of all panes, the one under the hand first. */
function changeLook(options) {
  for (const pane of [active, ...panes.filter((p) => p !== active)]) if (pane?.view) pane.push(options);
  showLook();
}

function rest() { for (const pane of panes) pane.stream.rest(); }

const gestures = {
  scroll(pane, { by: [dx, dy], start, options }) {
    if (pane.isCamera) return gestures.rotate(pane, { by: [dx, dy], options });
    const { count } = pane.view.place;
    const perStep = Math.max(3, Math.min(12, (0.8 * pane.root.clientHeight) / count));
    start.rest = (start.rest ?? 0) + dy / perStep;
    const steps = Math.trunc(start.rest);
    start.rest -= steps;
    if (steps) scroll(pane, steps, options);
  },
  window(pane, { by: [dx, dy], options }) {
    if (pane.isComposite) {
      if (!pointsOf(shared.preset)) return gestures.rotate(pane, { by: [dx, dy], options });
      shared.shift += 2 * dy;
      shared.stretch = Math.min(Math.max(shared.stretch * Math.exp(dx / 300), 0.05), 20);
      return pane.push(options);
    }
    const from = pane.window ?? (study.volume.range ? rangeWindow(...study.volume.range) : null);
    if (!from) return;
    const gain = (from.function ? from.width : Math.max(from.width, 20)) / 400;
    const window = tidyWindow({ ...from, center: from.center + dy * gain, width: from.width + dx * gain * 1.5 });
    if (!pane.isCamera) return setWindow(window, options);
    shared.projectionWindows[shared.preset] = window;
    pane.push(options);
  },
  zoom(pane, { by: [, dy], start, options }) {
    pane.view.zoomBy(Math.exp(-dy / 180), start.pixel);
    pane.push(options);
  },
  pan(pane, { by: [dx, dy], options }) {
    const p = pane.pixelsPerPoint;
    pane.view.pan([dx * p, dy * p]);
    pane.push(options);
  },
  rotate(pane, { by: [dx, dy], options }) {
    if (pane.isCamera) {
      const perPoint = Math.PI / Math.min(pane.root.clientWidth, pane.root.clientHeight);
      pane.view.rotate(dx * perPoint, dy * perPoint);
    } else if (pane.isPlane) {
      const perPoint = Math.PI / 2 / Math.min(pane.root.clientWidth, pane.root.clientHeight);
      pane.view.turn(pane.view.down, -dx * perPoint, shared.point);
      pane.view.turn(pane.view.right, dy * perPoint, shared.point);
    } else return;
    pane.push(options);
    for (const other of panes) if (other !== pane) other.drawMarks();
  },
  none() {},
  cross(pane, { by, pixel, options }) {
    if (pane.isCamera) return gestures.rotate(pane, { by, options });
    if (pane.isPlane) moveTo(pane.view.position(pixel), options);
  },
};

/** Turns the planes behind the lines of `pane` about the cross-hair, together, so that they stay at right angles. */
function turnLines(pane, from, to, isSingle, target, options) {
  const [cx, cy] = pane.view.pixel(shared.point);
  const angle = Math.atan2(to[1] - cy, to[0] - cx) - Math.atan2(from[1] - cy, from[0] - cx);
  for (const other of panes) {
    if (other === pane || !other.isPlane || (isSingle && other !== target)) continue;
    other.view.turn(pane.view.normal, angle, shared.point);
    other.push(options);
  }
  pane.drawMarks();
}

// --------------------------------------------------------------------------------------------------------- Pointers

function listenTo(pane) {
  const { root } = pane;
  const pointers = new Map();
  let gesture = null;

  const begin = (event) => {
    const pixel = pane.pixel(event);
    const name = event.pointerType === "mouse" ? { 0: tool, 1: "pan", 2: "zoom" }[event.button] ?? tool : tool;
    const near = event.button === 0 && pane.isPlane && showCross
      ? pane.handles?.find(({ at }) => Math.hypot(at[0] - pixel[0], at[1] - pixel[1]) < 12 * pane.pixelsPerPoint) : null;
    gesture = { name: near ? "lines" : name, target: near?.pane, start: { pixel, x: event.clientX, y: event.clientY }, last: pixel,
      x: event.clientX, y: event.clientY, hasMoved: false, isTouch: event.pointerType === "touch" };
  };

  root.addEventListener("pointerdown", (event) => {
    if (!pane.view) return;
    activate(pane);
    stopCine();
    root.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 1) begin(event);
    else if (pointers.size === 2) gesture = { name: "pinch", hasMoved: false, start: {} };
    quietValue(pane);
  });

  root.addEventListener("pointermove", (event) => {
    if (!pane.view) return;
    if (!pointers.has(event.pointerId)) return hover(pane, event);
    const options = { moving: true, time: event.timeStamp };
    const now = [event.clientX, event.clientY];
    if (!gesture) return;
    if (!gesture.hasMoved) {
      if (gesture.name !== "pinch" && Math.hypot(now[0] - gesture.start.x, now[1] - gesture.start.y) < 3) return;
      gesture.hasMoved = true;
      root.classList.add("is-dragging");
    }
    if (gesture.name === "pinch") {
      pinch(event.pointerId, now, options);
    } else {
      const pixel = pane.pixel(event);
      const by = [now[0] - gesture.x, now[1] - gesture.y];
      [gesture.x, gesture.y] = now;
      if (gesture.name === "lines") turnLines(pane, gesture.last, pixel, event.shiftKey, gesture.target, options);
      else gestures[gesture.name](pane, { by, pixel, start: gesture.start, options });
      gesture.last = pixel;
    }
    pointers.set(event.pointerId, now);
  });

  // Two fingers: the midpoint pans, the distance zooms.
  function pinch(id, now, options) {
    const [otherID] = [...pointers.keys()].filter((k) => k !== id);
    const other = pointers.get(otherID), before = pointers.get(id);
    const span = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    const factor = span(now) / Math.max(span(before), 1);
    const middle = { clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 };
    pane.view.zoomBy(Math.min(Math.max(factor, 0.5), 2), pane.pixel(middle));
    gestures.pan(pane, { by: [(now[0] - before[0]) / 2, (now[1] - before[1]) / 2], options });
  }

  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (gesture && !gesture.hasMoved && pointers.size === 0 && event.type === "pointerup" && event.button === 0 && pane.isPlane && gesture.name !== "lines") {
      moveTo(pane.view.position(pane.pixel(event)), { time: event.timeStamp });
    }
    if (pointers.size === 0) { gesture = null; root.classList.remove("is-dragging"); rest(); }
    else gesture = { name: "none", hasMoved: true, start: {} }; // a finger that is left does nothing until it lifts
  };
  root.addEventListener("pointerup", end);
  root.addEventListener("pointercancel", end);
  root.addEventListener("contextmenu", (event) => event.preventDefault());
  root.addEventListener("dblclick", () => toggleFull(pane));
  root.addEventListener("focus", () => activate(pane));
  root.addEventListener("pointerleave", () => quietValue(pane));

  let wheel = 0;
  root.addEventListener("wheel", (event) => {
    if (!pane.view) return;
    event.preventDefault();
    activate(pane);
    stopCine();
    const unitSize = [1, 33, 400][event.deltaMode];
    const options = { time: event.timeStamp };
    if (event.ctrlKey || pane.isCamera) {
      pane.view.zoomBy(Math.exp((-event.deltaY * unitSize) / (event.ctrlKey ? 120 : 500)), pane.pixel(event));
      pane.push(options);
    } else {
      wheel += (event.deltaY * unitSize) / 100;
      const steps = Math.abs(wheel) < 1 && Math.abs(event.deltaY * unitSize) >= 50 ? Math.sign(wheel) : Math.trunc(wheel);
      wheel -= steps;
      if (Math.abs(wheel) > 1 || steps) wheel %= 1;
      if (steps) scroll(pane, steps, options);
    }
    quietValue(pane);
  }, { passive: false });
}

// The value under a pointer that rests.
let hoverTimer = 0;
function hover(pane, event) {
  clearTimeout(hoverTimer);
  quietValue(pane);
  if (!pane.isPlane || !connection.isOpen) return;
  const point = pane.view.position(pane.pixel(event));
  hoverTimer = setTimeout(async () => {
    try {
      const answer = await pane.stream.values([point]);
      const { value } = answer.samples[0];
      if (value === null || value === undefined) return; // outside, or not loaded yet
      pane.text.value.textContent = `${letterCoordinates(point)}\n${tidyNumber(value)} ${answer.unit}`;
    } catch { /* no value is shown */ }
  }, 160);
}
function quietValue(pane) {
  clearTimeout(hoverTimer);
  pane.text.value.textContent = "";
}
const letterCoordinates = (point) => point.map((v, i) => `${v >= 0 ? "LPH"[i] : "RAF"[i]} ${Math.abs(v).toFixed(1)}`).join("  ") + " mm";

// --------------------------------------------------------------------------------------------------------------- Keys

function activate(pane) {
  if (active === pane) return;
  active?.root.classList.remove("is-active");
  active = pane;
  pane.root.classList.add("is-active");
  wantValues();
}

function toggleFull(pane) {
  const isSingle = $("panes").classList.toggle("is-single");
  for (const p of panes) p.root.classList.toggle("is-full", isSingle && p === pane);
}

function resetView() {
  if (!study) return;
  stopCine();
  shared.point = study.grid.center;
  for (const pane of panes) { pane.view.reset(); }
  Object.assign(shared, { window: defaultWindow(study.series, study.volume), projectionWindows: projectionWindows(study.series, study.volume), invert: isInvertedByHabit(study.series), slab: 0, shift: 0, stretch: 1 });
  for (const pane of panes) pane.push();
  showLook();
}

const keys = {
  ArrowUp: (pane, e) => (e.shiftKey ? nudge(pane, 0, -24) : pane.isCamera ? spin(pane, 0, -1) : scroll(pane, -1)),
  ArrowDown: (pane, e) => (e.shiftKey ? nudge(pane, 0, 24) : pane.isCamera ? spin(pane, 0, 1) : scroll(pane, 1)),
  ArrowLeft: (pane, e) => (e.shiftKey ? nudge(pane, -24, 0) : pane.isCamera ? spin(pane, -1, 0) : scroll(pane, -1)),
  ArrowRight: (pane, e) => (e.shiftKey ? nudge(pane, 24, 0) : pane.isCamera ? spin(pane, 1, 0) : scroll(pane, 1)),
  PageUp: (pane) => scroll(pane, -10),
  PageDown: (pane) => scroll(pane, 10),
  Home: (pane) => scroll(pane, -1e6),
  End: (pane) => scroll(pane, 1e6),
  "+": (pane) => { pane.view.zoomBy(1.25); pane.push(); },
  "=": (pane) => keys["+"](pane),
  "-": (pane) => { pane.view.zoomBy(0.8); pane.push(); },
  0: () => resetView(),
  i: () => $("invert").click(),
  f: (pane) => toggleFull(pane),
  Enter: (pane) => toggleFull(pane),
  " ": () => $("cine").click(),
};
const pageKeys = {
  h: () => $("share").click(),
  v: () => $("save").click(),
  l: () => $("toggle-link").click(),
  b: () => $("toggle-list").click(),
  d: () => $("denoise").click(),
  x: () => { showCross = !showCross; for (const pane of panes) pane.drawMarks(); },
  "?": () => $("toggle-help").click(),
};
function nudge(pane, dx, dy) { gestures.pan(pane, { by: [dx, dy], options: {} }); }
function spin(pane, dx, dy) { pane.view.rotate(dx * 0.12, dy * 0.12); pane.push(); }

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, dialog")) return;
  if (event.target.closest("button") && (event.key === " " || event.key === "Enter")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const chosen = TOOLS.find((t) => t.key === key);
  if (chosen) return setTool(chosen.id);
  if (pageKeys[key]) return pageKeys[key]();
  if (!study || !active?.view) return;
  if (/^[1-9]$/.test(key)) {
    const choice = windowChoices()[Number(key) - 1];
    if (choice) setWindow(choice[1]);
    return;
  }
  if (keys[key]) { event.preventDefault(); keys[key](active, event); }
});

// ---------------------------------------------------------------------------------------------------------------- Cine

let cinePane = null;
function stopCine() {
  if (!cinePane) return;
  const pane = cinePane;
  cinePane = null;
  $("cine").setAttribute("aria-pressed", "false");
  for (const p of panes) p.stream.setCine(null);
  // What was shown last is what stays.
  if (pane.isPlane) moveTo(pane.view.center);
  else for (const p of panes) p.push();
  rest();
}
// The server plays: it knows the line and lowers quality, so that the rate is kept.
function startCine() {
  const phases = study.volume.timePoints > 1;
  const pane = active?.isCamera && !phases ? panes[0] : active ?? panes[0];
  cinePane = pane;
  $("cine").setAttribute("aria-pressed", "true");
  if (phases) for (const p of panes) p.stream.setCine({ rate: CINE_RATE, along: "phase" });
  else pane.stream.setCine({ rate: CINE_RATE, along: "slice" });
}

// --------------------------------------------------------------------------------------------------------------- Share

async function showShare() {
  if (!study || !active) return;
  const control = document.querySelector('input[name="control"]:checked').value !== "";
  try {
    const { token } = await connection.query("share", { pane: active.stream.number, control });
    $("share-link").value = `${location.origin}${location.pathname}#follow=${token}`;
    if (!$("sharing").open) $("sharing").showModal();
    $("share-link").select();
  } catch (error) { $("spoken").textContent = error.message; }
}

// ---------------------------------------------------------------------------------------------------------------- Save

/** What is at rest in the active picture; hands may move on while it is saved. */
let viewToSave = null;
function showSave() {
  if (!study || !active?.stream.scene) return;
  viewToSave = { scene: active.stream.scene, size: active.stream.size };
  $("save-said").replaceChildren();
  $("saving").showModal();
  $("save-label").select();
}

async function saveView() {
  const chosen = document.querySelector('input[name="kind"]:checked').value;
  // A stored slice has no volumetric state but the one of its image.
  const kind = chosen === "presentation" && viewToSave.scene.view.slice ? "softcopy" : chosen;
  const label = $("save-label").value.trim() || "Saved view";
  $("save-do").disabled = true;
  try {
    const response = await fetch(`/dicomweb/states?kind=${kind}&label=${encodeURIComponent(label)}`,
      { method: "POST", headers: { accept: "application/dicom+json", "content-type": "application/json" }, body: JSON.stringify(viewToSave) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail ?? `the server answered ${response.status}`);
    const address = answer["00081199"].Value[0]["00081190"].Value[0];
    // Key objects are no picture: other viewers of the study show them.
    const rendering = kind === "keyobject" ? null : kind === "presentation" ? (viewToSave.scene.view.camera ? "rendered3d" : "renderedmpr") : "rendered";
    $("save-said").replaceChildren("Saved. ", ...(rendering ? [element("a", { href: `${address}/${rendering}?accept=image/png`, target: "_blank", rel: "noopener", text: "Open the picture" })] : []));
    listed = await loadList();
  } catch (error) { $("save-said").textContent = `Not saved: ${error.message}.`; } finally { $("save-do").disabled = false; }
}

/** The page of a guest: one picture, as it is led. */
function beginAsGuest() {
  document.body.classList.add("is-guest");
  document.body.classList.remove("is-empty");
  $("subject").textContent = "Shared picture";
  const canvas = element("canvas", { width: 1, height: 1, "aria-hidden": "true" }), fidelity = element("div", { class: "label top-right" });
  const message = element("div", { class: "message", text: "Waiting for the picture …" });
  const labels = Object.fromEntries(["top-left", "letter top", "letter bottom", "letter left", "letter right"].map((c) => [c.split(" ").at(-1), element("div", { class: `label ${c}` })]));
  const root = element("section", { class: "pane is-full", tabindex: "0", "aria-label": "Shared picture" }, canvas, fidelity, message, ...Object.values(labels));
  $("panes").classList.add("is-single");
  $("panes").replaceChildren(root);
  const stream = connection.pane(1, canvas);
  stream.addEventListener("frame", () => { message.hidden = true; });
  stream.addEventListener("problem", ({ detail }) => { message.textContent = detail.message; message.hidden = detail.code === "forbidden"; });
  stream.addEventListener("fidelity", ({ detail: { mark } }) => fidelity.replaceChildren(...(mark ? [element("div", { class: `mark ${mark}`, text: mark === "green" ? "EXACT" : "LOSSY" })] : [])));
  stream.addEventListener("scene", ({ detail: { view, presentation } }) => {
    const { plane, camera } = view, back = camera && unit(subtract(camera.target, camera.position));
    const right = plane?.right ?? (camera && unit(cross(back, camera.up))), down = plane?.down ?? (camera && scale(unit(cross(right, back)), -1));
    if (!right) return;
    Object.entries({ left: scale(right, -1), right, top: scale(down, -1), bottom: down }).forEach(([side, direction]) => { labels[side].textContent = letters(direction); });
    const { window, preset, invert } = presentation ?? {};
    labels["top-left"].textContent = camera && preset ? preset : window ? `C ${tidyNumber(window.center)}  W ${tidyNumber(window.width)}${invert ? "  inverted" : ""}` : "";
  });
  // With control: the wheel scrolls, a drag sets the window.
  root.addEventListener("wheel", (event) => {
    event.preventDefault();
    const plane = stream.scene?.view.plane;
    if (!plane) return;
    const [r, d] = [plane.right, plane.down], n = [r[1] * d[2] - r[2] * d[1], r[2] * d[0] - r[0] * d[2], r[0] * d[1] - r[1] * d[0]];
    stream.change({ view: { plane: { origin: along(plane.origin, n, Math.sign(event.deltaY)) } } }, { time: event.timeStamp });
  }, { passive: false });
  root.addEventListener("pointermove", (event) => {
    const window = stream.scene?.presentation?.window;
    if (!(event.buttons & 1) || !window) return;
    stream.change({ presentation: { window: tidyWindow({ ...window, center: window.center + 2 * event.movementY, width: window.width + 3 * event.movementX }) } }, { moving: true, time: event.timeStamp });
  });
  root.addEventListener("pointerup", () => stream.rest());
  stream.follow(shareToken);
  stream.observe();
  window.tomos = { connection, panes: [{ name: "shared", root, stream }] };
}

// ----------------------------------------------------------------------------------------------------------------- Bar

function setTool(id) {
  tool = id;
  for (const button of $("tools").children) {
    button.setAttribute("aria-checked", String(button.dataset.tool === id));
    button.tabIndex = button.dataset.tool === id ? 0 : -1;
  }
  for (const pane of panes) pane.root.dataset.tool = id;
  wantValues();
}

/** Whoever takes the window tool is about to change it: the values of the picture at hand come over meanwhile. */
function wantValues() {
  for (const pane of panes) pane.stream.setValues(tool === "window" && pane === active && !pane.isCamera);
}

function fillBar() {
  $("tools").setAttribute("role", "radiogroup");
  for (const { id, key, name, icon } of TOOLS) {
    const svg = shape("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" });
    shape("path", { d: icon }, svg);
    const button = element("button", { class: "icon", role: "radio", "data-tool": id, "aria-label": name, title: `${name} (${key.toUpperCase()})`, onclick: () => setTool(id) }, svg);
    $("tools").append(button);
  }
  $("tools").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = TOOLS.findIndex((t) => t.id === tool);
    setTool(TOOLS[(at + step + TOOLS.length) % TOOLS.length].id);
    $("tools").querySelector('[aria-checked="true"]').focus();
  });
  for (const mm of SLABS) $("slab").append(element("option", { value: mm, text: mm ? `${mm} mm` : "Off" }));
  for (const [id, name] of FOLDS) $("fold").append(element("option", { value: id, text: name }));
  $("fold").setAttribute("aria-label", "Fold of the slab");
  $("window").addEventListener("change", ({ target }) => {
    const choice = windowChoices()[target.value];
    if (choice) setWindow(choice[1]);
  });
  $("slab").addEventListener("change", ({ target }) => { shared.slab = Number(target.value); changeLook(); });
  $("fold").addEventListener("change", ({ target }) => { shared.fold = target.value; changeLook(); });
  $("preset").addEventListener("change", ({ target }) => { Object.assign(shared, { preset: target.value, shift: 0, stretch: 1 }); changeLook(); });
  // A choice made hands the keys back to the picture.
  for (const id of ["window", "slab", "fold", "preset"]) $(id).addEventListener("change", () => active?.root.focus({ preventScroll: true }));
  $("invert").addEventListener("click", () => { if (!study) return; shared.invert = !shared.invert; changeLook(); });
  $("reset").addEventListener("click", resetView);
  $("cine").addEventListener("click", () => { if (!study) return; if (cinePane) stopCine(); else startCine(); });
  $("share").addEventListener("click", showShare);
  $("share-copy").addEventListener("click", async () => {
    $("share-link").select();
    try { await navigator.clipboard.writeText($("share-link").value); } catch { document.execCommand("copy"); }
    $("share-copy").textContent = "Copied";
    setTimeout(() => { $("share-copy").textContent = "Copy"; }, 1500);
  });
  for (const choice of document.querySelectorAll('input[name="control"]')) choice.addEventListener("change", showShare);
  $("sharing").addEventListener("click", (event) => { if (event.target === $("sharing")) $("sharing").close(); });
  $("save").addEventListener("click", showSave);
  $("save-do").addEventListener("click", saveView);
  $("save-label").addEventListener("keydown", (event) => { if (event.key === "Enter") saveView(); });
  $("saving").addEventListener("click", (event) => { if (event.target === $("saving")) $("saving").close(); });
  $("toggle-list").addEventListener("click", () => {
    const isHidden = document.body.classList.toggle("is-listless");
    $("toggle-list").setAttribute("aria-expanded", String(!isHidden));
  });
  $("toggle-help").addEventListener("click", () => $("help").showModal());
  $("help").addEventListener("click", (event) => { if (event.target === $("help")) $("help").close(); });
  $("toggle-link").addEventListener("click", () => toggleLink());
  $("banner-retry").addEventListener("click", () => connection.reconnect());
}

function showLook() {
  const { window, slab, fold, invert, preset } = shared;
  const choices = windowChoices();
  const at = choices.findIndex(([, w]) => w.center === window?.center && w.width === window.width);
  $("window").replaceChildren(...choices.map(([name], i) => element("option", { value: i, text: name, selected: i === at })));
  if (at < 0) $("window").append(element("option", { value: "own", text: window ? `${tidyNumber(window.center)} / ${tidyNumber(window.width)}` : "Default", selected: true }));
  $("slab").value = slab;
  $("fold").value = fold;
  $("fold-field").hidden = slab === 0 || !panes.some((p) => p.isPlane);
  $("slab-field").hidden = !panes.some((p) => p.isPlane);
  $("volume-field").hidden = !panes.some((p) => p.isCamera);
  $("preset").replaceChildren(...volumeChoices().map(([id, name]) => element("option", { value: id, text: name, selected: id === preset })));
  $("invert").setAttribute("aria-pressed", String(invert));
}

function fillHelp() {
  const row = (keysText, what) => [element("dt", {}, ...keysText.split(" ").map((k) => (k === "/" || k === "–" ? ` ${k} ` : element("kbd", { text: k })))), element("dd", { text: what })];
  const plain = (what, does) => [element("dt", { text: what }), element("dd", { text: does })];
  $("help").append(
    element("h2", { text: "Keys and gestures" }),
    element("div", { class: "columns" },
      element("dl", {},
        ...TOOLS.flatMap(({ key, name }) => row(key.toUpperCase(), name)),
        ...row("1 – 9", "Window presets"), ...row("I", "Invert"), ...row("0", "Reset"), ...row("Space", "Play"), ...row("X", "Lines on and off")),
      element("dl", {},
        ...plain("Left drag", "Chosen tool; turns the volume"), ...plain("Right drag", "Zoom"), ...plain("Middle drag", "Pan"),
        ...plain("Wheel", "Scroll; zooms the volume"), ...plain("Click", "Cross-hair"), ...plain("Line ends", "Turn the planes; Shift: one"),
        ...plain("Double click", "One picture"), ...plain("Two fingers", "Pinch and pan"),
        ...row("↑ / ↓", "Slices; Shift: pan"), ...row("PgUp / PgDn", "Ten slices"), ...row("+ / -", "Zoom"),
        ...row("D", "Denoise"), ...row("H", "Share"), ...row("V", "Save view"), ...row("L", "Line figures"), ...row("B", "Series list"))),
    element("p", { text: "Not a medical device. Amber LOSSY: better follows. Red LOSSY: stays so. Green: lossless." }));
}

// -------------------------------------------------------------------------------------------------------- Line figures

let linkTimer = 0;
const seen = { at: 0, parts: 0, bytes: 0 };
function toggleLink() {
  const isShown = $("link").hidden;
  $("link").hidden = !isShown;
  $("toggle-link").setAttribute("aria-pressed", String(isShown));
  clearInterval(linkTimer);
  if (isShown) { showLink(); linkTimer = setInterval(showLink, 1000); }
}

async function showLink() {
  const now = performance.now(), { parts, bytes, discarded, reconnections } = connection.totals;
  const seconds = (now - seen.at) / 1000;
  const rows = [];
  const frames = panes.reduce((sum, p) => sum + p.stream.frames, 0);
  if (seen.at && seconds > 0) {
    rows.push(["Frames", `${((frames - seen.frames) / seconds).toFixed(0)} /s`], ["Received", `${formatBytes(Math.round((bytes - seen.bytes) / seconds))}/s`]);
  }
  Object.assign(seen, { at: now, parts, bytes, frames });
  rows.push(["Received in all", formatBytes(bytes)], ["Parts", parts], ["Discarded here", discarded], ["Reconnections", reconnections]);
  try {
    rows.push(...linkRows(await connection.query("link")));
  } catch { /* the figures of this side remain */ }
  $("link").replaceChildren(element("h2", { text: "Line" }), element("dl", {}, ...rows.flatMap(([k, v]) => [element("dt", { text: k }), element("dd", { text: v })])));
}

/** What the server says of this line. */
function linkRows({ rate, rtt, inFlight, cancelled, dropped, unchanged, wait, render, encode, decode, latency }) {
  const ms = (v) => (v === null || v === undefined ? null : `${formatTime(v)} ms`);
  return [
    ["Rate", rate ? `${((rate * 8) / 1e6).toFixed(1)} Mbit/s` : null], ["Round trip", ms(rtt)], ["In flight", inFlight === undefined ? null : formatBytes(inFlight)],
    ["Superseded", cancelled === undefined ? null : cancelled + (dropped ?? 0)], ["Unchanged", unchanged],
    ["Wait, render, encode", [wait, render, encode].every((v) => typeof v === "number") ? `${[wait, render, encode].map(formatTime).join(" + ")} ms` : null],
    ["Decode", ms(decode)], ["Input to painted, p50 / p95", latency?.p50 ? `${formatTime(latency.p50)} / ${formatTime(latency.p95)} ms` : null],
  ].filter(([, v]) => v !== null && v !== undefined);
}

// ---------------------------------------------------------------------------------------------------------------- List

async function loadList() {
  let listed;
  try {
    const response = await fetch("/api/series", { headers: { accept: "application/json" } });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    listed = (await response.json()).series;
  } catch (error) {
    fillList(element("p", { class: "note", text: `The list of series could not be loaded: ${error.message}.` }));
    return [];
  }
  const projections = await scans.section();
  if (!listed.length) {
    fillList(element("p", { class: "note" }, "No series yet. Import a folder of DICOM files with ", element("code", { text: "tomos import" }), "."), ...projections, beyond.root);
    return [];
  }
  const studies = new Map();
  for (const series of listed) {
    if (!studies.has(series.studyInstanceUID)) studies.set(series.studyInstanceUID, []);
    studies.get(series.studyInstanceUID).push(series);
  }
  fillList(...[...studies.values()].map((all) => {
    const first = all[0];
    const title = personName(first.patientName) || first.patientID || "Study";
    const detail = [first.studyDescription, dateText(first.studyDate)].filter(Boolean).join(" · ");
    return element("section", { class: "study" }, element("h2", { text: title }), ...(detail ? [element("p", { text: detail })] : []), ...all.flatMap(seriesButtons));
  }), ...projections, beyond.root);
  return listed;
}

/** What the archive behind this server has and this one has not: asked for when the page opens and by name; a study's series when it is unfolded. */
const beyond = {
  root: element("section", { id: "beyond", "aria-label": "Archive behind this one", hidden: true }),
  asked: 0,
  async load(text = "") {
    const turn = ++this.asked, results = this.results;
    if (results) results.replaceChildren(element("p", { class: "note", text: "Asking …" }));
    let answer;
    try {
      const response = await fetch(`/api/beyond?text=${encodeURIComponent(text)}`, { headers: { accept: "application/json" } });
      answer = await response.json();
      if (!response.ok) throw new Error(answer.message);
    } catch { answer = { isThere: true, isSilent: true, studies: [] }; }
    if (turn !== this.asked || !answer.isThere) return;
    if (!this.results) {
      this.field = element("input", { type: "search", placeholder: "Name or ID", "aria-label": "Find a patient in the archive", onchange: () => this.load(this.field.value) });
      this.results = element("div", { id: "beyond-results", "aria-live": "polite" });
      this.root.append(element("h2", { text: "In the archive" }), this.field, this.results);
    }
    this.root.hidden = false;
    this.results.replaceChildren(...(answer.isSilent ? [element("p", { class: "note" }, "The archive does not answer. ", element("button", { text: "Ask again", onclick: () => this.load(this.field.value) }))]
      : !answer.studies.length ? [element("p", { class: "note", text: text ? "Nobody by that name or ID." : "Nothing more than is listed above." })]
        : [...answer.studies.map((s) => this.study(s)), ...(answer.isCut ? [element("p", { class: "note", text: "There are more: find them by name or ID." })] : [])]));
  },
  study(study) {
    const detail = [study.studyDescription, dateText(study.studyDate), study.modalities.join(" "), study.instances ? countText(study.instances) : ""].filter(Boolean).join(" · ");
    const fold = element("details", { class: "study", "data-study": study.studyInstanceUID },
      element("summary", {}, element("h2", { text: personName(study.patientName) || study.patientID || "Study" }), ...(detail ? [element("p", { text: detail })] : [])));
    fold.addEventListener("toggle", () => { if (fold.open && !fold.querySelector(".series")) this.unfold(fold, study); });
    return fold;
  },
  async unfold(fold, study) {
    const note = element("p", { class: "note", text: "Asking …" });
    fold.querySelector(".note")?.remove();
    fold.append(note);
    try {
      const response = await fetch(`/api/beyond/${study.studyInstanceUID}`, { headers: { accept: "application/json" } }), answer = await response.json();
      if (!response.ok) throw new Error(answer.message);
      note.remove();
      fold.append(...answer.series.map((s) => this.series({ ...study, ...s })));
      if (!answer.series.length) note.textContent = "All of it is listed above.", fold.append(note);
    } catch { note.textContent = "The archive does not answer."; }
  },
  series(series) {
    const detail = element("span", { class: "detail", text: series.instances ? countText(series.instances) : "not fetched yet" });
    const button = element("button", { class: "series", "data-series": series.seriesInstanceUID, title: "Fetch and open", onclick: async () => {
      button.disabled = true;
      detail.textContent = "Fetching …";
      try {
        const response = await fetch(`/api/series/${series.seriesInstanceUID}`, { headers: { accept: "application/json" } }), answer = await response.json();
        if (!response.ok) throw new Error(answer.message);
        listed = await loadList();
        const found = answer.series[0], volume = found.volumes?.[0];
        if (!volume) throw new Error("it holds no picture that can be shown");
        open(found, volume);
        // From now on it stands above.
        button.remove();
      } catch (error) { detail.textContent = `Not fetched: ${error.message}`; button.disabled = false; }
    } },
      element("span", { class: "modality", text: series.modality || "–" }), element("span", { class: "name", text: series.description || `${series.modality} series` }), detail);
    return button;
  },
};

/** The list may be filled anew under the reader's hands: what has the focus keeps it, and the place stays. */
function fillList(...content) {
  const list = $("list"), held = document.activeElement?.closest("#list .series")?.dataset, top = list.scrollTop;
  list.replaceChildren(...content);
  if (held) [...list.querySelectorAll(".series")].find(({ dataset: d }) => d.series === held.series && d.volume === held.volume && d.scan === held.scan)?.focus({ preventScroll: true });
  list.scrollTop = top;
  markCurrent();
}

/** Which of the list is on the screen. */
function markCurrent() {
  for (const button of $("list").querySelectorAll(".series")) {
    const isCurrent = button.dataset.series === study?.series.seriesInstanceUID && button.dataset.volume === String(study?.volume.index);
    button.setAttribute("aria-current", String(isCurrent));
  }
}

async function loadPresets() {
  try {
    const response = await fetch("/api/presets");
    if (response.ok) presets = await response.json();
  } catch { /* the window tool turns the volume instead */ }
}

function seriesButtons(series) {
  const volumes = series.volumes ?? [];
  const button = (volume, isOnly) => {
    const size = volume ? `${volume.columns} × ${volume.rows} × ${volume.slices}${volume.timePoints > 1 ? ` × ${volume.timePoints}` : ""}` : countText(series.instances);
    const spacing = volume?.spacing && !volume.isStack ? ` · ${[...new Set(volume.spacing.map((s) => Number(s.toFixed(2))))].join(" × ")} mm` : "";
    const name = (series.description || `${series.modality} series`) + (isOnly ? "" : ` (${volume.index + 1})`);
    const warnings = series.warnings ?? [];
    return element("button", { class: "series", "data-series": series.seriesInstanceUID, "data-volume": volume?.index, disabled: !volume,
      title: warnings.join("\n") || name, onclick: () => volume && open(series, volume) },
      element("span", { class: "modality", text: series.modality || "–" }), element("span", { class: "name", text: name }),
      element("span", { class: warnings.length ? "detail warning" : "detail", text: size + spacing }));
  };
  return volumes.length ? volumes.map((v) => button(v, volumes.length === 1)) : [button(null, true)];
}

const countText = (count) => (count === 1 ? "1 instance" : `${count} instances`);
const personName = (name) => (name ?? "").split("=")[0].split("^").filter(Boolean).join(", ");
const dateText = (date) => (/^\d{8}$/.test(date ?? "") ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date ?? "");
const isInvertedByHabit = ({ modality }) => modality === "PT" || modality === "NM";

function open(series, volume) {
  stopCine();
  lowDose.reset();
  if (innerWidth < 900 && !document.body.classList.contains("is-listless")) $("toggle-list").click();
  study = { series, volume, grid: new Grid(volume) };
  showLowDose();
  shared = { point: study.grid.center, window: defaultWindow(series, volume), invert: isInvertedByHabit(series), slab: 0, fold: "maximum",
    projectionWindows: projectionWindows(series, volume), preset: series.modality === "CT" ? "bone" : "maximum", shift: 0, stretch: 1, time: 0 };
  const isFlat = volume.isStack || volume.slices < 2;
  const names = isFlat ? [["slice", "Slice"]] : [["axial", "Axial"], ["coronal", "Coronal"], ["sagittal", "Sagittal"], ["volume", "Volume"]];
  if (panes.map((p) => p.name).join() !== names.map(([n]) => n).join()) layOut(names);
  for (const pane of panes) {
    pane.show(pane.name === "volume" ? new CameraView(study.grid) : pane.name === "slice" ? new SliceView(study.grid) : new PlaneView(study.grid, pane.name));
    pane.root.classList.remove("is-full");
  }
  $("panes").classList.toggle("is-single", isFlat);
  if (isFlat) panes[0].root.classList.add("is-full");
  activate(panes[0]);
  for (const pane of panes) pane.drawMarks();
  document.body.classList.remove("is-empty");
  $("cine").disabled = !(volume.slices > 1 || volume.timePoints > 1);
  $("subject").textContent = [...new Set([personName(series.patientName), series.patientID, series.description, dateText(series.studyDate)])].filter(Boolean).join("  ·  ");
  markCurrent();
  $("save").disabled = false;
  $("spoken").textContent = `${series.description || "Series"} opened`;
  showLook();
  setTool(tool);
  try { sessionStorage.setItem("series", JSON.stringify([series.seriesInstanceUID, volume.index])); } catch { /* private mode */ }
}

function layOut(names) {
  for (const pane of panes) pane.stream.set(null);
  active = null;
  const made = names.map(([name, title], i) => existing.get(name) ?? new PaneController(name, { slice: 5, before: 6, after: 7, difference: 8 }[name] ?? i + 1, title));
  for (const pane of made) existing.set(pane.name, pane);
  panes = made;
  $("panes").replaceChildren(...panes.map((p) => p.root));
}
const existing = new Map();

// -------------------------------------------------------------------------------------------------------- Connection

connection.addEventListener("state", ({ detail: state }) => {
  const words = { waiting: "The connection was lost. Trying again …", refused: "This session was taken over or refused by the server." };
  // The first attempts of a new connection are quick: do not flash.
  clearTimeout(bannerTimer);
  if (state === "open" || state === "closed") $("banner").hidden = true;
  else if (words[state]) {
    $("banner-text").textContent = words[state];
    bannerTimer = setTimeout(() => { $("banner").hidden = false; }, state === "waiting" ? 400 : 0);
  }
});
let bannerTimer = 0;

connection.addEventListener("progress", ({ detail: { series, loaded, total, state } }) => {
  if (series !== study?.series.seriesInstanceUID && !lowDose.concerns(series)) return;
  for (const pane of panes) {
    pane.progress.style.width = `${(100 * loaded) / Math.max(total, 1)}%`;
    pane.progress.hidden = state === "complete" || loaded >= total;
  }
  if (state === "complete" && !study.volume.range) learnRange(study);
});

/** The smallest and largest value are known when the volume has been loaded once. */
async function learnRange(of) {
  try {
    const series = await (await fetch(`/api/series/${of.series.seriesInstanceUID}`)).json();
    const volumes = series.volumes ?? series.series?.[0]?.volumes ?? [];
    of.volume.range = volumes.find((v) => v.index === of.volume.index)?.range ?? null;
    if (study === of) showLook();
  } catch { /* the presets stay few */ }
}

// ------------------------------------------------------------------------------------------------------------- Low dose

const lowDose = new LowDose({
  connection,
  get study() { return study; },
  get point() { return shared.point; },
  changed() { for (const pane of [active, ...panes.filter((p) => p !== active)]) if (pane?.view) pane.push(); showLowDose(); },
  told(job) { $("spoken").textContent = job.state === "done" ? "Denoised" : job.state === "failed" ? job.message : ""; showLowDose(); },
  layOut(names) {
    const back = [["axial", "Axial"], ["coronal", "Coronal"], ["sagittal", "Sagittal"], ["volume", "Volume"]], from = active?.isPlane ? active.view : panes.find((p) => p.isPlane).view;
    layOut(names ?? back);
    for (const pane of panes) {
      const view = pane.name === "volume" ? new CameraView(study.grid) : new PlaneView(study.grid, names ? from.orientation : pane.name);
      if (names) Object.assign(view, { right: from.right, down: from.down, center: from.center, zoom: from.zoom });
      else if (pane.name !== "volume") view.through(shared.point);
      pane.show(view);
    }
    activate(panes[0]);
    showLowDose();
    showLook();
  },
});

function showLowDose() {
  $("denoise").setAttribute("aria-pressed", String(lowDose.isOn));
  $("compare").setAttribute("aria-pressed", String(lowDose.isComparing));
  $("panes").classList.toggle("is-comparing", lowDose.isComparing);
  const usable = study && study.volume.slices > 1 && !study.volume.isStack;
  $("denoise").disabled = $("compare").disabled = !usable;
  const work = lowDose.job;
  $("denoise").title = work?.state === "running" ? `Denoising … ${Math.round(100 * work.fraction)} %` : "Denoise (D)";
  $("strength-field").hidden = !lowDose.isOn;
  $("report").hidden = work?.state !== "done";
  if (work) $("report").href = `/api/jobs/${work.id}/report.html`;
}

function tell(error) { $("banner-text").textContent = error.message; $("banner").hidden = false; setTimeout(() => { $("banner").hidden = true; }, 5000); }
$("denoise").addEventListener("click", () => lowDose.toggle().catch(tell));
$("compare").addEventListener("click", () => lowDose.compare().catch(tell));
$("strength").addEventListener("change", ({ target }) => lowDose.change(Number(target.value)).catch(tell));

const scans = new Scans({ element, connection, tell, async done(uid) {
  listed = await loadList();
  const series = listed.find((s) => s.seriesInstanceUID === uid);
  if (series) open(series, series.volumes[0]);
} });

// --------------------------------------------------------------------------------------------------------------- Begin

document.body.classList.add("is-empty");
if (innerWidth < 900) document.body.classList.add("is-listless"); // there the list lies over the pictures
$("toggle-list").setAttribute("aria-expanded", String(innerWidth >= 900));
fillBar();
fillHelp();
setTool(tool);
if (shareToken) beginAsGuest();
let [listed] = shareToken ? [[]] : await Promise.all([loadList(), loadPresets()]);
// A job of this page or another has made a series that the list does not hold yet.
if (!shareToken) connection.addEventListener("job", async ({ detail: { state, result } }) => {
  if (state === "done" && result && !listed.some((s) => s.seriesInstanceUID === result)) listed = await loadList();
});
if (!shareToken) beyond.load();
/** For tests and scripts: what is shown, and the library's panes. */
if (!shareToken) window.tomos = { connection, get panes() { return panes; }, get study() { return study; }, get shared() { return shared; }, get lowDose() { return lowDose; }, open: (uid, index = 0) => {
  const series = listed.find((s) => s.seriesInstanceUID === uid);
  if (series) open(series, series.volumes.find((v) => v.index === index) ?? series.volumes[0]);
} };

let before = null;
try { before = JSON.parse(sessionStorage.getItem("series")); } catch { /* none */ }
const known = listed.find((s) => s.seriesInstanceUID === before?.[0] && s.volumes?.length);
if (shareToken) { /* shown already */ }
else if (known) open(known, known.volumes.find((v) => v.index === before[1]) ?? known.volumes[0]);
else {
  const usable = listed.filter((s) => s.volumes?.length);
  if (usable.length === 1) open(usable[0], usable[0].volumes[0]);
  else if (usable.length) $("panes").replaceChildren(element("p", { class: "note", text: "Choose a series." }));
}
