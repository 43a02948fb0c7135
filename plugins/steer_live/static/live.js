"use strict";
// Puts the page together.

async function setUp() {
  picks.load();
  wire();
  try {
    form.setUp(await call("api/about"));
    byId("model").textContent = `${form.about.model}, ${form.about.device}`;
    watch();
  } catch (error) {
    say(error.message);
  }
}

// Shows how all jobs stand: as the page is opened, and when the server is back.
async function survey() {
  const found = await call("api/jobs").catch((error) => say(error.message));
  if (!found) return;
  earlier.set(found.jobs);
  const open = found.jobs.filter((job) => ["queued", "running"].includes(job.status) && job.origin === "page");
  for (const job of open.reverse()) if (!runs.shown.has(job.id)) runs.add([job]);
  running = (found.jobs.find((job) => job.status === "running") || { id: null }).id;
  tellState(found.waiting);
  document.documentElement.dataset.ready = "true";
}

function wire() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(byId("run"), async () => {
      const made = runs.add((await form.send()).jobs);
      if (innerWidth < 900) made[0].element.scrollIntoView({ block: "start" });
    });
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
  });
  byId("older").addEventListener("click", () => { earlier.shown += 48; earlier.show(); });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
}

// Follows all jobs, those of the API and of other pages too.
function watch() {
  const job = ({ job: one, waiting }) => {
    if (one.status === "running") running = one.id;
    else if (running === one.id) running = null;
    tellState(waiting);
    const run = runs.shown.get(one.id);
    if (run && one.status === "running") run.update(one);
    earlier.put(one);
  };
  follow("api/events", { events: { job }, open: survey, lost: () => { byId("state").textContent = "no connection"; } });
}

let running = null;  // the id of the job that runs

function tellState(waiting) {
  const parts = [running ? "running" : "idle"];
  if (waiting) parts.push(`${waiting} waiting`);
  byId("state").textContent = parts.join(", ");
}

document.addEventListener("DOMContentLoaded", setUp);
