// A text's tokens step by step, along its ancestors; new ones are marked.

const TRAIL_ROWS = 24;

// Returns the slot that a particle's content was in when a step had begun: after the resampling at that step.
function slotAt(resamplings, slot, step) {
  for (const event of [...resamplings].reverse()) {
    const place = event.step > step ? event.slots.indexOf(slot) : -1;
    if (place >= 0) slot = event.ancestors[place];
  }
  return slot;
}

function tokenTrail(trace, slot) {
  const frames = trace ? eventsOf(trace, "tokens") : [];
  if (!frames.length) return [];
  const resamplings = eventsOf(trace, "resample"), stride = Math.ceil(frames.length / TRAIL_ROWS), rows = [];
  let before = [];
  frames.forEach((frame, number) => {
    if (number % stride && number !== frames.length - 1) return;
    const place = frame.slots.indexOf(slotAt(resamplings, slot, frame.step)), tokens = frame.tokens[place];
    if (!Array.isArray(tokens)) return;
    rows.push(make("li", {}, make("b", {}, String(frame.step)), make("span", { dir: "auto" },
      tokens.flatMap((token, at) => [make("i", { class: token === null ? "masked" : before[at] === token ? null : "fresh" }, token === null ? " " : token), " "]))));
    before = tokens;
  });
  if (rows.length < 2) return [];
  return [make("h3", {}, "Intermediate steps ", make("small", {}, "its tokens by steps done; gray ones are masked, colored ones are new")),
    make("ol", { class: "trail" }, rows)];
}
