"use strict";
// Picks, which this browser remembers, and earlier runs, which are the folders of the server.

const picks = {
  key: "steer live picks",
  kept: [],

  load() {
    try {
      const found = JSON.parse(localStorage.getItem(this.key) || "[]");
      this.kept = Array.isArray(found) ? found.filter((one) => one && one.job && one.file && typeof one.file.key === "string") : [];
    } catch (error) {
      this.kept = [];  // a browser that keeps nothing: they last as long as the page is open
    }
    this.show();
  },

  keyOf: (job, file) => `${job.id}/${file.key}`,

  has(job, file) {
    return this.kept.some((one) => this.keyOf(one.job, one.file) === this.keyOf(job, file));
  },

  toggle(job, file) {
    const key = this.keyOf(job, file), { id, kind } = job;
    if (this.has(job, file)) this.kept = this.kept.filter((one) => this.keyOf(one.job, one.file) !== key);
    else this.kept.unshift({ job: { id, kind }, file });
    try {
      localStorage.setItem(this.key, JSON.stringify(this.kept));
    } catch (error) {
      // as above
    }
    for (const mark of document.querySelectorAll("[data-pick]")) if (mark.dataset.pick === key) this.draw(mark, job, file);
    this.show();
  },

  draw(mark, job, file) {
    const has = this.has(job, file);
    mark.setAttribute("aria-pressed", String(has));
    mark.textContent = has ? "★" : "☆";
  },

  star(job, file) {
    const mark = make("button", { type: "button", class: "star", "data-pick": this.keyOf(job, file), title: "Pick", "aria-label": `Pick the image of seed ${file.seed}` });
    mark.addEventListener("click", () => this.toggle(job, file));
    this.draw(mark, job, file);
    return mark;
  },

  show() {
    byId("picks").hidden = !this.kept.length;
    byId("picks").querySelector(".tiles").replaceChildren(...this.kept.map(({ job, file }) => resultTile(job, file)));
  },
};

const earlier = {
  jobs: new Map(),
  shown: 24,

  set(jobs) {
    this.jobs = new Map(jobs.map((job) => [job.id, job]));
    this.show();
  },

  // Takes a job's change.
  put(job) {
    if (this.jobs.has(job.id)) this.jobs.set(job.id, job);
    else this.jobs = new Map([[job.id, job], ...this.jobs]);
    this.show();
  },

  show() {
    const ended = [...this.jobs.values()].filter((job) => !["queued", "running"].includes(job.status));
    byId("history").hidden = !ended.length;
    byId("older").hidden = ended.length <= this.shown;
    byId("history").querySelector(".tiles").replaceChildren(...ended.slice(0, this.shown).map((job) => this.tile(job)));
  },

  tile(job) {
    const [file] = job.files, name = titleOf(job);
    const face = file ? sampleOf(file, fileOf(job, file)) : make("span", { class: "empty" }, STATES[job.status]);
    return make("button", { type: "button", class: "past", "aria-label": `Open the run: ${name.slice(0, 80)}`, onclick: () => runs.add([job])[0].element.scrollIntoView({ block: "start" }) },
      face, make("span", { class: "caption", dir: "auto" }, name.slice(0, 200)),
      make("span", { class: "facts" }, file && file.reward !== null ? make("b", {}, number(file.reward)) : null,
        make("span", {}, (job.values.plugin || []).join(" + ") || "plain")));
  },
};
