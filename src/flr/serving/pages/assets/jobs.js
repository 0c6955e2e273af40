// Work that the page does: of each kind only the latest; what goes wrong is told in its place.

import { Problem } from "./api.js";
import { count, showProblem } from "./elements.js";

const running = {};
let refuse = null;

/** Say what is done where the server asks for a key: told the problem; it returns whether it does anything. */
export const whenRefused = (act) => (refuse = act);

/** Return a signal that is aborted when the same kind of work begins anew. */
export function begin(kind) {
  running[kind]?.abort();
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
    if (problem.name === "AbortError") return;
    if (!(problem instanceof Problem)) throw problem;
    failed();
    if (problem.status !== 401 || !refuse?.(problem)) showProblem(place, problem, again);
  }
}

/** Return what tells somebody that the server is asked again. */
export const waitingBy = (tell) => (seconds, reason) => {
  if (seconds !== null) tell(`${reason}. Asking again in ${count(seconds, "second")}.`);
};
