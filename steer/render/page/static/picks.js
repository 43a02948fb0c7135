// Picks: images that the user chose, remembered by this browser, and copied as a list of files.

const picks = {
  key: `steer picks ${location.pathname}`,
  paths: new Set(),

  load() {
    try {
      const found = JSON.parse(localStorage.getItem(this.key) || "[]");
      if (Array.isArray(found)) this.paths = new Set(found.filter((path) => typeof path === "string"));
    } catch (error) {
      // a browser that keeps nothing: they last as long as the page is open
    }
  },

  has(entry) {
    return this.paths.has(pathOf(entry));
  },

  toggle(entry) {
    const path = pathOf(entry);
    if (!this.paths.delete(path)) this.paths.add(path);
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.paths]));
    } catch (error) {
      // as above
    }
    for (const mark of document.querySelectorAll("[data-pick]")) if (mark.dataset.pick === path) this.draw(mark, entry);
    showPicks();
  },

  // The picks that still exist: an image may have been deleted since.
  entries() {
    return this.paths.size ? steer.entries.filter((entry) => this.has(entry)) : [];
  },

  draw(mark, entry) {
    mark.setAttribute("aria-pressed", String(this.has(entry)));
    mark.textContent = this.has(entry) ? "★" : "☆";
  },

  star(entry) {
    const mark = make("button", { type: "button", class: "star", "data-pick": pathOf(entry), title: "Pick (p)", "aria-label": "Pick" });
    mark.addEventListener("click", () => this.toggle(entry));
    this.draw(mark, entry);
    return mark;
  },
};

function showPicks() {
  const count = picks.entries().length;
  byId("picked").hidden = !count && !state.picked;
  byId("picked").textContent = `★ ${count.toLocaleString("en")} picked`;
  byId("picked").setAttribute("aria-pressed", String(state.picked));
  byId("copy-picks").hidden = !state.picked || !count;
}
