// Denoising of what is on the screen, comparison with what it was made from, and reconstruction of scans that lie on the server. The server
// computes the slice under the eye first; its result is a series like any other, so all that changes is the name of the volume in the scene.

const isAtWork = (job) => job.state === "queued" || job.state === "running";

async function post(body) {
  const response = await fetch("/api/jobs", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message ?? `the server answered ${response.status}`);
  return Object.assign(answer, { isOurs: response.status === 202 });
}

const cancel = (job) => fetch(`/api/jobs/${job.id}`, { method: "DELETE" }).catch(() => {});

/** Calls `news` whenever something is heard of a job, and resolves when it has ended. The stream tells; where it is away, we ask. */
export function follow(connection, job, news) {
  return new Promise((resolve) => {
    let timer = 0, isOver = false;
    const hear = (known) => {
      if (isOver || known.id !== job.id) return;
      Object.assign(job, known);
      isOver = !isAtWork(job);
      news(job);
      if (!isOver) return;
      clearTimeout(timer);
      connection.removeEventListener("job", listener);
      resolve(job);
    };
    const listener = ({ detail }) => hear(detail);
    const ask = async () => {
      try {
        const response = await fetch(`/api/jobs/${job.id}`);
        if (response.ok) hear(await response.json());
      } catch { /* asked again below */ }
      if (!isOver) timer = setTimeout(ask, 3000);
    };
    connection.addEventListener("job", listener);
    ask();
  });
}

/** The switch "denoise" and the layout "compare" of a page. `host` gives access to the page's state. */
export class LowDose {
  #host;
  #job = null;
  #ended = null;
  #wished = -1;
  constructor(host) { this.#host = host; }

  /** Series shown instead of the study's own; null when the switch is off. */
  result = null;
  difference = null;
  isComparing = false;
  /** 1 removes noise as far as structure stays. */
  strength = 1;

  get isOn() { return this.result !== null; }
  /** The work behind what is shown. */
  get job() { return this.#job; }

  /** Series of one pane: "before", "after" and "difference" in a comparison, else what the switch says. */
  sourceOf(pane) {
    if (this.isComparing) return { after: this.result, difference: this.difference }[pane.name] ?? null;
    return this.result;
  }

  /** Window of one pane: a difference is small and around zero. */
  windowOf(pane) { return this.isComparing && pane.name === "difference" ? { center: 0, width: 200 } : null; }

  /** Whether progress messages of this series concern the page. */
  concerns(series) { return series === this.result; }

  /** Turns the switch on or off; the pictures follow at once, slice by slice. */
  async toggle() {
    if (this.isOn) {
      const wasComparing = this.isComparing;
      this.reset();
      if (wasComparing) this.#host.layOut(null); else this.#host.changed();
    } else await this.#start();
  }

  /** Another strength while the switch is on begins anew. */
  async change(strength) {
    this.strength = strength;
    if (!this.isOn) return;
    const wasComparing = this.isComparing;
    this.reset();
    if (wasComparing) this.#host.layOut(null);
    await this.#start();
  }

  async #start() {
    const { study } = this.#host;
    // The network knows CT; what else there is goes to the method that knows nothing but the data.
    const method = study.series.modality === "CT" ? "combined" : "nlm";
    const job = await post({ kind: "denoise", series: study.series.seriesInstanceUID, volume: study.volume.index, slice: this.#slice(), method, strength: this.strength });
    if (this.#host.study !== study || this.isOn) { // another series was opened meanwhile
      if (job.isOurs) cancel(job);
      return;
    }
    this.#job = job;
    this.result = job.result;
    this.#wished = this.#slice();
    this.#host.changed();
    this.#ended = follow(this.#host.connection, job, () => { if (this.#job === job) this.#host.told(job); });
  }

  reset() {
    // What nobody looks at any more makes room for what somebody does.
    if (this.#job?.isOurs && isAtWork(this.#job)) cancel(this.#job);
    this.result = null;
    this.difference = null;
    this.isComparing = false;
    this.#job = null;
  }

  /** Slice of the volume at the cross-hair. */
  #slice() {
    const { point, study: { volume } } = this.#host, { origin, axes, spacing, slices } = volume;
    const along = axes[2].reduce((sum, a, i) => sum + a * (point[i] - origin[i]), 0);
    return Math.min(Math.max(Math.round(along / spacing[2]), 0), slices - 1);
  }

  /** The eye moved: what is there now comes next. */
  moved() {
    if (!this.#job || !isAtWork(this.#job)) return;
    const slice = this.#slice();
    if (Math.abs(slice - this.#wished) < 3) return;
    this.#wished = slice;
    fetch(`/api/jobs/${this.#job.id}`, { method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ slice }) }).catch(() => {});
  }

  /** Before, after and difference side by side, with one view for all. */
  async compare() {
    if (this.isComparing) { this.isComparing = false; this.#host.layOut(null); return; }
    if (!this.isOn) await this.#start();
    const { study } = this.#host, job = await this.#ended;
    if (!job || this.#job !== job) return; // switched off meanwhile
    if (job.state !== "done") throw new Error(job.message ?? "the work was not finished");
    const made = await post({ kind: "difference", series: this.result, minus: study.series.seriesInstanceUID, volume: study.volume.index });
    if (this.#host.study !== study || this.#job !== job) return;
    this.difference = made.result;
    this.isComparing = true;
    this.#host.layOut([["before", "Before"], ["after", "Denoised"], ["difference", "Difference"]]);
  }
}

/** The scans in the server's folder of projections, as a section of the list: a click reconstructs one, another stops it. */
export class Scans {
  #host;
  #jobs = new Map();
  /** Writes how a scan's job stands into the button that the list has now. */
  #show = new Map();
  constructor(host) { this.#host = host; }

  async section() {
    let names = [];
    try {
      const response = await fetch("/api/projections");
      if (response.ok) names = (await response.json()).projections;
    } catch { /* the list does without */ }
    const { element } = this.#host;
    return names.length ? [element("section", { class: "study" }, element("h2", { text: "Projections" }), ...names.map((name) => this.#button(name)))] : [];
  }

  #button(name) {
    const { element } = this.#host, detail = element("span", { class: "detail" });
    const show = () => {
      const job = this.#jobs.get(name);
      detail.textContent = job && isAtWork(job) ? `Reconstructing … ${Math.round(100 * job.fraction)} % · click to stop` : "Click to reconstruct";
    };
    this.#show.set(name, show);
    show();
    return element("button", { class: "series", "data-scan": name, title: name, onclick: async () => {
      const running = this.#jobs.get(name);
      if (running && isAtWork(running)) { cancel(running); return; }
      try {
        const job = await post({ kind: "reconstruct", input: name });
        this.#jobs.set(name, job);
        this.#show.get(name)();
        await follow(this.#host.connection, job, () => this.#show.get(name)());
        if (job.state === "done") this.#host.done(job.result);
        else if (job.state === "failed") throw new Error(job.message);
      } catch (error) { this.#host.tell(error); }
    } }, element("span", { class: "modality", text: "RAW" }), element("span", { class: "name", text: name }), detail);
  }
}
