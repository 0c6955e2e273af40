// Items by their ids: what has been met, and what the server is asked for.

import { ask } from "./api.js";
import { state } from "./state.js";

const met = new Map();

/** Keep in mind what items are called. */
export const meet = (items) => items.forEach((one) => met.set(one.item_id, { ...met.get(one.item_id), ...one }));

/** Forget all titles: another model may have others. */
export const forgetTitles = () => met.clear();

/**
 * Return the items that ids name, in their order, and the ids that name none.
 * model: what /v1/model says. options: of `ask`.
 */
export async function itemsOf(ids, model, options) {
  const strange = [...new Set(ids)].filter((id) => !met.has(id));
  const unknown = new Set();
  for (let from = 0; from < strange.length; from += model.limits.k) {
    const part = strange.slice(from, from + model.limits.k);
    // The best of just these items are these items, with their titles.
    const only = { k: part.length, exclude_seen: false, unknown: "skip", filters: { allow: part } };
    const { lists } = await ask("v1/recommend", { ...options, body: { histories: [part], ...only } });
    lists[0].skipped.forEach((id) => unknown.add(id));
    meet(lists[0].items.map(({ item_id, title }) => ({ item_id, title })));
  }
  // What is recommended no longer may be in a history all the same, and is in no list.
  const items = ids.filter((id) => !unknown.has(id)).map((id) => ({ item_id: id, title: met.get(id)?.title ?? id }));
  return { items, unknown: [...unknown] };
}

/** Return the ids of those items that share their title with another one. */
export function twins(items) {
  const ids = new Map();
  for (const { item_id: id, title } of items) ids.set(title, (ids.get(title) ?? new Set()).add(id));
  return new Set([...ids.values()].filter((some) => some.size > 1).flatMap((some) => [...some]));
}

/** Return in a line what is known of an item beside its title. withId: its id, too. */
export function describe({ item_id: id }, withId) {
  const known = met.get(id)?.attributes ?? {};
  const values = state.attributes.map((one) => known[one.name]).map((one) => (Array.isArray(one) ? one.join(", ") : one));
  const told = values.filter((one) => ["string", "number"].includes(typeof one) && one !== "");
  return [...(withId ? [`id ${id}`] : []), ...told].join(" · ");
}
