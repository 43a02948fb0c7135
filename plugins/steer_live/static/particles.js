"use strict";
// The particles of one prompt as they are steered: pictures of x0, rewards, who was replaced by whom, and charts.

class Particles {
  // `title` names the prompt among several of a run; `redo` redoes one finished particle, if each stands alone.
  constructor(title, redo) {
    this.redo = redo;
    this.tiles = new Map();
    this.trace = { events: [], steps: 1, particles: 1 };
    this.draw = this.last = -1;
    this.grid = make("div", { class: "particles" });
    this.facts = make("p", { class: "facts" });
    this.charts = make("div", { class: "charts" });
    const shown = make("details", { class: "charted" }, make("summary", {}, "Genealogy and rewards"), this.charts);
    shown.open = innerWidth > 700;
    this.element = make("section", { class: "population", "aria-label": title || "Particles" },
      title ? make("h3", {}, title) : null, this.facts, this.grid, shown);
    this.shown = shown;
    shown.hidden = true;
    shown.addEventListener("toggle", () => this.chart());
  }

  step(data) {
    if (data.draw !== this.draw || data.step < this.last) {  // a search begins another population, or the run begins anew
      this.draw = data.draw;
      this.trace = { events: [], steps: data.steps, particles: data.particles };
      this.tiles.clear();
    }
    this.last = data.step;
    this.trace.steps = data.steps;
    this.trace.particles = Math.max(this.trace.particles, data.particles);
    this.trace.events.push(...data.events);
    const rewards = valuesOf(data.events, "reward", "reward"), ancestors = valuesOf(data.events, "resample", "ancestors");
    const best = Math.max(...rewards.values());
    data.slots.forEach((slot, place) => this.tile(slot).show({
      picture: data.pictures[place], step: data.step, reward: rewards.get(slot), best: rewards.get(slot) === best && rewards.size > 1,
      parent: ancestors.get(slot), done: data.done,
    }));
    for (const [slot, tile] of this.tiles) if (!data.slots.includes(slot)) tile.leave();
    this.tell(data);
    this.chart();
  }

  tile(slot) {
    if (!this.tiles.has(slot)) {
      this.tiles.set(slot, new Particle(slot, this.redo));
      this.grid.replaceChildren(...[...this.tiles].sort((a, b) => a[0] - b[0]).map(([, tile]) => tile.element));
    }
    return this.tiles.get(slot);
  }

  tell(data) {
    const weighed = data.events.filter((event) => typeof event.ess === "number").pop();
    const parts = [`step ${data.step} of ${data.steps}`, `${data.particles} ${data.particles === 1 ? "particle" : "particles"}`];
    if (data.draw > 0) parts.unshift(`population ${data.draw + 1}`);
    if (weighed) this.weighed = `ESS ${number(weighed.ess, 1)} of ${data.particles}`;
    if (this.weighed) parts.push(this.weighed);
    if (data.particles > data.slots.length) parts.push(`the first ${data.slots.length} shown`);
    this.facts.textContent = parts.join(" · ");
  }

  chart() {
    const some = this.trace.events.some((event) => event.kind === "reward" || event.kind === "resample");
    this.shown.hidden = !some;
    if (!some || !this.shown.open) return;
    const last = this.trace.events.filter((event) => event.kind === "reward").pop();
    const best = last ? last.slots[last.reward.indexOf(Math.max(...last.reward))] : null;
    this.charts.replaceChildren(...[genealogy(this.trace, best), curves(this.trace)].filter(Boolean));
  }
}

class Particle {
  constructor(slot, redo) {
    this.slot = slot;
    this.redo = redo;
    this.face = make("span", { class: "face" });
    this.reward = make("b", {}, "");
    this.note = make("span", { class: "note" });
    this.element = make("figure", { class: "particle" }, this.face,
      make("figcaption", {}, make("span", { class: "slot" }, String(slot)), this.reward, this.note));
  }

  show({ picture, step, reward, best, parent, done }) {
    if (picture) this.look(picture, step);
    if (reward !== undefined) this.reward.textContent = number(reward);
    const replaced = parent !== undefined && parent !== this.slot;
    this.element.classList.toggle("replaced", replaced);
    this.element.classList.toggle("best", Boolean(best));
    this.element.classList.toggle("done", done);
    this.element.classList.remove("gone");
    this.note.textContent = replaced ? `→ copy of ${parent}` : "";
    if (done && this.redo) {
      const button = make("button", { type: "button", class: "plain small", title: REDO, "aria-label": `Redo particle ${this.slot} in full` }, "Redo in full");
      button.addEventListener("click", () => attempt(button, () => this.redo(this.slot)));
      this.note.replaceChildren(button);
    }
  }

  look(picture, step) {
    if (!picture.startsWith("data:image/webp;base64,")) {
      this.face.replaceChildren(make("span", { class: "words", dir: "auto" }, picture));
      return;
    }
    if (!this.image) {
      this.image = crisp(make("img"));
      this.face.replaceChildren(this.image);
    }
    this.image.src = picture;
    this.image.alt = `Particle ${this.slot} at step ${step}`;
  }

  leave() {
    this.element.classList.add("gone");
    this.note.textContent = "pruned";
  }
}

const REDO = "The same seed, in the model's own number of steps";

// Returns the values of a kind of event by slot; of several events the last counts.
function valuesOf(events, kind, name) {
  const found = new Map();
  for (const event of events) {
    if (event.kind === kind) event.slots.forEach((slot, place) => found.set(slot, event[name][place]));
  }
  return found;
}
