// The list: what is recommended, how probable it is, and what is said of it.

import { compared } from "./changes.js";
import { byId, count, el, percent, title } from "./elements.js";
import { factorName } from "./explaining.js";
import { keepingFocus } from "./focus.js";
import { state } from "./state.js";
import { describe, twins } from "./titles.js";
import { markExplained, toggleWhy } from "./why.js";

export const INVITATION = "Add a title to the history, and what comes next is shown here.";

export const say = (words) => (byId("status").textContent = words);

/**
 * Draw the list. items: best first. neutral: the list with all weights at 1, null where it is that or not known.
 * milliseconds: that it took. add(item): told what goes into the history.
 */
export function drawList(items, { neutral, milliseconds, add }) {
  const most = Math.max(...items.map((item) => item.probability), 0);
  const changes = neutral && compared(neutral, items);
  const same = twins([...items, ...state.history]);
  const about = (item) => (same.has(item.item_id) ? el("span", { class: "by" }, describe(item, true)) : null);
  const parts = (item, place) => ({ most, add, about: about(item), mark: changes?.mark(item, place) });
  const rows = items.map((item, place) => row(item, place, parts(item, place)));
  keepingFocus(byId("list"), () => byId("list").replaceChildren(...rows), byId("results"));
  tellList(items, Math.max(1, Math.round(milliseconds)), changes);
  markExplained();
}

/** Show no list, and nothing of one. */
export function clearList() {
  keepingFocus(byId("list"), () => byId("list").replaceChildren(), byId("results"));
  byId("list-note").hidden = byId("list-gone").hidden = true;
}

function row(item, place, { most, add, about, mark = null }) {
  const button = (sign, label, attributes, click) =>
    el("button", { type: "button", class: "small", "aria-label": label, ...attributes, on: { click } }, sign);
  const told = { "aria-expanded": "false", "aria-controls": "why", "data-item": item.item_id };
  const { factor = null } = item;
  const share = most > 0 ? item.probability / most : 0;
  return el(
    "li",
    {},
    el("span", { class: "number", "aria-hidden": "true" }, String(place + 1)),
    el(
      "span",
      { class: "grow" },
      title(item.title),
      mark,
      about,
      factor === null ? null : el("span", { class: "by" }, "picked by ", factorName(factor, state.names[factor])),
      el("span", { class: "bar", share, "aria-hidden": "true" }),
    ),
    el("span", { class: "figure" }, percent(item.probability)),
    state.history.length ? button("Why?", `Why ${item.title}?`, told, () => toggleWhy(item)) : null,
    button("+", `Add to the history: ${item.title}`, { title: "Add to the history" }, () => add(item)),
  );
}

function tellList(items, milliseconds, changes) {
  const { diversify, filters } = state.steering.asked();
  byId("list-note").hidden = !items.length;
  byId("filters-note").textContent = filters && !items.length ? "Nothing is left." : "";
  byId("list-gone").hidden = !changes?.gone.length;
  byId("list-gone").replaceChildren("Drops out: ", ...(changes?.gone ?? []).flatMap(separated));
  if (!state.history.length) {
    byId("list-note").textContent = "Percentages are of all that was taken in training.";
    const nothing = filters ? "Nothing is left; loosen the filters." : INVITATION;
    say(items.length ? `${INVITATION} Until then, this is what was taken most often.` : nothing);
    return;
  }
  const unraised = filters ? "; filters do not raise them" : "";
  const all = `Probabilities are over all ${count(state.model.n_items, "item")}${unraised}.`;
  const own = "Each probability is that of the model thinking in the factor alone that picked it, over all items.";
  byId("list-note").textContent = diversify ? own : all;
  const after = `after ${count(state.history.length, "item")} in ${milliseconds.toLocaleString("en")} ms`;
  if (items.length) say(`${count(items.length, "recommendation")} ${after}.${difference(changes)}`);
  else say(`Nothing is left to recommend${filters ? "; loosen the filters" : ": the history holds everything"}.`);
}

const separated = (item, place) => [place ? ", " : "", title(item.title)];

/** Return in words what the weights change. */
function difference(changes) {
  if (!changes) return "";
  const { nNew, nMoved } = changes;
  return ` Compared with all at 1: ${nNew || nMoved ? `${nNew} new, ${nMoved} moved` : "the same order"}.`;
}
