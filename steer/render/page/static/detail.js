// The page of one image.

class Detail {
  constructor(element) {
    this.element = element;
    this.entry = null;
  }

  // Shows an entry; `order` is the list to go through with the arrow keys.
  show(entry, order) {
    this.entry = entry;
    const place = order.indexOf(entry);
    this.before = place > 0 ? order[place - 1] : null;
    this.after = place >= 0 && place + 1 < order.length ? order[place + 1] : null;
    this.side = make("div", { class: "side" });
    this.under = make("div", {});
    const step = (name, other, sign) => make("button",
      { class: "plain", type: "button", disabled: !other, "aria-label": name, title: name, onclick: () => go(other) }, sign);
    this.element.replaceChildren(
      make("div", { class: "top" },
        make("button", { type: "button", id: "back", class: "plain", onclick: () => go(null) }, `← All ${noun()}`),
        make("span", { class: "grow" }),
        picks.star(entry),
        place >= 0 ? make("span", { class: "where" }, `${place + 1} of ${order.length}`) : null,
        step("Before", this.before, "‹"), step("After", this.after, "›")),
      make("div", { class: "sheet" },
        make("div", {}, this.hero(entry), this.under), this.side));
    this.fill(null);
    this.element.hidden = false;
    this.element.scrollTop = 0;
    if (entry.piece >= 0) {
      steer.piece("details", entry.piece).then((details) => {
        if (this.entry === entry) this.fill(details.find((detail) => detail.id === entry.id) || null);
      });
    }
  }

  hide() {
    this.entry = null;
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  hero(entry) {
    if (isText(entry)) {
      return make("a", { class: "passage", dir: "auto", href: urlOf(pathOf(entry)), target: "_blank", title: "The file itself" }, entry.words || "(empty)");
    }
    const shape = entry.width && entry.height ? `--shape:${entry.width / entry.height}` : null;
    const image = picture(entry, 0, true).firstChild;
    if (isVideo(entry)) {
      image.autoplay = true;
      return make("div", { class: "hero", style: shape }, image);
    }
    return make("a", { class: "hero", style: shape, href: urlOf(pathOf(entry)), target: "_blank", title: "The file itself" }, image);
  }

  fill(detail) {
    const entry = this.entry, recipe = detail && detail.recipe, trace = detail && detail.trace;
    this.side.replaceChildren(...[
      make("h2", { dir: "auto", class: textOf(entry).length > 120 ? "long" : null }, textOf(entry)),
      this.scores(entry, trace), this.facts(entry, recipe),
      ...this.commands(entry, detail), ...this.charts(entry, trace), ...this.raw(recipe),
    ].filter(Boolean));
    const way = isText(entry) ? tokenTrail(trace, entry.slot) : this.previews(entry, detail);
    this.under.replaceChildren(...[...way, ...this.beside(entry)].filter(Boolean));
  }

  scores(entry, trace) {
    const parts = [];
    if (entry.reward !== null) parts.push(["reward", entry.reward]);
    (entry.judged || []).forEach((score, place) => {
      if (score !== null && score !== undefined) parts.push([`judge ${steer.head.judges[place]}`, score]);
    });
    if (trace && typeof trace.log_z === "number" && entry.reward !== null) parts.push(["log Z", trace.log_z]);
    return parts.length ? make("div", { class: "score" }, parts.map(([name, value]) => make("div", {}, make("b", {}, number(value)), name))) : null;
  }

  facts(entry, recipe) {
    const rows = [];
    const add = (name, value) => { if (value !== null && value !== undefined && value !== "") rows.push(make("dt", {}, name), make("dd", { dir: "auto" }, String(value))); };
    add("category", entry.category >= 0 ? steer.head.categories[entry.category] : null);
    add("seed", `${entry.seed} (particle ${entry.slot})`);
    if (recipe) {
      const s = recipe.settings || {}, prompt = recipe.prompt || {};
      add("negative", (prompt.metadata || {}).negative || s.negative);
      add("model", recipe.model);
      add("methods", (recipe.methods || []).join(", ") || "none");
      add("reward", (recipe.reward || []).join(" + "));
      const guidance = s.guidance_scale === null || s.guidance_scale === undefined ? "" : ` guidance ${s.guidance_scale},`;
      const heat = s.temperature === null || s.temperature === undefined ? "" : ` temperature ${s.temperature},`;
      add("settings", `${s.steps} steps,${guidance}${heat} ${s.particles} particles, ${recipe.sampler}${s.eta === null || s.eta === undefined ? "" : `, η ${s.eta}`}`);
      if (!isText(entry)) add("size", `${s.width} × ${s.height}`);
    }
    add("id", entry.id);
    add("file", pathOf(entry));
    return make("dl", {}, rows);
  }

  commands(entry, detail) {
    if (!detail) return [];
    const parts = [];
    const replay = (detail.replay || [])[entry.number];
    if (replay) parts.push(make("h3", {}, `Reproduce this ${kindOf(entry)}`), command(replay));
    if (detail.command) parts.push(make("h3", {}, "Start from it"), command(detail.command));
    return parts;
  }

  charts(entry, trace) {
    if (!trace || !(trace.events || []).length) return [];
    const tree = genealogy(trace, entry.slot), lines = curves(trace), parts = [];
    if (tree) {
      parts.push(make("h3", {}, "Particles ", make("small", {}, "who descends from whom, by step; dots are rewards")));
      parts.push(make("div", { class: "legend" }, sample([`this ${kindOf(entry)}`, "var(--accent)", "solid"]),
        sample(["reached the end", "var(--soft)", "solid"]), sample(["resampled away", "var(--dead)", "solid"])), tree);
    }
    if (lines) parts.push(make("h3", {}, "Rewards ", make("small", {}, "by denoising steps done")), lines);
    return parts;
  }

  previews(entry, detail) {
    const strip = detail && detail.previews && detail.previews[entry.number];
    if (!strip) return [];
    const row = make("div", { class: "strip" });
    const image = new Image();
    image.onload = () => {
      const shape = entry.width && entry.height ? entry.width / entry.height : 1;
      const count = Math.max(1, Math.round(image.naturalWidth / (image.naturalHeight * shape)));
      for (let place = 0; place < count; place += 1) {
        row.append(make("i", {
          style: `--shape:${shape};background-image:url(${image.src});background-size:${count * 100}% 100%;background-position:${count > 1 ? (100 * place) / (count - 1) : 0}% 0`,
          class: entry.width && entry.width <= 256 ? "pixels" : null,
        }));
      }
    };
    image.src = `data:image/webp;base64,${strip}`;
    return [make("h3", {}, "Intermediate steps ", make("small", {}, isVideo(entry) ? "the model's estimate of the middle frame" : "the model's estimate of the image")), row,
      make("div", { class: "strip-note" }, make("span", {}, "first step"), make("span", {}, "last"))];
  }

  beside(entry) {
    const others = steer.entries.filter((other) => other.prompt === entry.prompt);
    if (others.length < 2) return [];
    return [make("h3", {}, "The same prompt ", make("small", {}, "other seeds and methods")),
      make("div", { class: "beside" }, others.slice(0, 24).map((other) => playing(make("a",
        { href: addressOf(other), "aria-current": other === entry ? "true" : null },
        picture(other, 104),
        make("span", { class: "facts" }, other.reward === null ? null : make("b", {}, number(other.reward)),
          make("span", {}, steer.head.runs.length > 1 ? runLabel(runOf(other)) : `seed ${other.seed}`))))))];
  }

  raw(recipe) {
    if (!recipe) return [];
    return [make("h3", {}, "Recipe"), make("details", {}, make("summary", {}, "everything that made it"),
      make("pre", {}, JSON.stringify(recipe, null, 1)))];
  }
}
