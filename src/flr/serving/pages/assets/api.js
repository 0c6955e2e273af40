// The server's API: asks, waits where the server is busy, and tells problems in words. The key lives in sessionStorage.

const KEY = "flr.key";
const MOST_TRIES = 4;
const LONGEST_WAIT_SECONDS = 30;
/** Title of the problem that the server cannot be reached. */
export const NO_CONNECTION = "No connection";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** model: the id of the model that answers, "" where any may. changed(): told when another one does. */
const served = { model: "", changed: () => {} };

/** Say what is done when another model answers than before; its answer is dropped. */
export const whenModelChanges = (act) => (served.changed = act);

/** What went wrong, as the server says it (RFC 9457), or that it could not be reached. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, type = "", request_id = "", errors = [] }) {
    super(detail);
    const name = type.split(":").pop();
    Object.assign(this, { title, detail, status, name, requestId: request_id, errors: errors ?? [] });
  }
}

/**
 * Return the answer of the server as an object.
 * body: sent as JSON with POST; without one the question is a GET.
 * signal: aborts. waiting(seconds, reason): told before another try; null when the wait is over.
 */
export async function ask(path, { body, signal, waiting = () => {} } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(path, body, signal);
    checkModel(response.headers.get("X-Flr-Model"));
    if (response.ok) return readJson(response);
    const problem = await problemOf(response);
    const seconds = Number(response.headers.get("Retry-After"));
    // An answer that came too late once comes too late again: nobody is helped by asking it anew.
    const again = (problem.status === 429 || problem.status === 503) && problem.name !== "too-late";
    if (!again || !(seconds > 0 && seconds <= LONGEST_WAIT_SECONDS) || attempt >= MOST_TRIES) {
      throw problem;
    }
    waiting(seconds, problem.status === 429 ? "The server is busy" : "The server is starting or stopping");
    try {
      await pause(seconds * 1000, signal);
    } finally {
      waiting(null);
    }
  }
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const detail = "The answer is no JSON; does something else answer in the server's place, such as a proxy?";
    throw new Problem({ title: "Unreadable answer", detail, status: response.status });
  }
}

function checkModel(model) {
  if (!model || model === served.model) return;
  const isOther = served.model !== "";
  served.model = model;
  if (!isOther) return;
  served.changed();
  throw new DOMException("another model answers", "AbortError");
}

async function send(path, body, signal) {
  const headers = { Accept: "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { headers, signal, credentials: "omit", cache: "no-store" };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: NO_CONNECTION, detail: "The server cannot be reached; is it running?" });
  }
}

async function problemOf(response) {
  try {
    return new Problem({ ...(await response.json()), status: response.status });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const { status } = response;
    return new Problem({ title: "Error", detail: `The server answered with status ${status}.`, status });
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
