// Training from the page: start it, watch it, and ask a run that trains for samples, a checkpoint or its end.
import { ask, el, get, listen, post, say } from "/page/lib.js";

const place = (name) => `/v1/runs/${encodeURIComponent(name)}`;
const LINES = 200;

function input(id, label, attributes, hint) {
  const made = el("input", { id, ...attributes, ...(hint ? { "aria-describedby": `${id}-hint` } : {}) });
  return { made, element: el("div", {}, el("label", { for: id }, label), made, hint ? el("p", { class: "hint", id: `${id}-hint` }, hint) : null) };
}

function chooser(id, label, groups, hint) {
  const made = el("select", { id }, groups.map(([name, options]) => (options.length ? el("optgroup", { label: name }, options) : null)));
  return { made, element: el("div", {}, el("label", { for: id }, label), made, hint ? el("p", { class: "hint" }, hint) : null) };
}

// The form that starts a training.
export async function train() {
  const offered = await get("/v1/training");
  const own = (name) => el("option", { value: name }, name);
  const recipes = offered.recipes.filter((one) => !one.needs_data || offered.data.length);
  const target = chooser("target", "Train on", [["Your data", offered.data.map(own)], ["Recipes", recipes.map((one) => own(one.id))]]);
  const about = el("p", { class: "hint" });
  target.element.append(about);
  const data = chooser("data", "Data of the recipe", [["Your data", offered.data.map(own)]], "The recipe comes without data.");
  const minutes = input("minutes", "Minutes", { type: "number", min: 0.1, step: "any" }, "Empty: 10 for your data, else the recipe's.");
  const model = input("name", "Name", { maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" }, "Empty: the name of what is trained on.");
  const seed = input("seed", "Seed", { type: "number", min: 0, step: 1 }, "Empty: the recipe's.");
  const changes = el("textarea", { id: "changes", "aria-describedby": "changes-hint" });
  const choose = () => {
    const recipe = offered.recipes.find((one) => one.id === target.made.value);
    about.textContent = recipe ? recipe.description : "A network and its settings are chosen for the data, this machine and the time.";
    data.element.hidden = !recipe?.needs_data;
  };
  target.made.addEventListener("change", choose);
  choose();
  const failed = el("p", { class: "error", role: "alert" });
  const button = el("button", { class: "main" }, "Train");
  const form = el("form", { class: "narrow", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    const given = (one) => one.value.trim() || undefined;
    const body = {
      verb: "train", target: target.made.value, data: data.element.hidden ? undefined : data.made.value, model: given(model.made),
      minutes: given(minutes.made) && Number(minutes.made.value), seed: given(seed.made) && Number(seed.made.value),
      changes: changes.value.split(/\s+/).filter(Boolean),
    };
    try { location.hash = `#/train/${(await post("/v1/jobs", body)).id}`; } catch (error) { failed.textContent = error.message; }
    button.disabled = false;
  } }, target.element, data.element, minutes.element, model.element,
  el("details", {}, el("summary", {}, "More options"), seed.element,
    el("div", {}, el("label", { for: "changes" }, "Changes of the recipe"), changes, el("p", { class: "hint", id: "changes-hint" }, "One a line, such as network.width=128."))),
  failed, el("div", {}, button));
  const hint = offered.data.length ? null
    : el("p", { class: "hint" }, "For data of your own, start the server with a folder of it: langevin serve --data FOLDER. Its folders and files are offered here.");
  return [el("h1", {}, "Train"), hint, form].filter(Boolean);
}

// A job that trains or evaluates: what it prints, how far it is.
export async function training({ rest, signal }) {
  const path = `/v1/jobs/${encodeURIComponent(rest[0])}`;
  const job = await get(path);
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const line = el("p", { class: "hint", role: "status" }), actions = el("div", { class: "actions" });
  const output = el("pre", { class: "output", tabindex: 0, "aria-label": "Output" });
  let lines = job.lines;
  const print = () => {
    output.textContent = lines.join("\n") || "Nothing has been printed yet.";
    output.scrollTop = output.scrollHeight;
  };
  const shown = (one) => {
    const { done, total } = one.progress;
    bar.max = total || 1;
    bar.value = done;
    line.textContent = `${one.status.replace("_", " ")}${total ? `, ${done} of ${total}` : ""}${one.error ? `: ${one.error.message}` : ""}`;
    const open = one.status === "queued" || one.status === "in_progress";
    const stop = el("button", { type: "button", onclick: async () => {
      try {
        await ask(path, { method: "DELETE" });
        say("It stops after this step");
      } catch (error) { say(error.message); }
    } }, "Stop");
    const link = el("a", { class: "button", href: `#/runs/${encodeURIComponent(one.model)}` }, "Show the run");
    actions.replaceChildren(...(open ? [stop, link] : [link]));
  };
  shown(job);
  print();
  listen(`${path}/events`, (kind, data) => {
    if (kind === "output") {
      lines = [...lines, ...data.lines.split("\n").filter(Boolean)].slice(-LINES);
      print();
    } else if (kind === "progress") shown({ ...job, status: "in_progress", progress: data });
    else if (kind === "job") shown(data);
  }, signal).catch((error) => { if (!signal.aborted) line.textContent = error.message; });
  return [el("h1", {}, `${job.request.verb} ${job.model}`), bar, line, actions, output];
}

// What can be done with a run: one that trains is asked, one that was stopped goes on, one with a checkpoint is measured.
export function steering(about) {
  const ask = (action, label) => el("button", { type: "button", onclick: async () => {
    try {
      await post(`${place(about.id)}/requests`, { action });
      say(`${label}: after this step`);
    } catch (error) { say(error.message); }
  } }, label);
  const begin = (verb, label) => el("button", { type: "button", onclick: async () => {
    try { location.hash = `#/train/${(await post("/v1/jobs", { verb, model: about.id })).id}`; } catch (error) { say(error.message); }
  } }, label);
  if (about.training) return [ask("sample", "Sample now"), ask("save", "Save now"), ask("stop", "Stop")];
  return [about.steps && about.step < about.steps ? begin("resume", "Resume") : null, begin("evaluate", "Evaluate")].filter(Boolean);
}
