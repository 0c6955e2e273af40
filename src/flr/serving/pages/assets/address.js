// What is asked for, as the fragment of the page's address: kept over a reload and in the browser's history, and never
// sent to the server.

/** Length of a list that goes without saying. */
const USUAL_LENGTH = 10;
const NAMES = ["item", "k", "seen", "weights", "diversify", "where"];

/**
 * Return the address of the page where these are asked for.
 * ids: of the history, oldest first. asked: fields of a request.
 */
export function addressOf(ids, { k, exclude_seen: excludeSeen, factor_weights: weights, diversify, filters }) {
  const said = new URLSearchParams(ids.map((id) => ["item", id]));
  if (k !== USUAL_LENGTH) said.set("k", k);
  if (!excludeSeen) said.set("seen", "1");
  if (weights) said.set("weights", weights.join(" "));
  if (diversify) said.set("diversify", diversify);
  if (filters) said.set("where", JSON.stringify(filters.where));
  return `${location.pathname}${location.search}${String(said) && `#${said}`}`;
}

/** Return what `addressOf` was told, of a fragment; null where it names a part of the page, or nothing known. */
export function readAddress(fragment) {
  const said = new URLSearchParams(fragment.replace(/^#/, ""));
  if ([...said.keys()].some((name) => !NAMES.includes(name))) return null;
  const asked = { k: Number(said.get("k") ?? USUAL_LENGTH), exclude_seen: !said.has("seen") };
  if (said.has("weights")) asked.factor_weights = said.get("weights").split(" ").map(Number);
  if (said.has("diversify")) asked.diversify = said.get("diversify");
  if (said.has("where")) asked.filters = { where: readWhere(said.get("where")) };
  return { ids: said.getAll("item"), asked };
}

function readWhere(text) {
  try {
    const where = JSON.parse(text);
    return Object.fromEntries(Object.entries(where ?? {}).filter(([, wanted]) => Array.isArray(wanted)));
  } catch {
    return {};
  }
}
