// Tomos stream client: the transport and view library of the page, usable without it.
//
//   const connection = new Connection("wss://host/stream", { token });
//   const pane = connection.pane(1, canvas);
//   pane.set({ volume: { series }, view: { plane: … }, presentation: { window: { center: 40, width: 400 } } });
//   pane.change({ view: { plane: { origin } } }, { moving: true });   // while the hand moves
//   pane.rest();                                                      // when it lets go
//
// The client owns the state and the server owns the pixels: a pane holds the scene that is wanted; what the server has
// not seen of it is sent as one merge patch per display frame. See Documentation/StreamProtocol.md.

export const SUBPROTOCOL = "tomos.stream.v1";

/** Fidelity bits of a frame part. */
export const Fidelity = Object.freeze({
  lossyCoding: 1, fewerPixels: 2, coarserSampling: 4, volumeIncomplete: 8,
  sourceLossy: 16, correctedOrInDoubt: 32, betterFollows: 128, lossy: 15,
});

const Pass = Object.freeze({ moving: 0, full: 1, exact: 2 });
const Format = Object.freeze({ unchanged: 0, jpeg: 1, webp: 2, png: 3, values16: 4 });
const MIME = { 1: "image/jpeg", 2: "image/webp", 3: "image/png" };

/** Nothing is sent while more than this waits in the socket: what waits is merged instead. */
const MAXIMUM_BUFFERED = 4096;
/** A change without a gesture (wheel, key) counts as moving until nothing has changed for this long, in ms. */
const SETTLE = 140;

// ---------------------------------------------------------------------------------------------------------------- JSON

const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);

export function equal(a, b) {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((v, i) => equal(v, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((k) => k in b && equal(a[k], b[k]));
}

/** RFC 7396: `target` with `patch` applied, as a new value. */
export function merge(target, patch) {
  if (!isObject(patch)) return patch;
  const result = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null || value === undefined) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}

/** The merge patch that turns `from` into `to`, or undefined when they are equal. */
export function difference(from, to) {
  if (!isObject(from) || !isObject(to)) return equal(from, to) ? undefined : to;
  const patch = {};
  for (const key of Object.keys(from)) if (!(key in to)) patch[key] = null;
  for (const [key, value] of Object.entries(to)) {
    const part = key in from ? difference(from[key], value) : value;
    if (part !== undefined) patch[key] = part;
  }
  return Object.keys(patch).length ? patch : undefined;
}

// --------------------------------------------------------------------------------------------------------- Frame parts

/**
 * Reads the header of one binary message. Returns null for a kind this version does not know; throws a RangeError when
 * the message is too short to be what it says.
 */
export function parseFramePart(buffer) {
  if (buffer.byteLength < 2) throw new RangeError("a frame part has at least 32 bytes");
  const view = new DataView(buffer);
  if (view.getUint8(0) !== 1) return null;
  const header = view.getUint8(1);
  if (header < 32 || buffer.byteLength < header) throw new RangeError("the header of a frame part is cut short");
  const u16 = (at) => view.getUint16(at, true);
  return {
    pane: u16(2), frame: view.getUint32(4, true), revision: view.getUint32(8, true),
    pass: view.getUint8(12), format: view.getUint8(13), fidelity: view.getUint8(14), isLast: (view.getUint8(15) & 1) === 1,
    x: u16(16), y: u16(18), width: u16(20), height: u16(22),
    waiting: u16(24) / 10, rendering: u16(26) / 10, encoding: u16(28) / 10, cine: u16(30),
    bytes: buffer.byteLength, payload: buffer.byteLength > header ? new Uint8Array(buffer, header) : null,
  };
}

// ------------------------------------------------------------------------------------------------------ Modality values

/**
 * Reads one band of `values16`: { minimum, slope, intercept, width, height, samples }, where a modality value is
 * (sample + minimum) × slope + intercept. Rejects when the payload is not what it says.
 */
export async function decodeValues16(payload) {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const minimum = view.getInt32(0, true), slope = view.getFloat32(4, true), intercept = view.getFloat32(8, true);
  const width = view.getUint16(12, true), height = view.getUint16(14, true), count = width * height;
  const stream = new Blob([payload.subarray(16)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (bytes.length !== 2 * count) throw new RangeError("a band of values is of another size than it says");
  const samples = new Uint16Array(count);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const zigzag = (bytes[i] << 8) | bytes[count + i];
      const a = x ? samples[i - 1] : 0, b = y ? samples[i - width] : 0, c = x && y ? samples[i - width - 1] : 0;
      const low = Math.min(a, b), high = Math.max(a, b);
      const median = c >= high ? low : c <= low ? high : a + b - c; // of JPEG-LS
      samples[i] = median + ((zigzag >> 1) ^ -(zigzag & 1));
    }
  }
  return { minimum, slope, intercept, width, height, samples };
}

/** Grey of every sample: the window functions of DICOM PS3.3 C.11.2.1, as the server computes them. */
function windowTable({ minimum, slope, intercept }, { center, width, function: kind = "linear" }, invert) {
  const table = new Uint32Array(65536);
  for (let i = 0; i < 65536; i++) {
    const value = (i + minimum) * slope + intercept;
    const part = kind === "sigmoid" ? 1 / (1 + Math.exp((-4 * (value - center)) / width))
      : kind === "linear-exact" ? (value - center) / width + 0.5
        : width > 1 ? (value - (center - 0.5)) / (width - 1) + 0.5 : (value > center - 0.5 ? 1 : 0);
    const grey = Math.round(255 * clamp(invert ? 1 - part : part, 0, 1));
    table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

/** Whether two scenes differ in the window alone, which a client with the values can change by itself. */
function differInWindow(a, b) {
  const without = ({ presentation: { window, invert, ...look } = {}, ...rest }) => ({ ...rest, look });
  return Boolean(b.presentation?.window) && !b.presentation.palette && equal(without(a), without(b));
}

// ---------------------------------------------------------------------------------------------------------- Connection

/**
 * One stream to a server. Reconnects by itself and restores every pane.
 *
 * Events: `state` (detail: "connecting" | "open" | "waiting" | "closed" | "refused"), `progress` and `job` (detail: the message),
 * `problem` (detail: the server's error message), `sent` (a batch of scenes left).
 *
 * With `share`, the token of a link, it is a guest: `pane.follow(share)` shows what was shared, `pane.set` moves a camera of its own.
 */
export class Connection extends EventTarget {
  #url; #token; #share; #socket = null; #panes = new Map(); #queries = new Map(); #nextQuery = 1;
  #resume = null; #attempt = 0; #timer = 0; #scheduled = false; #isReady = false; #heard = 0; #watch = 0;

  /** @param {string|URL} url of `/stream`; http and https become ws and wss. */
  constructor(url, { token = null, share = null, connect = true } = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#token = token;
    this.#share = share;
    /** "connecting", "open", "waiting" (for the next attempt), "closed" (by us) or "refused" (not tried again). */
    this.state = "connecting";
    /** `ready.limits` of the server. */
    this.limits = {};
    /** The server's `ready`: versions, device and what a minor version adds. */
    this.server = {};
    /** Totals of this page: parts and bytes received, parts discarded, reconnections. */
    this.totals = { parts: 0, bytes: 0, discarded: 0, reconnections: 0 };
    if (connect) this.#open();
    this.#watch = setInterval(() => this.#listen(), 5000);
    globalThis.addEventListener?.("online", () => { if (this.state === "waiting") this.reconnect(); });
  }

  /** The pane with this number (0…65535), drawing into `canvas`. */
  pane(number, canvas) {
    let pane = this.#panes.get(number);
    if (!pane) this.#panes.set(number, (pane = new Pane(this, number, canvas)));
    return pane;
  }

  get panes() { return [...this.#panes.values()]; }
  get isOpen() { return this.#isReady; }

  /** Asks for `value`, `roi` or `link`; resolves to the answer, rejects with the server's error or when the line breaks. */
  query(what, args = {}) {
    if (!this.#isReady) return Promise.reject(new Error("not connected"));
    if (this.#queries.size >= (this.limits.queries ?? 8)) return Promise.reject(new Error("too many queries in flight"));
    const id = this.#nextQuery++;
    return new Promise((resolve, reject) => {
      this.#queries.set(id, { resolve, reject });
      this.#send({ type: "query", id, what, ...args });
    });
  }

  /** Tries again now instead of waiting. */
  reconnect() {
    clearTimeout(this.#timer);
    if (this.#socket) { this.#socket.onclose = null; this.#socket.close(); this.#lost(); }
    this.#open();
  }

  /** Says goodbye. The connection does not come back. */
  close() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#resume = null;
    this.#setState("closed");
    const socket = this.#socket;
    this.#lost();
    socket?.close(1000);
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.#emit("state", state);
  }
  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #open() {
    this.#setState("connecting");
    const socket = new WebSocket(this.#url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      const hello = { type: "hello", formats: ["jpeg", "webp", "png", "values16"] };
      if (this.#share) hello.share = this.#share;
      if (this.#token) hello.token = this.#token;
      if (this.#resume) hello.resume = this.#resume;
      this.#send(hello);
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heard = performance.now();
      if (typeof data === "string") this.#receive(JSON.parse(data));
      else this.#receivePart(data);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.#socket) return;
      this.#lost();
      // 4401: the token is refused; 4409: another page has taken this session over. Trying again would not help.
      if (code === 4401 || code === 4409) return this.#setState("refused");
      if (code === 4400 || code === 4408) this.#resume = null;
      const delay = Math.min(15000, 250 * 2 ** this.#attempt++) * (0.75 + 0.5 * Math.random());
      this.#setState("waiting");
      this.#timer = setTimeout(() => this.#open(), delay);
    };
  }

  // A page does not see the server's pings: a line that has gone dead shows only when a question stays unanswered.
  #listen() {
    if (!this.#isReady) return;
    const silence = performance.now() - this.#heard;
    if (silence > 35000) this.reconnect();
    else if (silence > 15000 && this.#queries.size === 0) this.query("link").catch(() => {});
  }

  #lost() {
    this.#isReady = false;
    this.#socket = null;
    for (const { reject } of this.#queries.values()) reject(new Error("the connection was lost"));
    this.#queries.clear();
  }

  #send(message) { this.#socket?.send(JSON.stringify(message)); }

  #receive(message) {
    switch (message.type) {
      case "ready": {
        this.server = message;
        this.limits = message.limits ?? {};
        const known = this.#resume ? message.panes ?? {} : {};
        if (this.#resume) this.totals.reconnections++;
        this.#resume = message.resume ?? null;
        this.#attempt = 0;
        this.#isReady = true;
        for (const pane of this.#panes.values()) pane._restore(known[pane.number]);
        this.#setState("open");
        this._schedule();
        break;
      }
      case "progress": this.#emit("progress", message); break;
      case "job": this.#emit("job", message); break;
      case "scene": this.#panes.get(message.pane)?._told(message); break;
      case "answer": {
        const { type, id, result, ...members } = message;
        this.#settle(id, "resolve", result ?? members);
        break;
      }
      case "error": {
        const problem = Object.assign(new Error(message.message), message);
        if (message.id !== undefined && this.#settle(message.id, "reject", problem)) break;
        // A message was not heard, and nobody knows which: everything is said again.
        if (message.code === "limit" && message.id === undefined) {
          setTimeout(() => { for (const pane of this.#panes.values()) pane._restore(); this._schedule(); }, 1000 * (message.retry ?? 1));
        }
        const pane = this.#panes.get(message.pane);
        if (pane) pane._refused(message);
        this.#emit("problem", message);
        break;
      }
      default: break; // A minor version may add types.
    }
  }

  #settle(id, how, value) {
    const query = this.#queries.get(id);
    this.#queries.delete(id);
    query?.[how](value);
    return query !== undefined;
  }

  #receivePart(buffer) {
    const received = performance.now();
    const part = parseFramePart(buffer);
    if (!part) return;
    this.totals.parts++;
    this.totals.bytes += part.bytes;
    const socket = this.#socket;
    const acknowledge = (latency) => {
      if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) return; // Frames count per connection.
      const ack = { type: "ack", frame: part.frame, decode: round(performance.now() - received) };
      if (latency !== undefined) ack.latency = round(latency);
      socket.send(JSON.stringify(ack));
    };
    const pane = this.#panes.get(part.pane);
    if (pane) pane._receive(part, received, acknowledge);
    else acknowledge();
  }

  /** Sends what panes want in the next display frame. */
  _schedule() {
    if (this.#scheduled || !this.#isReady) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (!this.#isReady) return;
      if (this.#socket.bufferedAmount > MAXIMUM_BUFFERED) return this._schedule();
      // The pane under the hand goes first: equals take turns in the order they arrive.
      const waiting = [...this.#panes.values()].filter((p) => p._isDirty).sort((a, b) => b._touched - a._touched);
      for (const pane of waiting) this.#send(pane._message());
      if (waiting.length) this.#emit("sent", waiting.length);
    });
  }
}

const round = (ms) => Math.round(ms * 10) / 10;

// ---------------------------------------------------------------------------------------------------------------- Pane

/**
 * One picture on the page. Holds the scene that is wanted, sends it, and draws what comes.
 *
 * Events: `frame` (detail: the part that was drawn), `fidelity` (detail: pane.fidelity), `problem` (detail: the error), `scene`
 * (detail: the scene, after somebody else has changed it), `windowed` (the window was applied here, to values).
 */
export class Pane extends EventTarget {
  #connection; #context; #scene = null; #known = null; #size = null; #knownSize = null; #final = "exact"; #knownFinal = "exact"; #cine = null; #knownCine = null;
  #moving = false; #settle = 0; #inputTime; #inputs = []; #sizes = [];
  #shown = { revision: 0, pass: -1 }; #bands = null; #staging = null; #greenTimer = 0; #observer = null; #isClosed = false; #turn = Promise.resolve();
  #follow = null; #isShared = false; #wantsValues = false; #knownValues = false; #values = null; #valuesFrom = 0; #isLocal = false; #applies = false;

  constructor(connection, number, canvas) {
    super();
    this.#connection = connection;
    this.number = number;
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    /** The newest revision sent; rises for as long as the page lives. */
    this.revision = 0;
    this._isDirty = false;
    this._touched = 0;
    /**
     * What must be shown: `mark` is "amber" (lossy, better follows), "red" (lossy, and stays so), "green" (exact, just
     * now) or null; `notes` are "source-lossy" and "corrected".
     */
    this.fidelity = { mark: "amber", notes: [], bits: 0 };
    /** The last part drawn, without its payload. */
    this.last = null;
    /** Frames drawn and bytes received for this pane. */
    this.frames = 0;
    this.bytes = 0;
    /** Bytes of the picture shown: of all parts of its pass. */
    this.pictureBytes = 0;
  }

  /** The scene that is wanted, complete. Do not change it in place. */
  get scene() { return this.#scene; }
  /** The size wanted, in pixels of the device. */
  get size() { return this.#size; }
  /** The picture is complete, lossless and of the newest scene. */
  get isExact() {
    return !this._isDirty && !this.#applies && this.#bands?.isComplete === true && this.#bands.revision === this.revision && this.#bands.pass === Pass.exact
      && this.#shown.revision === this.revision && this.#shown.pass === Pass.exact && (this.last.fidelity & Fidelity.lossy) === 0;
  }
  get shownRevision() { return this.#shown.revision; }

  /** Replaces the scene; null closes the pane. */
  set(scene, options = {}) {
    if (scene !== null && this.#known !== null && equal(scene, this.#scene)) return; // nothing new, nothing moves
    this.#isClosed = scene === null;
    this.#scene = scene;
    if (scene === null) this.#follow = null;
    if (!this.#windowHere(options)) this.#want(options);
  }

  /**
   * Applies a merge patch to the scene (RFC 7396: null removes a member).
   * `moving`: true between pointer down and up; otherwise the scene counts as moving until it has settled.
   * `time`: of the input, on the clock of `performance.now()`; an event's `timeStamp`.
   */
  change(patch, options = {}) {
    this.set(merge(this.#scene ?? {}, patch), options);
  }

  /** The hand rests: the server completes the picture. */
  rest() {
    clearTimeout(this.#settle);
    if (!this.#moving && !this.#applies) return;
    this.#applies = false;
    this.#moving = false;
    this.#dirty();
  }

  /** Pixels of the device; follow the canvas by itself with `observe`. */
  resize(width, height) {
    if (!(width >= 1 && height >= 1)) return; // hidden: what is shown stays
    const limit = this.#connection.limits.size ?? [4096, 4096];
    const size = [clamp(Math.round(width), 1, limit[0]), clamp(Math.round(height), 1, limit[1])];
    if (equal(size, this.#size)) return;
    this.#size = size;
    this.dispatchEvent(new CustomEvent("resize", { detail: size }));
    if (this.#scene) this.#want({});
  }

  /** Follows the size of the canvas on the page, in pixels of the device. */
  observe() {
    if (this.#observer) return;
    this.#observer = new ResizeObserver(([entry]) => {
      const box = entry.devicePixelContentBoxSize?.[0];
      if (box) this.resize(box.inlineSize, box.blockSize);
      else this.resize(entry.contentRect.width * devicePixelRatio, entry.contentRect.height * devicePixelRatio);
    });
    try { this.#observer.observe(this.canvas, { box: "device-pixel-content-box" }); } catch { this.#observer.observe(this.canvas); }
  }

  /** "exact", or "full" for a metered line: the lossless pass is left out. */
  setFinal(final) { if (final !== this.#final) { this.#final = final; this.#dirty(); } }

  /** Lets the server play: `{ rate, along: "slice" | "phase" }`, or null to stop. */
  setCine(cine) { this.#cine = cine; this.#dirty(); }

  /**
   * Shows what another session's pane shows, by the token of its `query("share")`; with one for control, `set` and `change`
   * change it there. Followed scenes arrive as `scene` events.
   */
  follow(token) {
    this.#follow = token;
    this.#isShared = true;
    this.#known = null;
    this.#dirty();
  }
  get isFollowing() { return this.#follow !== null; }

  /**
   * Asks for the modality values behind a resting plane, so that its window can be changed here, without the line. They come
   * after the exact picture.
   */
  setValues(wanted) {
    if (wanted === this.#wantsValues) return;
    this.#wantsValues = wanted;
    if (!wanted) this.#values = null;
    this.#dirty();
  }
  /** The values of the present view are here. */
  get hasValues() { return this.#values?.isComplete === true; }

  /** Modality value with unit at points in patient space (mm). */
  values(points) { return this.#connection.query("value", { pane: this.number, at: points }); }

  /** The pixels on the canvas: Uint8ClampedArray of RGBA rows. */
  pixels() { return this.#context.getImageData(0, 0, this.canvas.width, this.canvas.height); }

  #want({ moving, time = performance.now() }) {
    clearTimeout(this.#settle);
    this.#moving = true;
    if (moving !== true) this.#settle = setTimeout(() => this.rest(), SETTLE);
    this.#inputTime = time;
    this._touched = time;
    this.#dirty();
  }

  #dirty() {
    this._isDirty = this.#size !== null && (this.#scene !== null || this.#isClosed || this.#follow !== null);
    if (this._isDirty) this.#connection._schedule();
    this.#judge();
  }

  /** Applies a new window to the values at hand and draws; false when this is not possible, or not all that changed. */
  #windowHere({ time }) {
    const values = this.#values;
    if (!values?.isComplete || this.#scene === null || !equal(values.size, this.#size) || !differInWindow(values.scene, this.#scene)) return false;
    const table = windowTable(values, this.#scene.presentation.window, this.#scene.presentation.invert === true);
    const image = new ImageData(values.width, values.height), out = new Uint32Array(image.data.buffer), { samples } = values;
    for (let i = 0; i < samples.length; i++) out[i] = table[samples[i]];
    this.#fit(values.width, values.height);
    this.#context.putImageData(image, 0, 0);
    this.#isLocal = this.#applies = true;
    this._touched = time ?? performance.now();
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.rest(), SETTLE);
    this.#judge();
    this.dispatchEvent(new CustomEvent("windowed"));
    return true;
  }

  /** The message that brings the server up to date. */
  _message() {
    this.revision++;
    const message = { type: "scene", pane: this.number, revision: this.revision, moving: this.#moving };
    const isFirst = this.#known === null;
    if (isFirst || !this.#wantsValues || !this.#knownValues || !equal(this.#size, this.#knownSize)) this.#valuesFrom = this.revision;
    else this.#keepValues(this.#known, this.#scene);
    if (this.#scene === null && this.#follow === null) { message.scene = null; this.#isClosed = false; }
    else if (this.#follow !== null && isFirst) {
      Object.assign(message, { follow: this.#follow, size: this.#size });
      delete message.moving;
    } else {
      const patch = isFirst ? this.#scene : difference(this.#known, this.#scene);
      if (patch !== undefined) message.scene = patch;
      // Somebody else changes this pane too: what the server holds is not known for sure.
      if (isFirst || (this.#isShared && this.#follow === null)) { message.scene = this.#scene; message.complete = true; }
      if (this.#wantsValues || this.#knownValues) message.values = this.#wantsValues;
      if (isFirst || !equal(this.#size, this.#knownSize)) message.size = this.#size;
      if (isFirst ? this.#final !== "exact" : this.#final !== this.#knownFinal) message.final = this.#final;
      if (this.#cine || this.#knownCine) message.cine = this.#cine;
    }
    this.#known = this.#scene;
    this.#knownSize = this.#size;
    this.#knownCine = this.#cine;
    this.#knownValues = this.#wantsValues;
    this.#knownFinal = this.#final;
    this._isDirty = false;
    this.#sizes.push([this.revision, this.#size]);
    if (this.#sizes.length > 512) this.#sizes.shift();
    if (this.#inputTime !== undefined) this.#inputs.push([this.revision, this.#inputTime]);
    if (this.#inputs.length > 512) this.#inputs.shift();
    this.#inputTime = undefined;
    this.#judge();
    return message;
  }

  /** Values have no window: on their way or here, they stay good when that alone changes, and the server does not send them again. */
  #keepValues(before, after) {
    if (before === null || after === null || !(equal(before, after) || differInWindow(before, after))) this.#valuesFrom = this.revision;
  }

  /** After (re)connecting: `revision` is what the server still knows of this pane, if anything. */
  _restore(revision) {
    if (revision !== undefined && revision === this.revision && this.#shown.revision === revision && this.isExact) return;
    // Whatever was in flight is lost; a complete scene with a new revision is always right.
    this.#known = null;
    this.#knownCine = null;
    this._isDirty = this.#size !== null && (this.#scene !== null || this.#follow !== null);
    this.#judge();
  }

  /** Somebody else has changed what this pane shows. */
  _told({ revision, scene }) {
    this.revision = Math.max(this.revision, revision);
    if (!this.#isShared) this.#isShared = true;
    if (this._isDirty && this.#known !== null) return; // the own hand is newer, and speaks next
    this.#keepValues(this.#known, scene);
    this.#scene = this.#known = scene;
    if (!this.#knownSize) this.#knownSize = this.#size;
    this.#judge();
    this.dispatchEvent(new CustomEvent("scene", { detail: scene }));
  }

  _refused(message) {
    this.#known = null; // a refused patch was not applied: the next message is complete
    this.dispatchEvent(new CustomEvent("problem", { detail: message }));
  }

  /** Decodes at once and draws in the order of arrival: later parts refer to what earlier ones have drawn. */
  _receive(part, received, acknowledge) {
    this.bytes += part.bytes;
    if (part.format === Format.values16) return this.#receiveValues(part, acknowledge);
    if (this.#isShared) this.revision = Math.max(this.revision, part.revision); // the server numbers what others change
    const decoding = part.payload && !this.#isOld(part)
      ? createImageBitmap(new Blob([part.payload], { type: MIME[part.format] }), { colorSpaceConversion: "none" })
      : Promise.resolve(null);
    decoding.catch(() => {}); // told below, in its turn
    this.#turn = this.#turn.then(async () => {
      let image = null;
      try {
        image = await decoding;
      } catch (error) {
        this.dispatchEvent(new CustomEvent("problem", { detail: { code: "undecodable", message: `A picture could not be decoded (${error.message}).` } }));
        return acknowledge();
      }
      // A picture windowed here has every pixel; only the exact one is better.
      const isWorse = this.#isLocal && part.pass < Pass.exact && differInWindow(this.#values?.scene ?? {}, this.#scene ?? {});
      if (isWorse) this.#shown.revision = Math.max(this.#shown.revision, Math.min(part.revision, this.revision));
      if (isWorse || this.#isOld(part) || (part.format !== Format.unchanged && !image)) {
        this.#connection.totals.discarded++;
        acknowledge();
      } else {
        if (!image) this.#relabel(part);
        else if (part.pass === Pass.moving) this.#drawWhole(part, image);
        else this.#drawBand(part, image);
        this.#drawn(part, received, acknowledge);
      }
      image?.close();
    });
  }

  #receiveValues(part, acknowledge) {
    const scene = this.#known ?? this.#scene, decoding = decodeValues16(part.payload);
    decoding.catch(() => {});
    this.#turn = this.#turn.then(async () => {
      try {
        const band = await decoding;
        if (part.revision >= this.#valuesFrom && this.#wantsValues) {
          if (part.y === 0) this.#values = { revision: part.revision, size: this.#size, scene, bands: [], rows: 0, isComplete: false };
          const values = this.#values;
          if (values?.revision === part.revision && part.y === values.rows) {
            values.bands.push(band);
            values.rows += band.height;
            if (part.isLast) this.#assemble(values);
          }
        }
      } catch { this.#values = null; } // the server's own windowing remains
      acknowledge();
    });
  }

  // Bands have minima of their own.
  #assemble(values) {
    const [width, height] = values.size, minimum = Math.min(...values.bands.map((b) => b.minimum));
    const samples = new Uint16Array(width * height);
    let at = 0;
    for (const band of values.bands) {
      const shift = band.minimum - minimum;
      for (let i = 0; i < band.samples.length; i++) samples[at + i] = band.samples[i] + shift;
      at += band.samples.length;
    }
    const { slope, intercept } = values.bands[0];
    Object.assign(values, { width, height, minimum, slope, intercept, samples, bands: null, isComplete: at === samples.length });
    this.dispatchEvent(new CustomEvent("values"));
  }

  // Format 0: the picture on the canvas is also that of this revision.
  #relabel({ revision }) {
    if (this.#bands?.revision === this.#shown.revision) this.#bands.revision = revision;
    this.#shown.revision = revision;
  }

  #isOld({ revision, pass }) {
    return revision < this.#shown.revision || (revision === this.#shown.revision && pass < this.#shown.pass)
      || (pass > Pass.moving && this.#bands !== null && revision < this.#bands.revision);
  }

  #sizeOf(revision) {
    for (let i = this.#sizes.length - 1; i >= 0; i--) if (this.#sizes[i][0] <= revision) return this.#sizes[i][1];
    return this.#size;
  }

  #fit(width, height) {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
  }

  #drawWhole(part, image) {
    const width = part.x + part.width, height = part.y + part.height;
    this.#fit(width, height);
    const context = this.#context;
    context.imageSmoothingEnabled = image.width !== part.width || image.height !== part.height;
    context.imageSmoothingQuality = "low"; // bilinear
    context.drawImage(image, part.x, part.y, part.width, part.height);
    this.#bands = this.#staging = null;
    this.#shown = { revision: part.revision, pass: part.pass };
  }

  #drawBand(part, image) {
    let bands = this.#bands;
    // The band at the top begins the pass, also once more: slices have been loaded since.
    if (bands?.revision !== part.revision || bands.pass !== part.pass || part.y === 0) {
      const [width, height] = part.isLast && part.y === 0 ? [part.width, part.height] : this.#sizeOf(part.revision);
      bands = this.#bands = { revision: part.revision, pass: part.pass, painted: 0, width, height, isComplete: false };
      // Without a picture of this revision below them, bands wait aside until they are complete: revisions never mix.
      this.#staging = this.#shown.revision === part.revision ? null : new OffscreenCanvas(width, height);
      if (!this.#staging) this.#fit(width, height);
    }
    const context = this.#staging?.getContext("2d", { alpha: false }) ?? this.#context;
    context.imageSmoothingEnabled = false;
    context.drawImage(image, part.x, part.y);
    bands.painted += part.width * part.height;
    bands.isComplete = bands.painted >= bands.width * bands.height;
    if (this.#staging && bands.isComplete) {
      this.#fit(bands.width, bands.height);
      this.#context.drawImage(this.#staging, 0, 0);
      this.#staging = null;
    }
    if (!this.#staging) this.#shown = { revision: part.revision, pass: part.pass };
  }

  #drawn(part, received, acknowledge) {
    let latency;
    while (this.#inputs.length && this.#inputs[0][0] <= part.revision) {
      const [revision, time] = this.#inputs.shift();
      if (revision === part.revision) latency = performance.now() - time;
    }
    acknowledge(latency);
    if (part.pass === Pass.exact || !this.#applies) this.#isLocal = false;
    this.frames++;
    const { payload: _, ...described } = part;
    const continues = this.last?.revision === part.revision && this.last.pass === part.pass;
    this.pictureBytes = part.bytes + (continues ? this.pictureBytes : 0);
    const at = performance.now();
    this.last = { ...described, latency: latency ?? this.last?.latency, decoding: at - received, at };
    this.#judge();
    this.dispatchEvent(new CustomEvent("frame", { detail: this.last }));
  }

  /** What the picture on the canvas lacks of the scene that is wanted. */
  #judge() {
    const bits = this.last?.fidelity ?? 0;
    const isComplete = this.isExact;
    const promised = this.last === null || (bits & Fidelity.betterFollows) !== 0 || this.#shown.revision !== this.revision
      || this._isDirty || this.#applies || (this.#bands?.revision === this.revision && !this.#bands.isComplete);
    let mark = isComplete ? null : promised ? "amber" : "red";
    const before = this.fidelity.mark;
    if (isComplete && (before === "amber" || before === "red")) {
      mark = "green";
      clearTimeout(this.#greenTimer);
      this.#greenTimer = setTimeout(() => this.#setFidelity({ ...this.fidelity, mark: null }), 1000);
    } else if (isComplete && before === "green") {
      mark = "green";
    } else if (!isComplete) {
      clearTimeout(this.#greenTimer);
    }
    const notes = [];
    if (bits & Fidelity.sourceLossy) notes.push("source-lossy");
    if (bits & Fidelity.correctedOrInDoubt) notes.push("corrected");
    if (this.#isLocal && !isComplete) notes.push("windowed-locally");
    this.#setFidelity({ mark, notes, bits });
  }

  #setFidelity(fidelity) {
    if (equal(fidelity, this.fidelity)) return;
    this.fidelity = fidelity;
    this.dispatchEvent(new CustomEvent("fidelity", { detail: fidelity }));
  }
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
