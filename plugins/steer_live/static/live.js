"use strict";
// Puts the page together.

async function setUp() {
  picks.load();
  wire();
  let found;
  try {
    form.setUp(await call("api/about"));
    byId("model").textContent = `${form.about.model}, ${form.about.device}`;
    watch();
    found = await call("api/jobs");
  } catch (error) {
    say(error.message);
    return;
  }
  earlier.set(found.jobs);
  const open = found.jobs.filter((job) => ["queued", "running"].includes(job.status) && job.origin === "page");
  for (const job of open.reverse()) runs.add([job]);
  tellState(found.waiting, found.jobs.some((job) => job.status === "running"));
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
  let running = null;
  follow("api/events", {
    job: ({ job, waiting }) => {
      if (job.status === "running") running = job.id;
      else if (running === job.id) running = null;
      tellState(waiting, running !== null);
      const run = runs.shown.get(job.id);
      if (run && job.status === "running") run.update(job);
      earlier.put(job);
    },
  });
}

function tellState(waiting, running) {
  const parts = [running ? "running" : "idle"];
  if (waiting) parts.push(`${waiting} waiting`);
  byId("state").textContent = parts.join(", ");
}

document.addEventListener("DOMContentLoaded", setUp);
