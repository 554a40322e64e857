// The form of a run's own options, made from their JSON schema, and samples as they are shown everywhere.
import { ask, blob, el } from "/page/lib.js";

let count = 0;

// {element, value()} for a property of a schema; value() is undefined where nothing was given.
function field(name, schema, choices, given) {
  const id = `field-${count += 1}`;
  const kinds = (schema.anyOf || [schema]).filter((one) => one.type !== "null");
  const kind = kinds[0] || {};
  const hint = schema.description ? el("p", { class: "hint", id: `${id}-hint` }, schema.description) : null;
  const about = hint ? { "aria-describedby": `${id}-hint` } : {};
  const titled = (input) => el("div", {}, el("label", { for: id }, name), input, hint);
  if (schema.contentEncoding) {
    const many = kind.type === "array"; // files of one choice, in the order of their names
    const input = el("input", { id, type: "file", multiple: many, ...about });
    const own = async () => (!input.files[0] ? undefined : many ? Promise.all([...input.files].map(asData)) : asData(input.files[0]));
    if (!schema["x-mask-of"]) return { element: titled(input), input, value: own };
    const drawing = painter();
    return { element: el("div", {}, titled(input), drawing.element), input, maskOf: schema["x-mask-of"], drawing, value: async () => (await own()) ?? drawing.value() };
  }
  if (kind.type === "boolean") {
    const input = el("input", { id, type: "checkbox", ...about });
    input.checked = given ?? schema.default ?? false;
    return { element: el("div", {}, el("label", { class: "check", for: id }, input, name), hint), value: () => (input.checked === (schema.default ?? false) ? undefined : input.checked) };
  }
  if (kind.type === "array" && choices?.length) {
    const boxes = choices.map((choice) => {
      const box = el("input", { type: "checkbox", value: choice });
      box.checked = (given || []).includes(choice);
      return box;
    });
    const set = el("fieldset", about, el("legend", {}, name),
      el("div", { class: "choices" }, boxes.map((box) => el("label", { class: "check" }, box, box.value))), hint);
    return { element: set, value: () => list(boxes.filter((box) => box.checked).map((box) => box.value)) };
  }
  if (kind.type === "array") {
    const input = el("textarea", { id, ...about });
    input.value = (given || []).join("\n");
    const note = el("p", { class: "hint" }, "One a line.");
    return { element: el("div", {}, el("label", { for: id }, name), input, hint, note), value: () => list(input.value.split("\n").filter((line) => line.trim())) };
  }
  if (kind.enum?.length) {
    const none = kinds.length < (schema.anyOf || kinds).length ? [el("option", { value: "" }, "default")] : []; // null is one
    const input = el("select", { id, ...about }, none, kind.enum.map((one) => el("option", { value: one }, one)));
    input.value = given ?? schema.default ?? (none.length ? "" : kind.enum[0]);
    return { element: titled(input), value: () => (input.value === (schema.default ?? "") ? undefined : input.value) };
  }
  if (choices?.length) {
    const input = el("select", { id, ...about }, el("option", { value: "" }, "default"), choices.map((one) => el("option", { value: one }, one)));
    input.value = given ?? "";
    return { element: titled(input), value: () => input.value || undefined };
  }
  const number = kind.type === "number" || kind.type === "integer";
  const input = number ? el("input", { id, type: "number", step: kind.type === "integer" ? 1 : "any", ...about }) : el("textarea", { id, ...about });
  input.value = given ?? "";
  return { element: titled(input), value: () => (input.value === "" ? undefined : number ? Number(input.value) : input.value) };
}

// A canvas on which the part of an image that is drawn anew is painted: white there, black elsewhere.
function painter() {
  const seen = el("canvas", { class: "painter", role: "img", "aria-label": "Paint what is drawn anew; a mask can also be chosen as a file" });
  const mask = document.createElement("canvas");
  const size = el("input", { type: "range", min: 4, max: 60, value: 30, "aria-label": "Size of the brush, in percent of the image" });
  const clear = el("button", { type: "button", onclick: () => { fill(); show(); } }, "Clear");
  const element = el("div", { hidden: true }, seen, el("label", { class: "check" }, "Brush ", size), clear);
  let image = null, painted = false, down = false;
  const fill = () => {
    const pen = mask.getContext("2d");
    pen.fillStyle = "black";
    pen.fillRect(0, 0, mask.width, mask.height);
    painted = false;
  };
  const show = () => {
    const pen = seen.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(image, 0, 0, seen.width, seen.height);
    pen.globalAlpha = 0.6;
    pen.globalCompositeOperation = "lighten";
    pen.drawImage(mask, 0, 0);
    pen.globalAlpha = 1;
    pen.globalCompositeOperation = "source-over";
  };
  const paint = (event) => {
    if (!down) return;
    const box = seen.getBoundingClientRect();
    const pen = mask.getContext("2d");
    pen.fillStyle = "white";
    pen.beginPath();
    pen.arc(((event.clientX - box.left) / box.width) * mask.width, ((event.clientY - box.top) / box.height) * mask.height, (Number(size.value) / 200) * mask.width, 0, 7);
    pen.fill();
    painted = true;
    show();
  };
  seen.addEventListener("pointerdown", (event) => { down = true; seen.setPointerCapture(event.pointerId); paint(event); });
  seen.addEventListener("pointermove", paint);
  seen.addEventListener("pointerup", () => { down = false; });
  return {
    element,
    value: () => {
      if (!painted) return undefined;
      const full = document.createElement("canvas");
      full.width = image.width;
      full.height = image.height;
      full.getContext("2d").drawImage(mask, 0, 0, full.width, full.height);
      return full.toDataURL("image/png");
    },
    load: async (file) => {
      image = await createImageBitmap(file);
      seen.width = mask.width = 320;
      seen.height = mask.height = Math.round((320 * image.height) / image.width);
      fill();
      show();
      element.hidden = false;
    },
  };
}

function list(values) { return values.length ? values : undefined; }

async function asData(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

// {elements, values()} for the options of a verb.
export function optionsForm(schema, choices, given = {}) {
  const fields = Object.entries(schema.properties || {}).map(([name, one]) => [name, field(name, one, choices[name], given[name])]);
  for (const [, one] of fields.filter(([, one]) => one.maskOf)) {
    const source = fields.find(([name]) => name === one.maskOf)?.[1].input;
    source?.addEventListener("change", () => { if (source.files[0]) one.drawing.load(source.files[0]); });
  }
  const values = async () => {
    const found = {};
    for (const [name, one] of fields) {
      const value = await one.value();
      if (value !== undefined) found[name] = value;
    }
    return found;
  };
  const several = (name) => choices[name]?.length && schema.properties[name].type === "array";
  const set = fields.find(([name]) => several(name))?.[0];
  const usual = ([name], i) => i === 0 || name === set || given[name] !== undefined;
  const first = fields.filter(usual).map(([, one]) => one.element);
  const more = fields.filter((one, i) => !usual(one, i)).map(([, one]) => one.element);
  return { elements: more.length ? [...first, el("details", {}, el("summary", {}, "More options"), more)] : first, values };
}

// An element that shows a file of a media type.
export function shown(source, type, name) {
  if (type.startsWith("image/")) return el("img", { src: source, alt: name, loading: "lazy" });
  if (type.startsWith("audio/")) return el("audio", { controls: true, src: source, "aria-label": name });
  if (type.startsWith("video/")) return el("video", { controls: true, src: source, "aria-label": name });
  return el("a", { href: source, download: name, class: "button" }, `Download ${name}`);
}

// What a file of a job shows: a file of sample i is named by i with five digits, and by its part if there are several.
function caption(job, file) {
  const [, number, part] = /^(\d{5})(?:-(.*))?\.\w+$/.exec(file.name) || [];
  if (number === undefined) return `${file.name} `;
  return `seed ${job.request.seed + Number(number)}${part ? `, ${part}` : ""} `;
}

// The files of a finished job.
export async function samplesOf(job) {
  return Promise.all(job.files.map(async (file) => {
    const name = `${file.name} of ${job.model}`;
    if (file.media_type.startsWith("text/")) {
      const text = await (await ask(file.url)).text();
      return el("figure", { class: "sample" }, el("pre", {}, text), job.files.length > 1 ? el("figcaption", {}, caption(job, file)) : "");
    }
    const source = await blob(file.url);
    return el("figure", { class: "sample" }, shown(source, file.media_type, name),
      el("figcaption", {}, caption(job, file), el("a", { href: source, download: file.name }, "save")));
  }));
}
