// Lists that no factor is turned up or down for: what a steered list is compared with.

import { ask } from "./api.js";

const MOST_KEPT = 50;
const kept = new Map();

/** Keep a list for when it is steered. body: what was asked; version: of what is served. */
export function keepNeutral(body, version, items) {
  if (kept.size >= MOST_KEPT) kept.clear();
  kept.set(JSON.stringify([body, version]), items);
}

/** Return the list of a request without its weights, null where it cannot be had. */
export async function neutralList({ factor_weights: weights, ...body }, version, signal) {
  const known = kept.get(JSON.stringify([body, version]));
  if (known) return known;
  try {
    const { items } = (await ask("v1/recommend", { body, signal })).lists[0];
    keepNeutral(body, version, items);
    return items;
  } catch {
    return null; // the list itself says what is wrong
  }
}
