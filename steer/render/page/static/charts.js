// Charts of one prompt's particles: who descends from whom, rewards, and the effective sample size.

const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];

function viridis(share) {
  const at = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [a, b] = [VIRIDIS[low], VIRIDIS[low + 1]].map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * (at - low))).join(",")})`;
}

const WIDE = 560, LEFT = 34, RIGHT = 34;

function scaleX(trace) {
  const steps = Math.max(1, trace.steps);
  return (step) => LEFT + (WIDE - LEFT - RIGHT) * (step / steps);
}

function axisX(trace, y) {
  const x = scaleX(trace), parts = [];
  const stride = Math.max(1, Math.ceil(trace.steps / 8));
  for (let step = 0; step <= trace.steps; step += stride) {
    parts.push(make("svg:text", { x: x(step), y, "text-anchor": "middle" }, String(step)));
  }
  return parts;
}

const eventsOf = (trace, kind) => (trace.events || []).filter((event) => event.kind === kind);

// A line per particle from one resampling to the next, or up to where it was dropped, as in steer/results/genealogy.py.
// `mine`: the end particle `chosen` descends from it.
function linesOf(trace, chosen) {
  const events = (trace.events || []).filter((event) => event.kind === "reward" || event.kind === "resample");
  const lines = [];
  for (const draw of new Set(events.map((event) => event.draw || 0))) {
    const own = events.filter((event) => (event.draw || 0) === draw);
    let seen = 0, going = new Map();
    const begin = (slot, start, parent) => {
      const line = { slot, start, stop: trace.steps, parent };
      lines.push(line);
      return line;
    };
    for (const slot of own[0].slots) going.set(slot, begin(slot, 0));
    for (const event of own) {
      if (event.kind === "resample") {
        for (const line of going.values()) line.stop = event.step;
        const before = going;
        going = new Map(event.slots.map((slot, place) => [slot, begin(slot, event.step, before.get(event.ancestors[place]))]));
      } else {
        const slots = new Set(event.slots);
        for (const [slot, line] of going) {
          if (!slots.has(slot)) { line.stop = seen; going.delete(slot); }
        }
        for (const slot of slots) if (!going.has(slot)) going.set(slot, begin(slot, event.step));
      }
      seen = event.step;
    }
    for (const end of going.values()) {
      for (let line = end; line && !line.lives; line = line.parent) line.lives = true;
      for (let line = end; line && end.slot === chosen; line = line.parent) line.mine = true;
    }
  }
  return lines;
}

function genealogy(trace, chosen) {
  const rewards = eventsOf(trace, "reward"), lines = linesOf(trace, chosen);
  const slots = [...new Set(lines.map((line) => line.slot))].sort((a, b) => a - b);
  if (!slots.length) return null;
  const shown = slots.slice(0, 64);
  const gap = Math.max(9, Math.min(26, 420 / shown.length));
  const y = (slot) => 12 + gap * shown.indexOf(slot);
  const x = scaleX(trace);
  const back = [], front = [];
  for (const { slot, start, stop, parent, lives, mine } of lines) {
    const from = parent ? parent.slot : slot;
    if (!shown.includes(slot) || !shown.includes(from)) continue;
    const [x0, x1] = [x(start), x(stop)];
    const bend = x0 + (x1 - x0) * 0.35, middle = (x0 + bend) / 2;
    const path = `M${x0} ${y(from)}C${middle} ${y(from)} ${middle} ${y(slot)} ${bend} ${y(slot)}L${x1} ${y(slot)}`;
    (mine || lives ? front : back).push(make("svg:path", {
      d: path, fill: "none", stroke: mine ? "var(--accent)" : lives ? "var(--soft)" : "var(--dead)",
      "stroke-width": mine ? 2.6 : lives ? 1.5 : 1, "stroke-linecap": "round",
    }));
  }
  const values = rewards.flatMap((event) => event.reward);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const dots = rewards.flatMap((event) => event.slots.map((slot, place) => {
    if (!shown.includes(slot)) return null;
    const dot = make("svg:circle", {
      cx: x(event.step), cy: y(slot), r: Math.min(5, gap / 3), stroke: "var(--ground)", "stroke-width": 1,
      fill: viridis(high > low ? (event.reward[place] - low) / (high - low) : 0.5),
    });
    dot.append(make("svg:title", {}, `particle ${slot}, after ${event.step} steps: ${number(event.reward[place])}`));
    return dot;
  }));
  const names = shown.map((slot, place) => (shown.length <= 24 || place % 4 === 0
    ? make("svg:text", { x: LEFT - 12, y: y(slot) + 4, "text-anchor": "end" }, String(slot)) : null));
  const height = 12 + gap * shown.length + 16;
  const marks = [];
  if (values.length) {
    for (let i = 0; i <= 20; i += 1) {
      marks.push(make("svg:rect", {
        x: WIDE - 14, y: 8 + ((height - 44) * (20 - i)) / 21, width: 6, height: (height - 44) / 21 + 0.6, fill: viridis(i / 20),
      }));
    }
    marks.push(make("svg:text", { x: WIDE - 11, y: 4, "text-anchor": "middle" }, number(high, 2)));
    marks.push(make("svg:text", { x: WIDE - 11, y: height - 22, "text-anchor": "middle" }, number(low, 2)));
  }
  return make("svg:svg", { class: "chart", viewBox: `0 0 ${WIDE} ${height}`, role: "img", "aria-label": "Genealogy of the particles" },
    back, front, dots, names, marks, axisX(trace, height - 2));
}

function curves(trace) {
  const rewards = eventsOf(trace, "reward");
  const weighed = (trace.events || []).filter((event) => typeof event.ess === "number");
  if (!rewards.length && !weighed.length) return null;
  const x = scaleX(trace), height = 170, bottom = height - 20;
  const mean = rewards.map((event) => [event.step, event.reward.reduce((a, b) => a + b, 0) / event.reward.length]);
  const best = rewards.map((event) => [event.step, Math.max(...event.reward)]);
  const values = [...mean, ...best].map((point) => point[1]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const y = (value) => bottom - (bottom - 10) * ((value - low) / (high - low));
  const yEss = (value) => bottom - (bottom - 10) * (value / Math.max(1, trace.particles));
  const parts = [];
  const draw = (points, color, dash) => {
    if (!points.length) return;
    parts.push(make("svg:polyline", {
      points: points.map((point) => point.join(",")).join(" "), fill: "none", stroke: color, "stroke-width": 2,
      "stroke-linejoin": "round", "stroke-dasharray": dash,
    }));
    for (const [cx, cy] of points) parts.push(make("svg:circle", { cx, cy, r: 2.6, fill: color }));
  };
  parts.push(make("svg:line", { x1: LEFT, x2: WIDE - RIGHT, y1: bottom + 4, y2: bottom + 4, stroke: "var(--line)" }));
  draw(weighed.map((event) => [x(event.step), yEss(event.ess)]), "#d9822b", "2 4");
  draw(best.map(([step, value]) => [x(step), y(value)]), "#2c9c6a", "6 3");
  draw(mean.map(([step, value]) => [x(step), y(value)]), "var(--accent)");
  if (values.length) {
    parts.push(make("svg:text", { x: LEFT - 8, y: y(high) + 4, "text-anchor": "end" }, number(high, 2)));
    parts.push(make("svg:text", { x: LEFT - 8, y: y(low) + 4, "text-anchor": "end" }, number(low, 2)));
  }
  if (weighed.length) {
    for (const value of [0, trace.particles]) {
      parts.push(make("svg:text", { x: WIDE - RIGHT + 8, y: yEss(value) + 4 }, String(value)));
    }
  }
  const legend = make("div", { class: "legend" },
    rewards.length ? [["mean reward", "var(--accent)", "solid"], ["best reward", "#2c9c6a", "dashed"]].map(sample) : null,
    weighed.length ? sample(["effective sample size (right)", "#d9822b", "dotted"]) : null);
  return make("div", {}, legend,
    make("svg:svg", { class: "chart", viewBox: `0 0 ${WIDE} ${height}`, role: "img", "aria-label": "Rewards and effective sample size by step" },
      parts, axisX(trace, height)));
}

function sample([name, color, style]) {
  return make("span", {}, make("i", { style: `border-color:${color};border-style:${style} none none` }), name);
}
