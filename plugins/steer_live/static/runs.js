"use strict";
// Runs: each follows a job from the queue to its images.

const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", stopped: "stopped" };

class Run {
  constructor(job) {
    this.job = job;
    this.populations = new Map();
    this.step = 0;
    this.status = make("span", { class: "status", role: "status" });
    this.bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.note = make("p", { class: "warn", hidden: true });
    this.results = make("div", { class: "tiles results" });
    this.particles = make("div", {});
    this.stop = this.button("Stop", () => post(`api/jobs/${job.id}/stop`, {}));
    this.again = this.button("Run again", () => again(this.job, job.kind === "prompts" ? {} : { fresh: true }));
    this.full = this.button("Redo in full", () => again(this.job, { full: true }), "The same seeds, in the model's own number of steps");
    this.edit = make("button", { type: "button", class: "plain", onclick: () => form.take(this.job) }, "Edit");
    this.close = make("button", { type: "button", class: "plain", "aria-label": "Close this run", title: "Close", onclick: () => runs.close(this) }, "×");
    this.element = make("article", { class: "run", "aria-label": `Run: ${titleOf(job)}` },
      make("header", {}, make("h2", { dir: "auto" }, titleOf(job)), this.close),
      make("p", { class: "facts" }, factsOf(job)),
      make("div", { class: "controls" }, this.status, this.stop, this.again, this.full, this.edit),
      this.bar, this.note, this.results, this.particles);
    this.update(job);
  }

  button(name, action, title = null) {
    const button = make("button", { type: "button", title }, name);
    button.addEventListener("click", () => attempt(button, action));
    return button;
  }

  follow() {
    const events = {
      step: (data) => this.stepped(data),
      round: ({ done, total }) => { this.round = total ? `round ${done} of ${total}` : `round ${done}`; this.tell(); },
      progress: (data) => this.progressed(data),
      files: ({ files }) => files.forEach((file) => this.result(file)),
      lost: ({ prompt, reason }) => this.warn(`${prompt.slice(0, 80)}: ${reason}`),
      end: (job) => this.ended(job),
    };
    this.unfollow = follow(`api/jobs/${this.job.id}/events`, { events });
  }

  leave() {
    if (this.unfollow) this.unfollow();
  }

  update(job) {
    this.job = { ...this.job, ...job };
    const open = job.status === "queued" || job.status === "running", prompts = job.kind === "prompts";
    this.element.dataset.status = job.status;
    this.stop.hidden = !open;
    this.again.hidden = open || (prompts && job.status === "done");
    this.again.textContent = prompts ? "Go on" : "Run again";
    this.full.hidden = open || prompts;
    this.edit.hidden = prompts;
    this.bar.hidden = !open;
    this.tell();
    if (job.failure) this.warn(job.failure);
  }

  tell() {
    const { status, before, seconds, evaluations, lost } = this.job, parts = [STATES[status]];
    if (status === "queued" && before) parts.push(`${before} before it`);
    if (status === "running" && this.round) parts.push(this.round);
    if (status === "running" && this.count) parts.push(this.count);
    if (status === "done" && seconds) parts.push(`in ${number(seconds, 1)} s`);
    if (evaluations && status === "done") parts.push(`${evaluations.toLocaleString("en")} denoiser evaluations`);
    if (lost) parts.push(`${lost} failed`);
    this.status.textContent = parts.join(", ");
  }

  warn(text) {
    this.note.textContent = text;
    this.note.hidden = false;
  }

  stepped(data) {
    if (this.job.status === "queued") this.update({ ...this.job, status: "running" });
    this.bar.value = data.step / data.steps;
    let population = this.populations.get(data.prompt);
    if (!population) {
      const place = this.populations.size + 1;
      const redo = data.particles > 1 && form.independent(this.job.values.plugin || [])
        ? (slot) => again(this.job, { prompt: data.prompt, slot, full: true }) : null;
      population = new Particles(this.job.prompts > 1 ? `${form.noun} ${place}, seed ${data.seed}` : "", redo);
      this.populations.set(data.prompt, population);
      if (this.job.kind !== "prompts") this.particles.append(population.element);
    }
    population.step(data);
  }

  progressed({ done, failed, total, seconds_left: left }) {
    this.bar.value = total ? (done + failed) / total : 0;
    this.count = `${done} of ${total}` + (failed ? `, ${failed} failed` : "") + (left ? `, ${Math.ceil(left)} s left` : "");
    this.tell();
  }

  result(file) {
    this.results.append(resultTile(this.job, file));
    while (this.results.children.length > MOST_TILES) this.results.firstChild.remove();
  }

  async ended(job) {
    this.leave();
    const whole = await call(`api/jobs/${job.id}`).catch(() => job);
    this.results.replaceChildren();
    whole.files.slice(0, MOST_TILES).forEach((file) => this.result(file));
    if (whole.files.length > MOST_TILES) this.results.append(make("a", { href: "gallery/", target: "_blank" }, `all ${whole.files.length} in the gallery`));
    this.update(whole);
  }
}

const MOST_TILES = 24;

const titleOf = (job) => (job.kind === "prompts" ? job.title : job.prompt) || "(no prompt)";

function factsOf(job) {
  const { values } = job, parts = [];
  parts.push((values.plugin || []).join(" + ") || "plain samples");
  if ((values.reward || []).length) parts.push(`by ${values.reward.join(" + ")}`);
  if (values.steps) parts.push(`${values.steps} steps`);
  if (values.particles) parts.push(`${values.particles} particles`);
  if (job.kind === "prompts") parts.push(`${job.prompts} prompts`);
  else if (job.seed !== null) parts.push(`seed ${job.seed}`);
  return parts.join(" · ");
}

async function again(job, body) {
  runs.add((await post(`api/jobs/${job.id}/again`, body)).jobs);
}

// A finished sample with what can be done with it.
function resultTile(job, file) {
  const address = fileOf(job, file), tile = make("figure", { class: "result" });
  const link = make("a", { href: detailsOf(job, file), target: "_blank", title: "Details in the gallery" }, sampleOf(file, address));
  const star = picks.star(job, file);
  const redo = make("button", { type: "button", class: "plain small", title: REDO }, "Redo in full");
  redo.addEventListener("click", () => attempt(redo, () => again(job, { file: file.key, full: true })));
  tile.append(link, star, make("figcaption", {},
    file.reward === null ? null : make("b", {}, number(file.reward)),
    ...Object.entries(file.judge || {}).map(([name, score]) => make("span", {}, `${name} ${number(score)}`)),
    make("span", {}, `seed ${file.seed}`), file.slot ? make("span", {}, `particle ${file.slot}`) : null, job.kind === "prompts" ? null : redo));
  return tile;
}

function sampleOf(file, address) {
  if (file.file.endsWith(".mp4")) return make("video", { src: address, "aria-label": file.prompt, loop: true, muted: true, controls: true });
  if (file.file.endsWith(".txt")) {
    const words = make("span", { class: "passage", dir: "auto" });
    fetch(address).then((answer) => answer.text()).then((text) => { words.textContent = text.slice(0, 2000); }).catch(() => {});
    return words;
  }
  return crisp(make("img", { src: address, alt: file.prompt, loading: "lazy" }));
}

const runs = {
  shown: new Map(),

  // Shows jobs; two that were asked for together stand side by side.
  add(jobs) {
    byId("welcome").hidden = true;
    const made = jobs.map((job) => {
      if (this.shown.has(job.id)) this.close(this.shown.get(job.id));
      const run = new Run(job);
      this.shown.set(job.id, run);
      run.follow();
      return run;
    });
    const element = made.length > 1 ? make("div", { class: "together" }, made.map((run) => run.element)) : made[0].element;
    byId("runs").prepend(element);
    while (this.shown.size > 8) {
      const oldest = [...this.shown.values()].find((run) => !["queued", "running"].includes(run.job.status));
      if (!oldest) break;
      this.close(oldest);
    }
    return made;
  },

  close(run) {
    run.leave();
    this.shown.delete(run.job.id);
    const around = run.element.parentElement;
    run.element.remove();
    if (around && around.classList.contains("together") && !around.children.length) around.remove();
  },
};
