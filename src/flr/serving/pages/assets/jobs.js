// Work that the page does: of each kind only the latest; what goes wrong is told in its place.

import { NO_CONNECTION, Problem } from "./api.js";
import { count, showProblem } from "./elements.js";

const running = {};
/** Kind of work -> how to do again what failed because the server could not be reached. */
const unreached = new Map();
let refuse = null;

/** Say what is done where the server asks for a key: told the problem; it returns whether it does anything. */
export const whenRefused = (act) => (refuse = act);

/** Return a signal that is aborted when the same kind of work begins anew. */
export function begin(kind) {
  running[kind]?.abort();
  unreached.delete(kind);
  running[kind] = new AbortController();
  return running[kind].signal;
}

/** End all work that is under way. */
export const endAll = () => Object.keys(running).forEach(begin);

/** Do some work, and show in a place what goes wrong, after failed(). Work of its kind that begins later ends it. */
export async function attempt(kind, place, work, { again, failed = () => {} }) {
  const signal = begin(kind);
  try {
    place.replaceChildren();
    await work(signal);
  } catch (problem) {
    if (signal.aborted || problem.name === "AbortError") return;
    const told = problem instanceof Problem ? problem : failure(problem);
    if (told.title === NO_CONNECTION && again) unreached.set(kind, again);
    failed(told);
    if (told.status !== 401 || !refuse?.(told)) showProblem(place, told, again);
  }
}

function failure(error) {
  console.error(error);
  return new Problem({ title: "The page failed", detail: `What the server answered could not be shown (${error}).` });
}

/** Return what tells in a place that the server is asked again, and afterwards what it said meanwhile. */
export function waitingIn(place, meanwhile = "") {
  let told = null;
  return (seconds, reason) => {
    if (seconds !== null) place.textContent = told = `${reason}. Asking again in ${count(seconds, "second")}.`;
    else if (place.textContent === told) place.textContent = meanwhile; // else something newer is told there
  };
}

window.addEventListener("online", () => [...unreached.values()].forEach((again) => again()));
