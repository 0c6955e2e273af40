// Lists that no factor is turned up or down for: what a steered list is compared with.

import { ask } from "./api.js";

const MOST_KEPT = 50;
const kept = new Map();

/** Keep a list for when it is steered. body: what was asked; version: of what is served. */
export function keepNeutral(body, version, items) {
  if (kept.size >= MOST_KEPT) kept.clear();
  kept.set(JSON.stringify([body, version]), items);
}

/** Return the list of a request without its weights if it is kept, else null. */
export const keptNeutral = ({ factor_weights: weights, ...body }, version) =>
  kept.get(JSON.stringify([body, version])) ?? null;

/** Return the list of a request without its weights from the server, null where it cannot be had. */
export async function askNeutral({ factor_weights: weights, ...body }, version, signal) {
  try {
    const { items } = (await ask("v1/recommend", { body, signal })).lists[0];
    keepNeutral(body, version, items);
    return items;
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    return null; // the list itself says what is wrong
  }
}
