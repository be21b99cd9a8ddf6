/** Types of tomos.js, the stream client of Tomos. Documentation/StreamProtocol.md says what goes over the line. */

export declare const SUBPROTOCOL: "tomos.stream.v1";

/** A position or direction in patient space: DICOM LPS, mm. */
export type Vector3 = [number, number, number];

export interface Scene {
  volume: { series: string; index?: number; time?: number };
  view: View;
  presentation?: Presentation;
  layers?: object[];
  segments?: object[];
  crop?: object;
  annotation?: object;
}
/** Exactly one of the four. */
export interface View {
  /** `origin` is the centre of the top-left pixel; `spacing` is mm per pixel. */
  plane?: { origin: Vector3; right: Vector3; down: Vector3; spacing: number };
  /** `height` is what the picture's height covers at the target, in mm. */
  camera?: { position: Vector3; target: Vector3; up: Vector3; height: number; projection?: "orthographic" | "perspective" };
  curve?: { points: Vector3[]; mode?: "straightened" | "stretched"; across: Vector3; spacing: number; rotation?: number };
  slice?: { index: number; zoom?: number; center?: [number, number]; rotation?: number; flip?: boolean };
}
export interface Presentation {
  fold?: "mean" | "maximum" | "minimum" | "composite" | "isosurface";
  /** mm; 0 is one sample. */
  slab?: number;
  interpolation?: "nearest" | "linear" | "cubic";
  window?: { center: number; width: number; function?: "linear" | "linear-exact" | "sigmoid" };
  invert?: boolean;
  palette?: string;
  preset?: string;
  [member: string]: unknown;
}
/** RFC 7396: as the type, with null to remove a member. */
export type Patch<T> = T extends unknown[] ? T : T extends object ? { [K in keyof T]?: Patch<T[K]> | null } : T;

export declare const Fidelity: Readonly<{
  lossyCoding: 1; fewerPixels: 2; coarserSampling: 4; volumeIncomplete: 8;
  sourceLossy: 16; correctedOrInDoubt: 32; betterFollows: 128;
  /** Bits 0–3: while any is set the picture is marked LOSSY. */
  lossy: 15;
}>;

export interface FramePart {
  pane: number; frame: number; revision: number;
  /** 0 moving, 1 full, 2 exact. */
  pass: number;
  /** 0 unchanged, 1 JPEG, 2 WebP, 3 PNG, 4 values16. */
  format: number;
  fidelity: number; isLast: boolean;
  x: number; y: number; width: number; height: number;
  /** ms on the server. */
  waiting: number; rendering: number; encoding: number;
  cine: number; bytes: number;
}
export interface DrawnPart extends FramePart {
  /** ms from the newest input in the picture to the canvas. */
  latency?: number;
  /** ms from receipt to the canvas. */
  decoding: number;
  /** performance.now() when it was drawn. */
  at: number;
}
export interface PaneFidelity { mark: "amber" | "red" | "green" | null; notes: ("source-lossy" | "corrected" | "windowed-locally")[]; bits: number }
export interface ServerProblem { code: string; message: string; pane?: number; revision?: number; id?: number; retry?: number }

/** null for a kind of message this version does not know; throws RangeError when it is cut short. */
export declare function parseFramePart(buffer: ArrayBuffer): (FramePart & { payload: Uint8Array | null }) | null;
/** One band of `values16`; a modality value is (sample + minimum) × slope + intercept. */
export declare function decodeValues16(payload: Uint8Array): Promise<{ minimum: number; slope: number; intercept: number; width: number; height: number; samples: Uint16Array }>;
export declare function merge<T>(target: T, patch: Patch<T>): T;
export declare function difference<T>(from: T, to: T): Patch<T> | undefined;
export declare function equal(a: unknown, b: unknown): boolean;

export interface ChangeOptions {
  /** The hand holds on: `rest()` follows. Without it the scene settles by itself. */
  moving?: boolean;
  /** When the input happened, on the clock of performance.now(). */
  time?: number;
}

export declare class Connection extends EventTarget {
  constructor(url: string | URL, options?: { token?: string | null; share?: string | null; connect?: boolean });
  readonly state: "connecting" | "open" | "waiting" | "closed" | "refused";
  readonly isOpen: boolean;
  readonly limits: { panes?: number; size?: [number, number]; queries?: number; [name: string]: unknown };
  /** The server's last `ready`. */
  readonly server: { device?: string; grace?: number; [name: string]: unknown };
  readonly totals: { parts: number; bytes: number; discarded: number; reconnections: number };
  readonly panes: Pane[];
  pane(number: number, canvas: HTMLCanvasElement): Pane;
  query(what: "value" | "length" | "angle" | "area" | "profile" | "roi" | "segments" | "link" | "share", args?: object): Promise<any>;
  reconnect(): void;
  close(): void;
  addEventListener(type: "state", listener: (event: CustomEvent<Connection["state"]>) => void): void;
  addEventListener(type: "progress", listener: (event: CustomEvent<{ series: string; loaded: number; total: number; state: string }>) => void): void;
  addEventListener(type: "problem", listener: (event: CustomEvent<ServerProblem>) => void): void;
}

export declare class Pane extends EventTarget {
  readonly number: number;
  readonly canvas: HTMLCanvasElement;
  readonly scene: Scene | null;
  readonly size: [number, number] | null;
  readonly revision: number;
  readonly shownRevision: number;
  /** Complete, lossless and of the newest scene. */
  readonly isExact: boolean;
  readonly fidelity: PaneFidelity;
  readonly last: DrawnPart | null;
  readonly frames: number;
  readonly bytes: number;
  /** Of all parts of the picture shown. */
  readonly pictureBytes: number;
  set(scene: Scene | null, options?: ChangeOptions): void;
  change(patch: Patch<Scene>, options?: ChangeOptions): void;
  rest(): void;
  resize(width: number, height: number): void;
  observe(): void;
  setFinal(final: "exact" | "full"): void;
  setCine(cine: { rate: number; along: "slice" | "phase" } | null): void;
  values(points: Vector3[]): Promise<any>;
  /** Shows another session's pane by the token of its `query("share", { pane, control? })`. */
  follow(token: string): void;
  readonly isFollowing: boolean;
  /** Asks for modality values, so that a new window is applied here. */
  setValues(wanted: boolean): void;
  readonly hasValues: boolean;
  pixels(): ImageData;
  addEventListener(type: "frame", listener: (event: CustomEvent<DrawnPart>) => void): void;
  addEventListener(type: "scene", listener: (event: CustomEvent<Scene>) => void): void;
  addEventListener(type: "windowed" | "values", listener: (event: Event) => void): void;
  addEventListener(type: "fidelity", listener: (event: CustomEvent<PaneFidelity>) => void): void;
  addEventListener(type: "resize", listener: (event: CustomEvent<[number, number]>) => void): void;
  addEventListener(type: "problem", listener: (event: CustomEvent<ServerProblem>) => void): void;
}
