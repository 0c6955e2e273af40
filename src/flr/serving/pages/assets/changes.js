// How a list differs from the one that it is compared with.

import { el } from "./elements.js";

export const tag = (kind, text) => el("span", { class: `tag ${kind}` }, text);

/**
 * Compare a list with one before it. Returns mark(item, place), what stands beside an item of it; gone, the items that
 * drop out of the one before; and how many are new and moved.
 */
export function compared(before, after) {
  const places = new Map(before.map((item, place) => [item.item_id, place]));
  const kept = new Set(after.map((item) => item.item_id));
  const mark = (item, place) => {
    if (!places.has(item.item_id)) return tag("new", "new");
    const by = places.get(item.item_id) - place;
    return by === 0 ? null : tag("moved", by > 0 ? `↑ ${by}` : `↓ ${-by}`);
  };
  const nNew = after.filter((item) => !places.has(item.item_id)).length;
  const nMarked = after.filter(mark).length;
  return { mark, gone: before.filter((item) => !kept.has(item.item_id)), nNew, nMoved: nMarked - nNew };
}
