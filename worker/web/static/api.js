// Requests to the server; a failure is an error with one sentence.

/** A path with parameters; those that are empty are left out. */
export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export async function get(path, parameters = {}, signal = undefined) {
  return answer(await fetch(address(path, parameters), { signal }));
}

export async function post(path, document) {
  return answer(await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(document) }));
}

async function answer(response) {
  if (response.ok) return response.json();
  const text = await response.text();
  throw new Error(sentence(text) || `the server answered ${response.status}`);
}

function sentence(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text.slice(0, 500);
  }
}

/** Follow server-sent events; `show` gets each document, `trouble` is called when the connection is lost. */
export function follow(path, show, trouble) {
  const source = new EventSource(path);
  source.addEventListener("message", (event) => show(JSON.parse(event.data)));
  source.addEventListener("error", () => trouble());
  return source;
}
