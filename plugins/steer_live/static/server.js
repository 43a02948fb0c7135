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

// Follows a stream of events, handled by kind; `open` and `lost` hear of the connection, which the browser restores by
// itself. Returns a function that ends it.
function follow(path, handlers) {
  const source = new EventSource(path);
  if (handlers.open) source.onopen = handlers.open;
  if (handlers.lost) source.onerror = handlers.lost;
  for (const [kind, handle] of Object.entries(handlers.events)) {
    source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  }
  return () => source.close();
}

const fileOf = (job, file) => `files/${job.id}/${file.key}`;
const detailsOf = (job, file) => `gallery/#image/${encodeURIComponent(`${job.id}/${file.file}`)}`;

// Shows a picture's pixels as they are where it is enlarged, and smoothly where it is shrunk.
function crisp(image) {
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= image.clientWidth));
  return image;
}

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
