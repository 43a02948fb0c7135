// The grid: only what is in view exists, so that ten thousand images are as quick as ten.

const GAP = 16, CAPTION = 66;

class Grid {
  constructor(space) {
    this.space = space;
    this.shown = new Map();
    this.entries = [];
  }

  // Lays entries out anew, at a size in pixels.
  set(entries, size) {
    this.entries = entries;
    this.size = size;
    this.shape = commonShape(entries);
    this.clear();
    this.layout();
  }

  clear() {
    for (const element of this.shown.values()) element.remove();
    this.shown.clear();
  }

  layout() {
    const width = this.space.clientWidth;
    const columns = Math.max(1, Math.floor((width + GAP) / (this.size + GAP)));
    const side = Math.floor((width - GAP * (columns - 1)) / columns);
    if (columns !== this.columns || side !== this.side) this.clear();
    this.columns = columns;
    this.side = Math.min(side, Math.floor(this.size * 1.6));
    this.high = Math.round(this.side * this.shape);
    this.row = this.high + CAPTION + GAP;
    this.space.style.height = `${Math.ceil(this.entries.length / columns) * this.row}px`;
    this.draw();
  }

  draw() {
    const above = -this.space.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / this.row) - 1) * this.columns;
    const last = Math.min(this.entries.length, (Math.ceil((above + innerHeight) / this.row) + 1) * this.columns);
    for (const [place, element] of this.shown) {
      if (place < first || place >= last) {
        element.remove();
        this.shown.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (!this.shown.has(place)) {
        const element = this.tile(this.entries[place]);
        const [column, row] = [place % this.columns, Math.floor(place / this.columns)];
        element.style.cssText = `left:${column * (this.side + GAP)}px;top:${row * this.row}px;width:${this.side}px`;
        this.shown.set(place, element);
        this.space.append(element);
      }
    }
  }

  tile(entry) {
    const several = steer.head.runs.length > 1;
    const tile = make("div", { class: "tile" },
      playing(make("a", { href: addressOf(entry), title: textOf(entry).slice(0, 500) },
        picture(entry, this.high),
        make("span", { class: "caption", dir: "auto" }, textOf(entry).slice(0, 300)),
        make("span", { class: "facts" },
          entry.reward === null ? null : make("b", {}, number(entry.reward)),
          several ? make("span", { title: runLabel(runOf(entry)) }, runLabel(runOf(entry))) : null,
          make("span", { class: several ? "whole" : null, title: "seed" }, several ? String(entry.seed) : `seed ${entry.seed}`)))),
      picks.star(entry));
    tile.entry = entry;
    return tile;
  }
}

// Height by width of most pictures, within limits: if all are portraits, tiles are too.
function commonShape(entries) {
  const counts = new Map();
  for (const { width, height } of entries) {
    const shape = width && height ? Math.min(1.6, Math.max(0.5, height / width)) : 1;
    counts.set(shape, (counts.get(shape) || 0) + 1);
  }
  return [...counts].reduce((best, pair) => (pair[1] > best[1] ? pair : best), [1, 0])[0];
}
