"use strict";
// Calls of the server.

const byId = (id) => document.getElementById(id);

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw new Error("The server does not answer; is it still running?");
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body && body.error ? body.error.message : `The server answered ${answer.status}.`);
  return body;
}

const post = (path, data) => call(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data),
});

// Follows a stream of events; `handlers` are by kind. Returns a function that ends it.
function follow(path, handlers) {
  const source = new EventSource(path);
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  }
  return () => source.close();
}

const fileOf = (job, file) => `files/${job.id}/${file.key}`;
const detailsOf = (job, file) => `gallery/#image/${encodeURIComponent(`${job.id}/${file.file}`)}`;

function say(text) {
  byId("mistake").textContent = text;
  byId("mistake").hidden = !text;
}

// Runs what a button does; while it runs the button is off, and a failure is told where it cannot be missed.
async function attempt(button, action) {
  button.disabled = true;
  say("");
  try {
    await action();
  } catch (error) {
    say(error.message);
    byId("mistake").scrollIntoView({ block: "nearest" });
  } finally {
    button.disabled = false;
  }
}
