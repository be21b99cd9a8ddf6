// Denoising of what is on the screen, and comparison with what it was made from. The server computes the slice under the eye first; its
// result is a series like any other, so all that changes here is the name of the volume in the scene.

const METHODS = { method: "nlm", strength: 1 };

/** The switch "denoise" and the layout "compare" of a page. `host` gives access to the page's state. */
export class LowDose {
  #host;
  #job = null;
  #timer = 0;
  #wished = -1;
  constructor(host) { this.#host = host; }

  /** Series shown instead of the study's own; null when the switch is off. */
  result = null;
  isComparing = false;

  get isOn() { return this.result !== null; }

  /** Series of one pane: "before", "after" and "difference" in a comparison, else what the switch says. */
  sourceOf(pane) {
    if (this.isComparing) return { after: this.result, difference: this.difference }[pane.name] ?? null;
    return this.result;
  }

  /** Window of one pane: a difference is small and around zero. */
  windowOf(pane) { return this.isComparing && pane.name === "difference" ? { center: 0, width: 200 } : null; }

  /** Whether progress messages of this series concern the page. */
  concerns(series) { return series === this.result; }

  async #post(body) {
    const response = await fetch("/api/jobs", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.message ?? `the server answered ${response.status}`);
    return answer;
  }

  /** Turns the switch on or off; the pictures follow at once, slice by slice. */
  async toggle() {
    if (this.isOn) {
      const wasComparing = this.isComparing;
      this.reset();
      if (wasComparing) this.#host.layOut(null); else this.#host.changed();
      return;
    }
    const { study } = this.#host;
    this.#job = await this.#post({ kind: "denoise", series: study.series.seriesInstanceUID, volume: study.volume.index, slice: this.#slice(), ...METHODS });
    if (this.#host.study !== study) return; // another series was opened meanwhile
    this.result = this.#job.result;
    this.#wished = this.#slice();
    this.#host.changed();
    this.#watch();
  }

  reset() {
    clearTimeout(this.#timer);
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
    if (!this.#job || this.#job.state === "done") return;
    const slice = this.#slice();
    if (Math.abs(slice - this.#wished) < 3) return;
    this.#wished = slice;
    fetch(`/api/jobs/${this.#job.id}`, { method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ slice }) }).catch(() => {});
  }

  async #watch() {
    const job = this.#job;
    if (!job) return;
    try {
      const response = await fetch(`/api/jobs/${job.id}`);
      if (response.ok) Object.assign(job, await response.json());
    } catch { /* asked again below */ }
    if (this.#job !== job) return;
    this.#host.told(job);
    if (job.state === "queued" || job.state === "running") this.#timer = setTimeout(() => this.#watch(), 700);
  }

  /** Resolves when the job is done. */
  async #finished() {
    while (this.#job && (this.#job.state === "queued" || this.#job.state === "running")) await new Promise((r) => setTimeout(r, 300));
    if (this.#job?.state !== "done") throw new Error(this.#job?.message ?? "the work was not finished");
  }

  /** Before, after and difference side by side, with one view for all. */
  async compare() {
    if (this.isComparing) { this.isComparing = false; this.#host.layOut(null); return; }
    if (!this.isOn) await this.toggle();
    const { study } = this.#host;
    await this.#finished();
    const made = await this.#post({ kind: "difference", series: this.result, minus: study.series.seriesInstanceUID, volume: study.volume.index });
    if (this.#host.study !== study) return;
    this.difference = made.result;
    this.isComparing = true;
    this.#host.layOut([["before", "Before"], ["after", "Denoised"], ["difference", "Difference"]]);
  }
}
