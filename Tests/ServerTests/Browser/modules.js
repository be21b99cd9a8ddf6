// Evaluated in the page by page.py; the value is the list of sentences that do not hold.
(async () => {
  const { equal, merge, difference, parseFramePart } = await import("/tomos.js");
  const views = await import("/views.js");
  const failures = [];
  const check = (condition, sentence) => { if (!condition) failures.push(sentence); };
  const close = (a, b, tolerance = 1e-9) => a.length === b.length && a.every((v, i) => Math.abs(v - b[i]) <= tolerance);

  // Merge patches: RFC 7396, appendix A, and that a difference leads from one scene to the other.
  for (const [target, patch, result] of [
    [{ a: "b" }, { a: "c" }, { a: "c" }], [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }], [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }], [{ a: ["b"] }, { a: "c" }, { a: "c" }], [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }], [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [{ a: "foo" }, "bar", "bar"], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ]) check(equal(merge(target, patch), result), `merge ${JSON.stringify(target)} with ${JSON.stringify(patch)}`);
  let seed = 1;
  const random = (n) => { seed = (seed * 48271) % 2147483647; return seed % n; };
  const value = (depth) => (depth && random(2) ? Object.fromEntries([..."abcd"].filter(() => random(2)).map((k) => [k, value(depth - 1)])) : random(3) ? random(5) : [random(2), random(2)]);
  for (let i = 0; i < 500; i++) {
    const from = { r: value(3) }, to = { r: value(3) }, patch = difference(from, to);
    check(equal(merge(from, patch ?? {}), to), `difference ${JSON.stringify(from)} → ${JSON.stringify(to)}`);
    check((patch === undefined) === equal(from, to), "no patch exactly when nothing differs");
  }

  // The header: little-endian, longer headers skipped, short ones refused, unknown kinds left.
  const header = new DataView(new ArrayBuffer(40));
  [[0, 1], [1, 36], [12, 2], [13, 3], [14, 0x91], [15, 1]].forEach(([at, v]) => header.setUint8(at, v));
  [[2, 513], [16, 1], [18, 2], [20, 300], [22, 400], [24, 15], [26, 25], [28, 35], [30, 7]].forEach(([at, v]) => header.setUint16(at, v, true));
  header.setUint32(4, 70000, true); header.setUint32(8, 80000, true);
  const part = parseFramePart(header.buffer);
  check(part.pane === 513 && part.frame === 70000 && part.revision === 80000 && part.pass === 2 && part.format === 3 && part.fidelity === 0x91 && part.isLast, "the header's first half");
  check(part.x === 1 && part.y === 2 && part.width === 300 && part.height === 400 && part.waiting === 1.5 && part.rendering === 2.5 && part.encoding === 3.5 && part.cine === 7, "the header's second half");
  check(part.payload.length === 4, "the payload begins where the header says");
  check(parseFramePart(new Uint8Array([2, 32, 0]).buffer) === null, "an unknown kind is left");
  for (const bytes of [[], [1], [1, 31, ...Array(40).fill(0)], [1, 64, ...Array(40).fill(0)]]) {
    try { parseFramePart(new Uint8Array(bytes).buffer); failures.push(`a short header is refused: ${bytes.length} bytes`); } catch (error) { check(error instanceof RangeError, String(error)); }
  }

  // The type declarations name what the module has: every export, every member, and nothing else. Members with an underscore are ours.
  const module = await import("/tomos.js"), declared = await (await fetch("/tomos.d.ts")).text();
  const exported = [...declared.matchAll(/^export declare (?:const|function|class) (\w+)/gm)].map((m) => m[1]);
  check(exported.length > 8 && equal(exported.toSorted(), Object.keys(module).toSorted()), `tomos.d.ts declares ${exported}, the module has ${Object.keys(module)}`);
  const connection = new module.Connection("/stream", { connect: false });
  for (const object of [connection, connection.pane(1, document.createElement("canvas"))]) {
    const name = object.constructor.name, body = declared.match(new RegExp(`^export declare class ${name} extends EventTarget \\{\n([^]*?)^\\}`, "m"))[1];
    const listed = [...body.matchAll(/^  (?:readonly )?(\w+)[(:]/gm)].map((m) => m[1]).filter((n) => !["addEventListener", "constructor"].includes(n));
    const has = [...Object.getOwnPropertyNames(object.constructor.prototype), ...Object.getOwnPropertyNames(object)].filter((n) => !n.startsWith("_") && n !== "constructor");
    check(listed.length > 5 && equal([...new Set(listed)].toSorted(), has.toSorted()), `${name}: tomos.d.ts declares ${listed}, the class has ${has}`);
    for (const [, readonly, member] of body.matchAll(/^  (readonly )?(\w+):/gm)) {
      const getter = Object.getOwnPropertyDescriptor(object.constructor.prototype, member);
      check(readonly && !getter?.set, `${name}.${member} is declared ${readonly ?? "writable"}`);
    }
  }
  connection.close();

  // Geometry.
  const { Grid, PlaneView, CameraView, letters } = views;
  const grid = new Grid({ columns: 100, rows: 80, slices: 60, spacing: [0.7, 0.8, 2], origin: [-30, -40, 10], axes: [[1, 0, 0], [0, 1, 0], [0, 0, 1]] });
  const expected = { axial: ["L", "P", "R", "A"], coronal: ["L", "F", "R", "H"], sagittal: ["P", "F", "A", "H"] };
  for (const [name, [right, down, left, up]] of Object.entries(expected)) {
    const view = new PlaneView(grid, name);
    view.size = [300, 200];
    check(letters(view.right) === right && letters(view.down) === down && letters(view.right.map((v) => -v)) === left && letters(view.down.map((v) => -v)) === up, `${name}: letters`);
    for (const point of [[0, 0, 60], [-12.5, 7, 41]]) {
      view.through(point);
      check(close(view.position(view.pixel(point)), point), `${name}: a point on the plane returns from its pixel`);
    }
    const { origin, right: r, down: d, spacing } = view.view.plane, [w, h] = view.size;
    check(close(view.position([0, 0]), origin, 1e-8), `${name}: the origin is the centre of the top-left pixel`);
    check(close(view.position([w - 1, h - 1]), origin.map((v, i) => v + r[i] * spacing * (w - 1) + d[i] * spacing * (h - 1)), 1e-6), `${name}: the last pixel`);
    const fixed = view.position([40, 150]);
    view.zoomBy(3, [40, 150]);
    check(close(view.position([40, 150]), fixed), `${name}: zooming keeps the point under the pointer`);
    const pivot = [3, 4, 50];
    view.through(pivot);
    const before = view.pixel(pivot);
    view.turn(view.right, 0.4, pivot);
    check(close(view.pixel(pivot), before, 1e-6), `${name}: turning keeps the cross-hair`);
    check(Math.abs(views.dot(view.right, view.down)) < 1e-12 && Math.abs(views.length(view.right) - 1) < 1e-12, `${name}: directions stay at right angles and of length 1`);
    view.pan([10, -5]);
    check(close(view.pixel(pivot), [before[0] + 10, before[1] - 5], 1e-6), `${name}: panning moves the picture with the hand`);
  }
  const camera = new CameraView(grid);
  check(letters(camera.right) === "L" && letters(camera.up) === "H" && letters(camera.forward) === "P", "the camera looks from the front");
  camera.rotate(Math.PI / 2, 0);
  check(close(camera.up, [0, 0, 1]) && close(camera.forward.map(Math.abs), [1, 0, 0]), "a quarter turn looks from the side");
  check(close(camera.forward, [-1, 0, 0]) || close(camera.forward, [1, 0, 0]), "upright after a quarter turn");
  for (let i = 0; i < 1000; i++) camera.rotate(0.01 * random(9), 0.013 * random(7));
  check(Math.abs(views.dot(camera.right, camera.up)) < 1e-9 && Math.abs(views.length(camera.forward) - 1) < 1e-9, "a thousand turns leave the camera rigid");

  // A sagittal acquisition: its slices are the sagittal plane, the words follow.
  const sagittal = new Grid({ columns: 64, rows: 64, slices: 20, spacing: [1, 1, 4], origin: [0, 0, 0], axes: [[0.1, 0.99, 0.0995], [0, 0.1, -0.995], [-0.995, 0.0995, 0.01]].map(views.unit) });
  check(sagittal.step([1, 0, 0]) === 4, "the step across sagittal slices is their distance");
  const tilted = new Grid({ columns: 64, rows: 64, slices: 20, spacing: [1, 1, 4], origin: [0, 0, 0], axes: [[1, 0, 0], [0, 0.95, -0.3122], [0, 0, 1]] });
  check(close(tilted.frame.flat(), [1, 0, 0, 0, 1, 0, 0, 0, 1]), "a tilted gantry is shown in the patient's planes");
  const turned = new Grid({ columns: 64, rows: 64, slices: 20, spacing: [1, 1, 4], origin: [0, 0, 0], axes: [[0, 1, 0], [0, 0, -1], [-1, 0, 0]] });
  check(close(turned.frame.flat(), [1, 0, 0, 0, 1, 0, 0, 0, 1]), "sagittal slices have the patient's frame");
  check(views.roundLength(137) === 100 && views.roundLength(99) === 50 && views.roundLength(4.9) === 2 && views.roundLength(0.34) === 0.2, "round lengths");
  return failures;
})()
