// The pages: each is a function of { rest, parameters, signal } that gives its elements.
import { ask, blob, el, get, listen, post, say, withKey } from "/page/lib.js";
import { steering } from "/page/training.js";
import { optionsForm, samplesOf, shown } from "/page/form.js";

const hash = (path, values) => `#/${path}?${new URLSearchParams(values)}`;
const tag = (status) => el("span", { class: `tag ${status}` }, status.replace("_", " "));
const when = (seconds) => new Date(seconds * 1000).toLocaleString();

// ---------------------------------------------------------------------------------------------------------- create

function pair(id, label, attributes, hint) {
  const input = el("input", { id, ...attributes });
  return { input, element: el("div", {}, el("label", { for: id }, label), input, hint ? el("p", { class: "hint" }, hint) : null) };
}

// {elements, read()} for what every request has.
function commonForm(about, given) {
  const usual = about.sampling;
  const amount = pair("count", "Samples", { type: "number", min: 1, max: 64, value: given.count ?? 4 });
  const seed = pair("seed", "Seed", { type: "number", step: 1, value: given.seed ?? "" }, "Empty: a new one. Sample i has the seed plus i.");
  const steps = pair("steps", "Steps", { type: "number", min: 1, max: 10000, value: given.steps ?? usual.steps });
  const sampler = el("select", { id: "sampler" }, el("option", { value: "" }, `${usual.sampler} (the run's)`),
    about.samplers.filter((kind) => kind !== "learned").map((kind) => el("option", { value: kind }, kind)));
  sampler.value = given.sampler && about.samplers.includes(given.sampler) ? given.sampler : "";
  const weight = el("output", { for: "guidance" }, String(given.guidance ?? usual.guidance));
  const guidance = el("input", { id: "guidance", type: "range", min: 0, max: 6, step: 0.1, value: given.guidance ?? usual.guidance,
    oninput: () => { weight.textContent = guidance.value; } });
  const exact = el("input", { id: "reproducible", type: "checkbox" });
  exact.checked = given.reproducible === true || given.reproducible === "true";
  return {
    elements: [
      el("div", { class: "row" }, amount.element, seed.element),
      el("div", { class: "row" }, steps.element, el("div", {}, el("label", { for: "sampler" }, "Sampler"), sampler)),
      el("div", {}, el("label", { for: "guidance" }, "Guidance ", weight), guidance, el("p", { class: "hint" }, "1 is no guidance.")),
      el("label", { class: "check", for: "reproducible" }, exact, "The same bytes whatever else is served"),
    ],
    read: () => ({
      count: Number(amount.input.value), ...(seed.input.value === "" ? {} : { seed: Number(seed.input.value) }),
      ...(Number(steps.input.value) === usual.steps ? {} : { steps: Number(steps.input.value) }),
      ...(sampler.value ? { sampler: sampler.value } : {}),
      ...(Number(guidance.value) === usual.guidance ? {} : { guidance: Number(guidance.value) }), reproducible: exact.checked,
    }),
  };
}

async function chooser(given, parts, target) {
  const names = (await get("/v1/runs")).data.filter((one) => !one.error).map((one) => one.id);
  if (!names.length) throw new Error("No run is served. Train one: langevin train DATA");
  const name = names.includes(given) ? given : names[0];
  const select = el("select", { id: "model", onchange: () => { location.hash = `#/${target}/${encodeURIComponent(select.value)}`; } },
    names.map((one) => el("option", { value: one }, one)));
  select.value = name;
  parts.push(el("div", {}, el("label", { for: "model" }, "Run"), select));
  return get(`/v1/runs/${encodeURIComponent(name)}`);
}

function verbs(about, verb) {
  const select = el("select", { id: "verb", onchange: () => { location.hash = `#/create/${encodeURIComponent(about.id)}?verb=${select.value}`; } },
    Object.keys(about.verbs).map((one) => el("option", { value: one }, one)));
  select.value = verb;
  return el("div", {}, el("label", { for: "verb" }, "Make"), select);
}

export async function create({ rest, parameters, signal }) {
  const given = { ...Object.fromEntries(parameters), ...JSON.parse(parameters.get("request") || "{}") };
  const top = [];
  const about = await chooser(rest[0] || given.model, top, "create");
  const verb = given.verb in about.verbs ? given.verb : "sample";
  const options = optionsForm(about.verbs[verb], about.choices, given.options || {});
  const common = commonForm(about, given);
  if (Object.keys(about.verbs).length > 1) top.push(verbs(about, verb));
  const result = el("section", { "aria-label": "Result" }, el("p", { class: "hint" }, "Samples appear here while they are made."));
  const button = el("button", { class: "main" }, "Create");
  const form = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const body = { model: about.id, verb, ...common.read(), options: await options.values(), previews: 6 };
      await follow(await post("/v1/jobs", body), result, signal);
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    } finally { button.disabled = false; }
  } }, top, options.elements, common.elements, el("div", {}, button));
  return [el("h1", {}, "Create"), el("div", { class: "two" }, form, result)];
}

// Show a job while it is made: progress, previews, then its files.
async function follow(job, place, signal) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const line = el("p", { class: "hint" }, "Waiting");
  const cancel = el("button", { type: "button", onclick: () => ask(`/v1/jobs/${job.id}`, { method: "DELETE" }) }, "Cancel");
  const previews = new Map();
  const area = el("div", { class: "samples" });
  place.replaceChildren(el("h2", {}, "In the making"), bar, line, area, cancel);
  await listen(`/v1/jobs/${job.id}/events`, async (kind, data) => {
    if (kind === "progress" && data.total) {
      bar.max = data.total;
      bar.value = data.done;
      line.textContent = `${data.done} of ${data.total} function evaluations`;
    } else if (kind === "preview") {
      if (!previews.has(data.index)) {
        previews.set(data.index, el("figure", { class: "sample" }));
        area.append(previews.get(data.index));
      }
      const source = `data:${data.media_type};base64,${data.data}`;
      const name = `preview ${data.number + 1} of sample ${data.index + 1}`;
      const inside = data.media_type.startsWith("text/") ? el("pre", {}, decoded(data.data)) : shown(source, data.media_type, name);
      previews.get(data.index).replaceChildren(inside, el("figcaption", {}, name));
    } else if (kind === "job") {
      await finished(data, place);
    }
  }, signal);
}

function decoded(data) { return new TextDecoder().decode(Uint8Array.from(atob(data), (one) => one.charCodeAt(0))); }

async function finished(job, place) {
  if (job.status !== "completed") {
    place.replaceChildren(el("h2", {}, `The job is ${job.status}`), el("p", { class: "error", role: "alert" }, job.error?.message || ""));
    return;
  }
  const whole = await get(`/v1/jobs/${job.id}`);
  place.replaceChildren(...[el("h2", {}, "Samples"), el("div", { class: "samples" }, await samplesOf(whole)), commandOf(whole)].filter(Boolean));
  say("The samples are ready");
}

function commandOf(job) {
  if (!job.command) return null;
  const copy = el("button", { type: "button", onclick: async () => { await navigator.clipboard.writeText(job.command); say("Copied"); } }, "Copy");
  return el("div", {}, el("h2", {}, "The command that makes them again"), el("p", {}, el("code", {}, job.command)), copy);
}

// --------------------------------------------------------------------------------------------------------- compare

const AXES = { sampler: "Samplers", steps: "Steps", guidance: "Guidance", seed: "Seeds" };

export async function compare({ rest, signal }) {
  const top = [];
  const about = await chooser(rest[0], top, "compare");
  const options = optionsForm(about.verbs.sample, about.choices);
  const usual = { sampler: about.samplers.slice(0, 3).join(", "), steps: "5, 10, 20", guidance: "1, 2, 4", seed: "0, 1, 2" };
  const axis = (id, label, value) => {
    const select = el("select", { id }, Object.entries(AXES).map(([key, name]) => el("option", { value: key }, name)));
    select.value = value;
    const values = el("input", { id: `${id}-values`, value: usual[value], "aria-label": `Values of the ${label.toLowerCase()}` });
    select.addEventListener("change", () => { values.value = usual[select.value]; });
    return { select, values, element: el("div", {}, el("label", { for: id }, label), select, values, el("p", { class: "hint" }, "Separated by commas.")) };
  };
  const across = axis("across", "Columns", "steps");
  const down = axis("down", "Rows", "sampler");
  const result = el("section", { "aria-label": "Grid" });
  const button = el("button", { class: "main" }, "Compare");
  const form = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await grid(about, await options.values(), across, down, result, signal);
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    } finally { button.disabled = false; }
  } }, top, across.element, down.element, options.elements, el("div", {}, button));
  return [el("h1", {}, "Compare"), el("div", { class: "two" }, form, result)];
}

async function grid(about, options, across, down, place, signal) {
  const values = (axis) => axis.values.value.split(",").map((one) => one.trim()).filter(Boolean);
  const [columns, rows] = [values(across), values(down)];
  if (across.select.value === down.select.value) throw new Error("Choose two different things for columns and rows.");
  if (!columns.length || !rows.length || columns.length * rows.length > 60) throw new Error("Give 1 to 60 cells.");
  const typed = (axis, value) => ({ [axis.select.value]: axis.select.value === "sampler" ? value : Number(value) });
  const cells = rows.map((row) => columns.map((column) => ({ cell: el("td", {}, "..."), set: { ...typed(across, column), ...typed(down, row) } })));
  place.replaceChildren(el("div", { class: "scroll", tabindex: 0 }, el("table", {},
    el("caption", {}, `${about.id}: ${AXES[across.select.value].toLowerCase()} across, ${AXES[down.select.value].toLowerCase()} down`),
    el("thead", {}, el("tr", {}, el("td", {}), columns.map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, rows.map((row, i) => el("tr", {}, el("th", { scope: "row" }, row), cells[i].map((one) => one.cell)))))));
  const all = cells.flat().map(async ({ cell, set }) => {
    try {
      let job = await post("/v1/jobs", { model: about.id, count: 1, seed: 0, ...set, options });
      await listen(`/v1/jobs/${job.id}/events`, (kind, data) => { if (kind === "job") job = data; }, signal);
      if (job.status !== "completed") throw new Error(job.error?.message || job.status);
      cell.replaceChildren(...await samplesOf(job));
    } catch (error) {
      if (!signal.aborted) cell.replaceChildren(el("p", { class: "error" }, error.message));
    }
  });
  await Promise.all(all);
}

// ------------------------------------------------------------------------------------------------------------ runs

export async function runs() {
  const found = (await get("/v1/runs")).data;
  const cards = await Promise.all(found.map(async (one) => {
    const path = `#/runs/${encodeURIComponent(one.id)}`;
    if (one.error) return el("article", { class: "card" }, el("h2", {}, one.id), el("p", { class: "error" }, one.error));
    const image = one.preview?.endsWith(".png") ? el("img", { src: await blob(one.preview), alt: `newest preview of ${one.id}` }) : null;
    return el("article", { class: "card" }, el("h2", {}, el("a", { href: path }, one.id)), el("p", {}, one.description),
      el("p", { class: "hint" }, `${one.kind}, ${one.step} steps${one.steps ? ` of ${one.steps}` : ""} `, one.training ? tag("training") : null),
      image, el("p", {}, el("a", { href: `#/create/${encodeURIComponent(one.id)}` }, "Create with it")));
  }));
  return [el("h1", {}, "Runs"), cards.length ? el("div", { class: "cards" }, cards) : el("p", {}, "There is no run yet.")];
}

export async function run({ rest, signal }) {
  const base = `/v1/runs/${encodeURIComponent(rest[0])}`;
  const curve = el("div"), sheet = el("div"), head = el("p", { class: "hint" }), actions = el("div", { class: "actions" });
  const update = async () => {
    const about = (await get("/v1/runs")).data.find((one) => one.id === rest[0]);
    if (!about) throw new Error(`There is no run ${rest[0]}.`);
    if (about.error) throw new Error(about.error);
    head.replaceChildren(`${about.kind}. ${about.description}. ${about.step} steps${about.steps ? ` of ${about.steps}` : ""}. `, about.training ? tag("training") : "");
    curve.replaceChildren(...curves(await get(`${base}/metrics`)));
    await sheets((await get(`${base}/previews`)).data, sheet);
    if (actions.dataset.training !== String(about.training)) {
      actions.dataset.training = String(about.training);
      actions.replaceChildren(...steering(about));
    }
    return about;
  };
  const about = await update();
  const timer = setInterval(() => { if (!signal.aborted) update().catch((error) => say(error.message)); }, 3000);
  signal.addEventListener("abort", () => clearInterval(timer));
  const data = el("div"), report = el("div"), card = el("div");
  const describe = el("button", { type: "button", onclick: async () => {
    try {
      card.replaceChildren(el("pre", { class: "output" }, await (await ask(`${base}/card`)).text()));
    } catch (error) { card.replaceChildren(el("p", { class: "error" }, error.message)); }
  } }, "Show the model card");
  const inspect = el("button", { type: "button", onclick: async () => {
    inspect.disabled = true;
    data.replaceChildren(el("p", { class: "hint" }, "Reading the data"));
    try {
      data.replaceChildren(el("pre", {}, (await get(`${base}/data`)).lines.join("\n")));
    } catch (error) { data.replaceChildren(el("p", { class: "error" }, error.message)); }
  } }, "Show the data");
  const open = about.report ? el("button", { type: "button", onclick: async () => {
    // a frame cannot send a key
    report.replaceChildren(withKey() ? el("a", { class: "button", href: await blob(`${base}/report`), download: `${rest[0]}-report.html` }, "Save the report")
      : el("iframe", { src: `${base}/report`, title: `Report of ${rest[0]}`, sandbox: "" }));
  } }, "Show the report") : null;
  return [
    el("h1", {}, rest[0]), head, el("p", {}, el("a", { class: "button", href: `#/create/${encodeURIComponent(rest[0])}` }, "Create with it")),
    el("h2", {}, "Training"), actions, curve, el("h2", {}, "Samples through the training"), sheet, el("h2", {}, "Data"), inspect, data,
    open ? el("h2", {}, "Evaluation") : null, open, report,
    el("h2", {}, "Model card"), describe, card,
  ].filter(Boolean);
}

// The curves of a run: the loss of training, and, by another measure, the losses of both parts at evaluations.
function curves({ steps, evaluations }) {
  const loss = steps.filter((one) => one.smooth_loss !== null).map((one) => [one.step, one.smooth_loss]);
  const parts = ["train", "validation"].map((name) => evaluations.map((one) => [one.step, one[name]]));
  const held = parts[1];
  const best = held.length ? held.reduce((a, b) => (b[1] < a[1] ? b : a)) : null;
  if (loss.length < 2 && held.length < 2) return [el("p", { class: "hint" }, "No curve yet.")];
  const found = [];
  if (loss.length > 1) found.push(chart([loss], null, `loss ${loss.at(-1)[1].toPrecision(4)} at step ${loss.at(-1)[0]}`),
    el("p", { class: "hint" }, el("span", { class: "key" }), "loss of training, smoothed"));
  if (held.length > 1) found.push(chart(parts, best, `best held-out loss ${best[1].toPrecision(4)} at step ${best[0]}`),
    el("p", { class: "hint" }, el("span", { class: "key" }), "training part  ", el("span", { class: "key second" }), `held-out part, both the mean over noise levels; the dot is the best, step ${best[0]}`));
  return found;
}

function chart(lines, best, said) {
  const points = lines.flat();
  const [width, height, left, bottom] = [900, 220, 56, 28];
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [low, high] = range(points.map((one) => one[1]));
  const [from, to] = range(points.map((one) => one[0]));
  const x = (step) => left + ((step - from) / (to - from || 1)) * (width - left - 12);
  const y = (loss) => 12 + ((high - loss) / (high - low || 1)) * (height - bottom - 24);
  const svg = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const path = (line, kind) => svg("path", { class: kind, d: line.map((one, i) => `${i ? "L" : "M"}${x(one[0]).toFixed(1)} ${y(one[1]).toFixed(1)}`).join("") });
  const drawn = svg("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said });
  drawn.append(svg("line", { class: "axis", x1: left, x2: left, y1: 8, y2: height - bottom }), svg("line", { class: "axis", x1: left, x2: width, y1: height - bottom, y2: height - bottom }),
    svg("text", { x: 4, y: 18 }, high.toPrecision(3)), svg("text", { x: 4, y: height - bottom }, low.toPrecision(3)),
    svg("text", { x: left, y: height - 8 }, `step ${from}`), svg("text", { x: width - 12, y: height - 8, "text-anchor": "end" }, String(to)),
    ...lines.map((line, i) => path(line, i ? "second" : "first")));
  if (best) drawn.append(svg("circle", { class: "best", cx: x(best[0]), cy: y(best[1]), r: 5 }));
  return drawn;
}

async function sheets(previews, place) {
  const known = place.dataset.count;
  if (String(previews.length) === known) return;
  place.dataset.count = String(previews.length);
  if (!previews.length) { place.replaceChildren(el("p", { class: "hint" }, "No preview yet.")); return; }
  const shownAt = el("div"), note = el("output", { for: "step" });
  const slider = el("input", { id: "step", type: "range", min: 0, max: previews.length - 1, value: previews.length - 1 });
  const draw = async () => {
    const one = previews[Number(slider.value)];
    note.textContent = `step ${one.step}`;
    if (one.media_type.startsWith("text/")) shownAt.replaceChildren(el("pre", {}, await (await ask(one.url)).text()));
    else {
      const part = shown(await blob(one.url), one.media_type, `samples at step ${one.step}`);
      part.classList.add("sheet");
      shownAt.replaceChildren(part);
    }
  };
  slider.addEventListener("input", draw);
  place.replaceChildren(el("label", { for: "step" }, "Step of the training ", note), slider, shownAt);
  await draw();
}

// ------------------------------------------------------------------------------------------------- gallery and jobs

export async function gallery({ parameters }) {
  const after = parameters.get("after");
  const page = await get(`/v1/jobs?limit=24${after ? `&after=${encodeURIComponent(after)}` : ""}`);
  const jobs = page.data.filter((job) => job.status === "completed" && job.files.length);
  const cards = await Promise.all(jobs.map(async (job) => {
    const again = hash("create", { request: JSON.stringify(job.request) }).replace("#/create", `#/create/${encodeURIComponent(job.model)}`);
    const command = el("details", {}, el("summary", {}, "Command"));
    command.addEventListener("toggle", async () => {
      if (command.open && command.children.length === 1) command.append(commandOf(await get(`/v1/jobs/${job.id}`)) || el("p", {}, "This form of file carries none."));
    });
    return el("article", { class: "card" }, el("h2", {}, job.model), el("p", { class: "hint" }, when(job.created_at)),
      el("div", { class: "samples" }, await samplesOf({ ...job, files: job.files.slice(0, 4) })),
      el("p", {}, el("a", { href: again }, "Use these parameters")), command);
  }));
  const older = page.has_more ? el("p", {}, el("a", { class: "button", href: hash("gallery", { after: page.data.at(-1).id }) }, "Older ones")) : null;
  return [el("h1", {}, "Gallery"), cards.length ? el("div", { class: "cards" }, cards) : el("p", {}, "Nothing has been created yet."), older].filter(Boolean);
}

const WORK = ["train", "resume", "evaluate"];

export async function jobs({ signal }) {
  const body = el("tbody");
  const update = async () => {
    const found = (await get("/v1/jobs?limit=60")).data;
    body.replaceChildren(...found.map((job) => {
      const { done, total } = job.progress;
      const open = job.status === "queued" || job.status === "in_progress";
      const act = el("button", { type: "button", onclick: async () => { await ask(`/v1/jobs/${job.id}`, { method: "DELETE" }); await update(); } },
        open ? "Cancel" : "Forget", el("span", { class: "skip" }, ` job ${job.id}`));
      const name = WORK.includes(job.request.verb) ? el("a", { href: `#/train/${job.id}` }, `${job.request.verb} ${job.model}`) : job.model;
      return el("tr", {}, el("td", {}, name), el("td", {}, when(job.created_at)), el("td", {}, tag(job.status), job.error ? el("p", { class: "error" }, job.error.message) : null),
        el("td", {}, total ? `${done} of ${total}` : ""), el("td", {}, act));
    }));
    if (!found.length) body.replaceChildren(el("tr", {}, el("td", { colspan: 5 }, "No jobs.")));
  };
  await update();
  const timer = setInterval(() => { if (!body.contains(document.activeElement)) update().catch((error) => say(error.message)); }, 2000);
  signal.addEventListener("abort", () => clearInterval(timer));
  const heads = ["Run", "Created", "Status", "Function evaluations or steps", "Action"].map((name) => el("th", { scope: "col" }, name));
  return [el("h1", {}, "Jobs"), el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body))];
}

// ---------------------------------------------------------------------------------------------------------- review

export async function reviews() {
  const held = (await get("/v1/reviews")).data;
  const cards = held.map((job) => {
    const content = el("div", { class: "samples" });
    const look = el("button", { type: "button", onclick: async () => {
      const whole = await get(`/v1/reviews/${job.id}`);
      content.replaceChildren(...whole.content.map((file, i) => {
        const name = `held sample ${i + 1}`;
        const part = file.media_type.startsWith("text/") ? el("pre", {}, decoded(file.data)) : shown(`data:${file.media_type};base64,${file.data}`, file.media_type, name);
        part.classList.add("blurred");
        const clear = el("button", { type: "button", onclick: () => part.classList.toggle("blurred") }, "Blur or show");
        return el("figure", { class: "sample" }, part, clear);
      }));
    } }, "Look at it");
    const who = el("input", { id: `who-${job.id}`, required: true, value: localStorage.getItem("reviewer") || "" });
    const why = el("input", { id: `why-${job.id}`, required: true });
    const card = el("article", { class: "card" }, el("h2", {}, job.model), el("p", {}, `Held by ${job.review.check}: ${job.review.reason}`), look, content,
      el("form", { onsubmit: async (event) => {
        event.preventDefault();
        localStorage.setItem("reviewer", who.value);
        try {
          await post(`/v1/reviews/${job.id}`, { verdict: event.submitter.value, reviewer: who.value, reason: why.value });
          card.remove();
          say("The decision is written down");
        } catch (error) { say(error.message); }
      } }, el("div", {}, el("label", { for: who.id }, "Your name"), who), el("div", {}, el("label", { for: why.id }, "Reason"), why),
      el("div", {}, el("button", { value: "approve", class: "main" }, "Approve"), " ", el("button", { value: "reject" }, "Reject"))));
    return card;
  });
  return [el("h1", {}, "Held for review"), cards.length ? el("div", { class: "cards" }, cards) : el("p", {}, "Nothing is held.")];
}

// ------------------------------------------------------------------------------------------------------ provenance

export async function check() {
  const result = el("section", { "aria-live": "polite" });
  const read = async (file) => {
    result.replaceChildren(el("p", { class: "hint" }, "Reading"));
    try {
      const form = new FormData();
      form.append("file", file);
      const found = (await (await ask("/v1/content_provenance_checks", { method: "POST", body: form })).json()).results;
      const [own] = found.filter((one) => one.type === "embedded_recipe");
      const [signature] = found.filter((one) => one.type === "c2pa" && one.outcome === "detected");
      const signed = !signature ? [] : [el("h2", {}, `Signed manifest, ${signature.validation_state}`),
        el("p", {}, `By ${signature.issuer || "somebody unknown"}${signature.model ? `, with ${signature.model}` : ""}.`)];
      result.replaceChildren(...signed, ...(own.outcome === "detected" ? recipe(own.recipe) : [el("h2", {}, "No recipe in it"),
        el("p", {}, "The file does not say how it was made. That proves nothing: what a file says can be removed.")]),
      ...found.filter((one) => one.type === "noise_watermark").flatMap(watermark));
    } catch (error) { result.replaceChildren(el("p", { class: "error", role: "alert" }, error.message)); }
  };
  const input = el("input", { id: "file", type: "file", onchange: () => input.files[0] && read(input.files[0]) });
  const drop = el("div", { class: "drop",
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    ondragleave: () => drop.classList.remove("over"),
    ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]); },
  }, el("label", { for: "file" }, "Drop a .png, .wav or .mid file here, or choose one"), input);
  return [el("h1", {}, "How was this file made?"), drop, result];
}

// What the test for the watermark of this server says of one model.
function watermark(one) {
  const chance = `The chance of such a match without it is ${one.p_value.toExponential(1)}.`;
  return [el("h2", {}, one.outcome === "detected" ? `Watermark of ${one.model}, seed ${one.seed}` : `No watermark of ${one.model}`), el("p", {}, chance)];
}

function recipe(facts) {
  const rows = Object.entries(facts).map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name.replace("_", " ")), el("td", {}, el("code", {}, String(value)))));
  return [el("h2", {}, "What the file says"), el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("tbody", {}, rows))),
    el("p", { class: "hint" }, "Anyone can write such text into a file.")];
}
