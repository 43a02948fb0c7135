// Side by side: one row per prompt, one column per run, with its seeds side by side.

// Width by height, limited so that the facts below a picture have room.
const shapeOf = (entry) => (entry.width && entry.height ? Math.min(2, Math.max(0.65, entry.width / entry.height)) : 1);

class Compare {
  constructor(space, header) {
    this.space = space;
    this.header = header;
    this.shown = new Map();
    this.rows = [];
  }

  set(entries, size) {
    this.clear();
    this.size = size;
    const rows = new Map();
    for (const entry of entries) {
      if (!rows.has(entry.prompt)) rows.set(entry.prompt, new Map());
      const runs = rows.get(entry.prompt);
      if (!runs.has(entry.run)) runs.set(entry.run, []);
      runs.get(entry.run).push(entry);
    }
    this.rows = [...rows.values()];
    this.runs = [...new Set(entries.map((entry) => entry.run))].sort((a, b) => a - b);
    this.columns = `repeat(${Math.max(1, this.runs.length)}, minmax(0, 1fr))`;
    this.header.style.gridTemplateColumns = this.columns;
    this.header.replaceChildren(...this.runs.map((run) => this.heading(run, entries)));
    this.layout();
  }

  heading(run, entries) {
    const scores = entries.filter((entry) => entry.run === run && entry.reward !== null).map((entry) => entry.reward);
    const mean = scores.reduce((a, b) => a + b, 0) / scores.length;
    return make("div", {}, `${runLabel(steer.head.runs[run])} `,
      scores.length ? make("small", {}, `mean reward ${number(mean)}`) : null);
  }

  clear() {
    for (const element of this.shown.values()) element.remove();
    this.shown.clear();
  }

  layout() {
    this.row = 10 + 20 + 8 + this.size + 24 + 14;
    this.space.style.height = `${this.rows.length * this.row}px`;
    this.draw();
  }

  draw() {
    const above = -this.space.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / this.row) - 1);
    const last = Math.min(this.rows.length, Math.ceil((above + innerHeight) / this.row) + 1);
    for (const [place, element] of this.shown) {
      if (place < first || place >= last) {
        element.remove();
        this.shown.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (!this.shown.has(place)) {
        const element = this.pair(this.rows[place]);
        element.style.top = `${place * this.row}px`;
        this.shown.set(place, element);
        this.space.append(element);
      }
    }
  }

  pair(runs) {
    const all = [...runs.values()].flat(), text = textOf(all[0]);
    const best = Math.max(...all.map((entry) => (entry.reward === null ? -Infinity : entry.reward)));
    const cells = this.runs.map((run) => make("div", { class: "cells" },
      (runs.get(run) || []).map((entry) => playing(make("a",
        { href: addressOf(entry), style: `width:${Math.round(this.size * shapeOf(entry))}px`, class: entry.reward === best && all.length > 1 ? "best" : null },
        picture(entry, this.size),
        make("span", { class: "facts" },
          entry.reward === null ? null : make("b", {}, number(entry.reward)),
          make("span", {}, `seed ${entry.seed}`)))))));
    return make("section", { class: "pair" },
      make("h3", { title: text.slice(0, 500), dir: "auto" }, text.slice(0, 300)),
      make("div", { class: "row", style: `grid-template-columns:${this.columns}` }, cells));
  }
}
