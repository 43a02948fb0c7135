// Data come as scripts that call steer.take(kind, number, data). Nothing of them is ever read as HTML.

const COLUMNS = ["run", "prompt", "category", "id", "file", "seed", "slot", "reward", "judged", "width", "height",
  "piece", "number", "thumbPiece", "thumbPlace", "words"];

const steer = {
  head: null,
  entries: [],
  pieces: new Map(),
  waiting: new Map(),

  take(kind, number, data) {
    if (kind === "head") this.head = data;
    else if (kind === "rows") for (const row of data) this.entries.push(entryOf(row, this.entries.length));
    else {
      this.pieces.set(number, data);
      while (this.pieces.size > 60) this.pieces.delete(this.pieces.keys().next().value);
    }
  },

  // Returns a promise of a piece of details or thumbnails; each is loaded once.
  piece(kind, number) {
    if (this.pieces.has(number)) return Promise.resolve(this.pieces.get(number));
    if (!this.waiting.has(number)) {
      this.waiting.set(number, new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = `page/${kind}-${String(number).padStart(5, "0")}.js${version}`;
        script.onload = script.onerror = () => {
          script.remove();
          this.waiting.delete(number);
          resolve(this.pieces.get(number) || []);
        };
        document.head.append(script);
      }));
    }
    return this.waiting.get(number);
  },
};

let version = "";

function entryOf(row, index) {
  const entry = { index };
  COLUMNS.forEach((name, place) => { entry[name] = row[place]; });
  return entry;
}

const textOf = (entry) => steer.head.prompts[entry.prompt];
const runOf = (entry) => steer.head.runs[entry.run];
const pathOf = (entry) => (runOf(entry).folder ? `${runOf(entry).folder}/` : "") + entry.file;
const urlOf = (path) => path.split("/").map(encodeURIComponent).join("/");

function runLabel(run) {
  return run.folder || (run.methods || []).join(" + ") || "plain";
}

const isText = (entry) => entry.words !== null && entry.words !== undefined;
const isVideo = (entry) => entry.file.endsWith(".mp4");
const kindOf = (entry) => (isText(entry) ? "text" : isVideo(entry) ? "video" : "image");

// The word for the samples of the page, which may be of several kinds.
function noun() {
  const kinds = new Set(steer.entries.map(kindOf));
  return kinds.size > 1 ? "samples" : `${[...kinds][0] || "image"}s`;
}

// Makes a picture of an entry: its thumbnail if there is one, else the file itself; for a text, its words.
function picture(entry, height, whole = false) {
  const style = height ? `height:${height}px` : null;
  if (isText(entry)) return make("span", { class: "picture words", dir: "auto", style }, entry.words);
  const url = urlOf(pathOf(entry)), look = { class: entry.width && entry.width <= 256 ? "pixels" : null };
  const bare = whole || entry.thumbPiece < 0;
  const element = isVideo(entry)
    ? make("video", { ...look, "aria-label": textOf(entry), loop: true, playsinline: true, preload: bare ? "metadata" : "none", controls: whole })
    : make("img", { ...look, alt: textOf(entry), decoding: "async" });
  if (isVideo(entry)) element.muted = true;
  if (isVideo(entry) || bare) element.src = url;
  if (!bare) {
    steer.piece("thumbs", entry.thumbPiece).then((thumbs) => {
      const data = thumbs[entry.thumbPlace];
      if (data) element[isVideo(entry) ? "poster" : "src"] = `data:image/webp;base64,${data}`;
      else if (!isVideo(entry)) element.src = url;
    });
  }
  return make("span", { class: isVideo(entry) ? "picture clip" : "picture", style }, element);
}

// Plays a clip within an element while it is pointed at or has the focus; the whole link, not the clip, is pointed at.
function playing(element) {
  const clip = element.querySelector("video");
  if (!clip) return element;
  const play = () => clip.play().catch(() => {});  // refused, or left before it began
  const rest = () => { clip.pause(); clip.currentTime = 0; };
  for (const event of ["pointerenter", "focusin"]) element.addEventListener(event, play);
  for (const event of ["pointerleave", "focusout"]) element.addEventListener(event, rest);
  return element;
}
