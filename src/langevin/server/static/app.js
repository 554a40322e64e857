// Shows the view that the address names.
import { NeedsKey, el, forget } from "/page/lib.js";
import { train, training } from "/page/training.js";
import { check, compare, create, gallery, jobs, reviews, run, runs } from "/page/views.js";

const VIEWS = { "": runs, create, compare, runs, train, gallery, jobs, reviews, check };
const main = document.getElementById("main");
let leave = () => {};

function keyForm(message) {
  const input = el("input", { type: "password", id: "key", autocomplete: "off", required: true });
  const form = el("form", { onsubmit: (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", input.value);
    show();
  } }, el("p", { class: "error" }, message), el("div", {}, el("label", { for: "key" }, "API key"), input),
  el("div", {}, el("button", { class: "main" }, "Use this key")));
  return [el("h1", {}, "This server needs a key"), form];
}

// The place of the address: #/runs/digits?steps=3 -> ["runs", ["digits"], parameters].
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return [name, rest, new URLSearchParams(query || "")];
}

async function show() {
  leave();
  forget();
  const stop = new AbortController();
  leave = () => stop.abort();
  const [name, rest, parameters] = place();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name || "runs"}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const single = rest.length ? { runs: run, train: training }[name] : null;
  const view = single || VIEWS[name] || runs;
  main.replaceChildren(el("p", { class: "hint" }, "Loading"));
  try {
    const parts = await view({ rest, parameters, signal: stop.signal });
    if (!stop.signal.aborted) main.replaceChildren(...parts);
  } catch (error) {
    if (stop.signal.aborted) return;
    main.replaceChildren(...(error instanceof NeedsKey ? keyForm(error.message)
      : [el("h1", {}, "This did not work"), el("p", { class: "error" }, error.message)]));
  }
  document.title = `${main.querySelector("h1")?.textContent || "langevin"} - langevin`;
}

window.addEventListener("hashchange", () => { show().then(() => main.focus()); });
show();
