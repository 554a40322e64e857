// What the views share: elements, requests, events.

// An element: el("p", { class: "hint" }, "text", child, ...). Text is never read as HTML.
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function say(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { status.textContent = ""; }, 4000);
}

function headers() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// A response of the server; an error's message is thrown. Reading that comes too fast for its key is repeated.
export async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...(options.headers || {}) } });
  if (response.ok) return response;
  if (response.status === 429 && !options.method && (options.tries ?? 20) > 0) {
    const seconds = Number(response.headers.get("Retry-After") || 1);
    await new Promise((done) => { setTimeout(done, 1000 * seconds * (0.5 + Math.random())); });
    return ask(path, { ...options, tries: (options.tries ?? 20) - 1 });
  }
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error.message; } catch { /* it is no JSON */ }
  if (response.status === 401) throw new NeedsKey(message);
  throw new Error(message);
}

export class NeedsKey extends Error {}

export async function get(path) { return (await ask(path)).json(); }

export async function post(path, body) {
  return (await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
}

// A file of the server as an address for <img> and <audio>, which cannot send a key.
export async function blob(path) {
  const made = URL.createObjectURL(await (await ask(path)).blob());
  addresses.push(made);
  return made;
}

const addresses = [];

// Release the files of the view that is left.
export function forget() { for (const one of addresses.splice(0)) URL.revokeObjectURL(one); }

export function withKey() { return sessionStorage.getItem("key") !== null; }

// Call heard(kind, data) for every event of a job until it ends or the signal aborts.
export async function listen(path, heard, signal) {
  const reader = (await ask(path, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
        const at = line.indexOf(": ");
        return [line.slice(0, at), line.slice(at + 2)];
      }));
      if (fields.event) await heard(fields.event, JSON.parse(fields.data));
    }
  }
}
