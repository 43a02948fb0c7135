// The controls: filter, order, and the choice of the view.

const byId = (id) => document.getElementById(id);
const state = { query: "", category: "", run: "", sort: "given", low: 0, high: 1000, view: "grid", size: 192, picked: false };
let grid, compare, detail, visible = [], range = null, scrolled = 0;

const addressOf = (entry) => `#image/${encodeURIComponent(pathOf(entry))}`;

function go(entry) {
  location.hash = entry ? addressOf(entry) : "";
}

function setUp() {
  const tag = [...document.scripts].find((script) => script.src.includes("page/head-"));
  version = tag ? new URL(tag.src).search : "";
  if (!steer.head) {
    byId("nothing").textContent = "The data beside this page are missing; rebuild it with steer gallery.";
    byId("nothing").hidden = false;
    return;
  }
  const head = steer.head;
  document.title = head.title;
  byId("title").textContent = head.title;
  for (const entry of steer.entries) entry.text = `${textOf(entry)}\n${entry.words ?? ""}`.toLowerCase();
  fillSelects(head);
  setUpRange();
  grid = new Grid(byId("space"));
  compare = new Compare(byId("space"), byId("columns"));
  detail = new Detail(byId("detail"));
  picks.load();
  if (head.paired) state.view = "compare";
  fillReports(head.reports || []);
  wire(head);
  refresh();
  route();
  document.documentElement.dataset.ready = "true";
}

function fillSelects(head) {
  const options = (id, rows) => {
    byId(id).replaceChildren(...rows.map(([value, label]) => make("option", { value }, label)));
    byId(id).hidden = rows.length < 3;
  };
  options("category", [["", "All categories"], ...head.categories.map((name, place) => [place, name])]);
  options("run", [["", "All runs"], ...head.runs.map((run, place) => [place, runLabel(run)])]);
  const scored = steer.entries.some((entry) => entry.reward !== null);
  options("sort", [["given", "As given"], ["text", "Prompt, A to Z"], ["file", "File name"],
    ...(scored ? [["best", "Best reward first"], ["worst", "Worst reward first"]] : []),
    ...head.judges.map((name, place) => [`judge${place}`, `Best ${name} first`])]);
}

function fillReports(reports) {
  const links = reports.map(([file, name]) => make("a", { href: file.split("/").map(encodeURIComponent).join("/") }, name));
  byId("reports").replaceChildren("Reports: ", ...links);
  byId("reports").hidden = !links.length;
}

function setUpRange() {
  const rewards = steer.entries.map((entry) => entry.reward).filter((value) => value !== null);
  if (!rewards.length) return;
  let [low, high] = [Infinity, -Infinity];
  for (const value of rewards) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!(high > low)) return;
  range = { low, high, bins: new Array(44).fill(0) };
  for (const value of rewards) range.bins[Math.min(43, Math.floor((44 * (value - low)) / (high - low)))] += 1;
  byId("reward").hidden = false;
}

function drawRange() {
  if (!range) return;
  const canvas = byId("histogram"), ratio = devicePixelRatio || 1;
  canvas.width = 176 * ratio;
  canvas.height = 26 * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const most = Math.max(...range.bins);
  range.bins.forEach((count, place) => {
    const inside = (place + 1) / 44 > state.low / 1000 && place / 44 < state.high / 1000;
    pen.fillStyle = paint(inside ? "--accent" : "--dead");
    const height = count ? Math.max(1, 25 * Math.sqrt(count / most)) : 0;
    pen.fillRect(place * 4, 26 - height, 3, height);
  });
  byId("between").textContent = `${number(rewardAt(state.low), 2)} to ${number(rewardAt(state.high), 2)}`;
}

// Canvases take no light-dark(): let an element work the color out.
function paint(name) {
  const probe = byId("count"), before = probe.style.color;
  probe.style.color = `var(${name})`;
  const color = getComputedStyle(probe).color;
  probe.style.color = before;
  return color;
}

const rewardAt = (place) => range.low + ((range.high - range.low) * place) / 1000;

function refresh() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const [low, high] = range ? [state.low > 0 ? rewardAt(state.low) : -Infinity, state.high < 1000 ? rewardAt(state.high) : Infinity] : [0, 0];
  const bounded = range && (state.low > 0 || state.high < 1000);
  visible = steer.entries.filter((entry) => (state.category === "" || entry.category === Number(state.category))
    && (!state.picked || picks.has(entry))
    && (state.run === "" || entry.run === Number(state.run))
    && (!bounded || (entry.reward !== null && entry.reward >= low && entry.reward <= high))
    && words.every((word) => entry.text.includes(word)));
  order(visible);
  const all = steer.entries.length;
  byId("count").textContent = visible.length === all ? `${all.toLocaleString("en")} ${noun()}` : `${visible.length.toLocaleString("en")} of ${all.toLocaleString("en")} ${noun()}`;
  byId("reset").hidden = visible.length === all;
  byId("nothing").hidden = visible.length > 0;
  drawRange();
  showPicks();
  show();
}

function order(entries) {
  const value = (entry, read) => { const found = read(entry); return found === null || found === undefined ? -Infinity : found; };
  const by = (read, sign) => entries.sort((a, b) => sign * (value(b, read) - value(a, read)) || a.index - b.index);
  if (state.sort === "best") by((entry) => entry.reward, 1);
  else if (state.sort === "worst") by((entry) => entry.reward, -1);
  else if (state.sort === "text") entries.sort((a, b) => a.text.localeCompare(b.text) || a.index - b.index);
  else if (state.sort === "file") entries.sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1));
  else if (state.sort.startsWith("judge")) by((entry) => entry.judged[Number(state.sort.slice(5))], 1);
}

function show() {
  grid.clear();
  compare.clear();
  byId("columns").hidden = state.view === "grid";
  for (const name of ["grid", "compare"]) byId(`as-${name}`).setAttribute("aria-pressed", String(state.view === name));
  (state.view === "grid" ? grid : compare).set(visible, state.size);
}

function route() {
  const match = /^#image\/(.+)$/.exec(location.hash);
  const path = match ? decoded(match[1]) : null;
  const entry = path === null ? null : steer.entries.find((other) => pathOf(other) === path);
  if (entry) {
    if (!detail.entry) scrolled = scrollY;
    detail.show(entry, visible);
    document.body.style.overflow = "hidden";
  } else if (detail.entry) {
    detail.hide();
    document.body.style.overflow = "";
    scrollTo(0, scrolled);
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    return null;
  }
}

function wire(head) {
  const change = (id, event, name, read = (value) => value) => byId(id).addEventListener(event, () => {
    state[name] = read(byId(id).value);
    scrollTo(0, 0);
    refresh();
  });
  change("query", "input", "query");
  change("category", "change", "category");
  change("run", "change", "run");
  change("sort", "change", "sort");
  change("low", "input", "low", (value) => Math.min(Number(value), state.high));
  change("high", "input", "high", (value) => Math.max(Number(value), state.low));
  byId("size").addEventListener("input", () => { state.size = Number(byId("size").value); show(); });
  for (const name of ["grid", "compare"]) {
    byId(`as-${name}`).addEventListener("click", () => { state.view = name; scrollTo(0, 0); show(); });
  }
  byId("reset").addEventListener("click", () => {
    Object.assign(state, { query: "", category: "", run: "", low: 0, high: 1000, picked: false });
    for (const name of ["query", "category", "run", "low", "high"]) byId(name).value = state[name];
    refresh();
  });
  byId("picked").addEventListener("click", () => {
    state.picked = !state.picked;
    scrollTo(0, 0);
    refresh();
  });
  byId("copy-picks").addEventListener("click", async () => {
    const files = picks.entries().map((entry) => `${runOf(entry).place}/${entry.file}`);
    const done = await copy(files.join("\n"));
    byId("copy-picks").textContent = done ? "Copied" : "The browser refused";
    setTimeout(() => { byId("copy-picks").textContent = "Copy files"; }, 1500);
  });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    drawRange();
  });
  if (head.failed.length) {
    const button = byId("failures"), dialog = byId("failed");
    button.textContent = `${head.failed.length.toLocaleString("en")} failed`;
    button.hidden = false;
    dialog.lastElementChild.append(...head.failed.slice(0, 1000).map((row) => make("p", { dir: "auto" }, row.prompt.slice(0, 300), make("span", {}, row.reason))));
    button.addEventListener("click", () => dialog.showModal());
    byId("close-failed").addEventListener("click", () => dialog.close());
  }
  const draw = () => { if (!detail.entry) (state.view === "grid" ? grid : compare).draw(); };
  addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(() => (state.view === "grid" ? grid : compare).layout()));
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !detail.entry) { event.preventDefault(); byId("query").focus(); }
    const tile = event.target.closest(".tile") || document.querySelector(".tile:hover");
    if (event.key === "p" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      if (detail.entry) picks.toggle(detail.entry);
      else if (tile) picks.toggle(tile.entry);
    }
    if (!detail.entry || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") go(null);
    if (event.key === "ArrowLeft" && detail.before) go(detail.before);
    if (event.key === "ArrowRight" && detail.after) go(detail.after);
  });
}

document.addEventListener("DOMContentLoaded", setUp);
