// Items by their ids: what has been met, and what the server is asked for.

import { ask } from "./api.js";
import { state } from "./state.js";

/** Signs of ids that one address may hold, and ids. */
const MOST_SIGNS = 8000;
const MOST_IDS = 100;

const met = new Map();

/** Keep in mind what items are called. */
export const meet = (items) => items.forEach((one) => met.set(one.item_id, { ...met.get(one.item_id), ...one }));

/** Forget all titles: another model may have others. */
export const forgetTitles = () => met.clear();

/** Return the items that ids name, in their order, and the ids that name none. options: of `ask`. */
export async function itemsOf(ids, options) {
  const strange = [...new Set(ids)].filter((id) => !met.has(id));
  for (const part of parts(strange)) {
    const { items } = await ask(`v1/items?${new URLSearchParams(part.map((id) => ["item_id", id]))}`, options);
    meet(items);
  }
  const items = ids.filter((id) => met.has(id)).map((id) => ({ item_id: id, title: met.get(id).title }));
  return { items, unknown: strange.filter((id) => !met.has(id)) };
}

/** Return ids in parts, each as many as an address can hold. */
function parts(ids) {
  const found = [];
  let room = 0;
  for (const id of ids) {
    const signs = encodeURIComponent(id).length + "item_id=&".length;
    if (room < signs || found.at(-1)?.length === MOST_IDS) {
      found.push([]);
      room = MOST_SIGNS;
    }
    found.at(-1).push(id);
    room -= signs;
  }
  return found;
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
