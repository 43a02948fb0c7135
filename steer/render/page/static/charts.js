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

// For each stretch between resamplings, the slots whose content reaches the end; and those of one end slot.
function survivors(resamplings, slots) {
  const alive = [new Set(slots)];
  for (const event of [...resamplings].reverse()) {
    const before = new Set();
    event.slots.forEach((slot, place) => { if (alive[0].has(slot)) before.add(event.ancestors[place]); });
    for (const slot of alive[0]) if (!event.slots.includes(slot)) before.add(slot);
    alive.unshift(before);
  }
  return alive;
}

function genealogy(trace, chosen) {
  const resamplings = eventsOf(trace, "resample"), rewards = eventsOf(trace, "reward");
  const slots = [...new Set((trace.events || []).flatMap((event) => event.slots || []))].sort((a, b) => a - b);
  if (!slots.length) return null;
  const shown = slots.slice(0, 64);
  const gap = Math.max(9, Math.min(26, 420 / shown.length));
  const y = (slot) => 12 + gap * shown.indexOf(slot);
  const x = scaleX(trace);
  const edges = [0, ...resamplings.map((event) => event.step), trace.steps];
  const last = rewards.length ? rewards[rewards.length - 1].slots : slots;
  const alive = survivors(resamplings, last), line = survivors(resamplings, [chosen]);
  const back = [], front = [];
  edges.slice(0, -1).forEach((from, stretch) => {
    const event = stretch ? resamplings[stretch - 1] : null;
    for (const slot of shown) {
      const place = event ? event.slots.indexOf(slot) : -1;
      if (event && place < 0) continue;  // it was left out
      const parent = place >= 0 ? event.ancestors[place] : slot;
      if (!shown.includes(parent)) continue;
      const [x0, x1] = [x(from), x(edges[stretch + 1])];
      const bend = x0 + (x1 - x0) * 0.35, middle = (x0 + bend) / 2;
      const path = `M${x0} ${y(parent)}C${middle} ${y(parent)} ${middle} ${y(slot)} ${bend} ${y(slot)}L${x1} ${y(slot)}`;
      const mine = line[stretch].has(slot), lives = alive[stretch].has(slot);
      (mine || lives ? front : back).push(make("svg:path", {
        d: path, fill: "none", stroke: mine ? "var(--accent)" : lives ? "var(--soft)" : "var(--dead)",
        "stroke-width": mine ? 2.6 : lives ? 1.5 : 1, "stroke-linecap": "round",
      }));
    }
  });
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
