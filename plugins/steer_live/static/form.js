"use strict";
// The form: what it offers, what it asks for, and how a run comes back into it.

const form = {
  about: null,
  file: false,

  setUp(about) {
    this.about = about;
    const methods = about.methods.map((method) => make("option", { value: method.name }, method.name));
    byId("method").replaceChildren(make("option", { value: "" }, "none (plain samples)"), ...methods);
    byId("versus").replaceChildren(make("option", { value: "-" }, "nothing"), make("option", { value: "" }, "plain samples"),
      ...methods.map((option) => option.cloneNode(true)));
    byId("rewards").replaceChildren(...about.rewards.map((reward) => make("option", { value: reward.name }, reward.summary)));
    byId("reward").value = about.reward || "";
    byId("method").value = about.method || (about.reward && this.method("fk") ? "fk" : "");
    byId("n-name").textContent = `${this.noun}s`;
    byId("steps").placeholder = about.steps;
    byId("guidance").placeholder = about.guidance;
    byId("size").closest("label").hidden = about.modality === "text";
    byId("method").addEventListener("change", () => this.changed());
    byId("versus").addEventListener("change", () => this.changed());
    for (const [id, file] of [["one", false], ["many", true]]) byId(id).addEventListener("click", () => this.choose(file));
    this.changed();
  },

  // The word for a sample of the model, such as "Image".
  get noun() {
    return this.about.modality[0].toUpperCase() + this.about.modality.slice(1);
  },

  method(name) {
    return this.about.methods.find((method) => method.name === name);
  },

  // Whether methods only choose, so that each sample can be made by itself.
  independent(names) {
    return names.every((name) => (this.method(name) || {}).independent);
  },

  choose(file) {
    this.file = file;
    byId("one").setAttribute("aria-pressed", String(!file));
    byId("many").setAttribute("aria-pressed", String(file));
    for (const id of ["prompt-label", "n-label", "versus-label"]) byId(id).hidden = file;
    byId("file-label").hidden = !file;
    byId("run").textContent = file ? "Render" : "Run";
  },

  changed() {
    const method = this.method(byId("method").value), other = this.method(byId("versus").value);
    byId("about-method").textContent = method ? method.summary : "";
    byId("budget").disabled = !(method && method.budget) && !(other && other.budget);
    byId("budget").placeholder = byId("budget").disabled ? "–" : "any";
    byId("particles").placeholder = this.about.particles || (method && method.least > 1 ? `≥ ${method.least}` : "usual");
    byId("options-help").hidden = !(method && method.options.length);
    byId("options-list").replaceChildren(...(method ? method.options : []).flatMap((option) => [
      make("dt", {}, make("code", {}, `${method.name}.${option.name}`)),
      make("dd", {}, option.meaning, " ", make("span", { class: "quiet" }, `${option.type}; ${option.default}`))]));
  },

  // Returns what is asked of a method; the budget and the options of another method are left out.
  way(name, other) {
    const asked = { method: name || null, reward: byId("reward").value.trim() || null }, method = this.method(name);
    for (const id of ["steps", "particles", "guidance"]) if (byId(id).value !== "") asked[id] = Number(byId(id).value);
    if (byId("budget").value !== "" && method && method.budget) asked.budget = Number(byId("budget").value);
    for (const id of ["size", "negative"]) if (byId(id).value.trim()) asked[id] = byId(id).value.trim();
    const options = parseOptions(byId("options").value);
    if (other !== name) delete options[other];
    if (Object.keys(options).length) asked.options = options;
    return asked;
  },

  // Returns the body of a request for runs of one prompt.
  asked() {
    const [name, other] = [byId("method").value, byId("versus").value], compared = other !== "-";
    const asked = { prompt: byId("prompt").value, steer: this.way(name, compared ? other : name) };
    if (compared) asked.versus = this.way(other, name);
    for (const id of ["n", "seed"]) if (byId(id).value !== "") asked[id] = Number(byId(id).value);
    if (byId("previews").value !== "") asked.previews = Number(byId("previews").value);
    return asked;
  },

  async send() {
    if (!this.file) return post("api/jobs", this.asked());
    const [file] = byId("file").files;
    if (!file) throw new Error("Choose a prompt file.");
    const asked = this.way(byId("method").value, byId("method").value), data = new FormData();
    if (byId("seed").value !== "") asked.seed = Number(byId("seed").value);
    data.append("steer", JSON.stringify(asked));
    data.append("file", file, file.name);
    return call("api/renders", { method: "POST", body: data });
  },

  // Puts a run's settings into the form.
  take(job) {
    const values = job.values, text = (value) => (value === null || value === undefined ? "" : String(value));
    this.choose(false);
    byId("prompt").value = job.prompt;
    byId("method").value = text(values.plugin[0]);
    byId("reward").value = (values.reward || []).join("+");
    for (const id of ["steps", "particles", "guidance", "size", "negative"]) byId(id).value = text(values[id]);
    byId("n").value = job.prompts > 1 ? job.prompts : "";
    byId("seed").value = text(job.seed);
    byId("budget").value = "";
    byId("versus").value = "-";
    byId("options").value = Object.entries(values.options || {}).flatMap(([owner, table]) =>
      Object.entries(table).map(([name, value]) => `${owner}.${name}=${value}`)).join("\n");
    this.changed();
    byId("prompt").focus();
  },
};

function parseOptions(text) {
  const options = {};
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const match = /^([^.=\s]+)\.([^=\s]+)\s*=\s*(.*)$/.exec(line);
    if (!match) throw new Error(`“${line}” is no option; write PLUGIN.OPTION=VALUE.`);
    options[match[1]] = { ...options[match[1]], [match[2]]: match[3] };
  }
  return options;
}
