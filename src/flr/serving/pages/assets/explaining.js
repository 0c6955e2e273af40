// Why an item is recommended, and the lists with and without what is said to be the reason.

import { compared, tag } from "./changes.js";
import { byId, count, el, percent, portion, table, times, title } from "./elements.js";
import { fidelityPanel } from "./fidelity.js";

/** What the sources of probabilities are called. */
const SOURCES = {
  titles: "the title as written",
  votes: "the factors\u2019 votes",
  assistant: "a second opinion on the votes",
};

/** Return a factor's sign and name; the sign's colour is the same all over the page. */
export const factorName = (factor, name) =>
  el("span", { class: "factor" }, el("span", { class: `dot dot-${factor % 8}`, "aria-hidden": "true" }), title(name));

/**
 * Draw why an item is recommended. found: what /v1/explain says; names: of factors; test: how it is tested, see
 * `fidelityPanel`. before: what this returned of the item as it was steered before, null of another one: what somebody
 * compared and tested stays.
 */
export function drawWhy(found, names, test, before) {
  const drawn = { compared: before?.compared ?? null, panel: before?.panel ?? fidelityPanel() };
  byId("why-title").replaceChildren("Why ", title(found.item.title), "?");
  const factors = found.factors.map(({ factor, gate, contribution, without }) => {
    const words = names[factor];
    return { label: factorName(factor, words), words, nats: contribution, weight: gate, without };
  });
  const purchases = found.history
    .filter((one) => one.influence !== null)
    .map(({ title: words, attention, influence, without }) => {
      return { label: title(words), words, nats: influence, weight: attention, without };
    })
    .sort((left, right) => right.nats - left.nats);
  const sources = found.sources.map(({ source, weight, contribution, without }) => {
    const words = SOURCES[source];
    return { label: words, words, nats: contribution, weight, without };
  });
  const causes = [...factors, ...sources, ...purchases];
  const comparison = comparisonOf(found);
  const compare = (cause) => {
    causes.forEach((one) => one.button.setAttribute("aria-pressed", String(one === cause)));
    comparison.show(cause);
  };
  const choose = (cause) => {
    drawn.compared = cause.words;
    compare(cause);
    comparison.element.scrollIntoView({ block: "nearest" });
  };
  for (const one of causes) one.button = compareButton(one.words, () => choose(one));

  const most = Math.max(...causes.map((one) => Math.abs(one.nats)), 0);
  const hasWeights = factors.length > 0;
  const parts = [];
  byId("why-summary").textContent = summary(found);
  if (hasWeights) parts.push(effects("What each factor does", ["Factor", "Weight"], factors, most));
  if (sources.length) parts.push(effects("Where the probability comes from", ["Source", "Say"], sources, most));
  if (purchases.length) {
    const heads = hasWeights ? ["Purchase", "Attention"] : ["Purchase"];
    parts.push(effects("What each purchase does", heads, purchases, most));
  } else {
    parts.push(el("p", { class: "note" }, "It is the only purchase that is read: there is no list without it."));
  }
  if (causes.length) {
    const meaning = "Effect: how many times as probable the item is with it as without it.";
    parts.push(el("p", { class: "quiet" }, `${meaning} Effects need not multiply to anything.`));
    if (purchases.length) parts.push(drawn.panel.renew(test));
    parts.push(comparison.element);
    const strongest = causes.reduce((best, one) => (Math.abs(one.nats) > Math.abs(best.nats) ? one : best));
    compare(causes.find((one) => one.words === drawn.compared) ?? strongest);
  }
  byId("why-body").replaceChildren(...parts);
  return drawn;
}

function summary({ item, is_seen: isSeen, is_allowed: isAllowed, n_sharing: nSharing, n_unread: nUnread, history }) {
  const read = `${count(history.length, "item")} that ${history.length === 1 ? "is" : "are"} read`;
  const words = [`Rank ${item.rank.toLocaleString("en")}, probability ${percent(item.probability)}, after ${read}.`];
  if (nUnread) words.push(`${count(nUnread, "older item is", "older items are")} not read.`);
  if (isSeen) words.push("The history holds it.");
  if (!isAllowed) words.push("The filters leave it out.");
  if (nSharing > 1) words.push(`${nSharing} items share this title and divide its probability equally.`);
  return words.join(" ");
}

function compareButton(words, click) {
  const told = { "aria-pressed": "false", "aria-controls": "comparison" };
  const label = `Compare lists with and without ${words}`;
  return el("button", { type: "button", class: "small", ...told, "aria-label": label, on: { click } }, "Compare");
}

/** Return the table of what causes do; one has weights if its heads name a second column. */
function effects(caption, heads, causes, most) {
  const hasWeights = heads.length > 1;
  const row = ({ label, nats, weight, without, button }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, label),
      hasWeights ? el("td", { class: "figure" }, portion(weight)) : null,
      el("td", {}, el("span", { class: "with-bar" }, bar(nats, most), el("span", { class: "figure" }, times(nats)))),
      el("td", { class: "figure rank" }, without.rank.toLocaleString("en")),
      el("td", {}, button),
    );
  const all = [...heads, "Effect", el("span", { class: "rank" }, "Rank without"), "Lists"];
  return table(caption, all, causes.map(row), { class: "effects", ends: hasWeights ? [1, 3] : [2] });
}

/** Return a bar from the middle to the right for what speaks for the item, to the left for what speaks against it. */
function bar(nats, most) {
  const share = most > 0 ? Math.abs(nats) / most : 0;
  return el("span", { class: `effect ${nats >= 0 ? "for" : "against"}`, share, "aria-hidden": "true" });
}

/** Return an element that compares lists, and show(cause), which compares them with and without a cause. */
function comparisonOf(found) {
  const [heading, told] = [el("h3"), el("p", { "aria-live": "polite" })]; // of the lists nobody wants to hear each line
  const lists = el("div", { class: "two" });
  const show = (cause) => {
    heading.replaceChildren("Without ", title(cause.words));
    told.replaceChildren(...inSentences(found.item, cause, compared(found.items, cause.without.items)));
    lists.replaceChildren(...beforeAfter(found, cause));
  };
  return { element: el("div", { class: "comparison", id: "comparison" }, heading, told, lists), show };
}

function inSentences(explained, { without }, { nNew }) {
  const fate = (rank, probability) => `rank ${rank.toLocaleString("en")} (${percent(probability)})`;
  const [after, before] = [fate(without.rank, Math.exp(without.log_prob)), fate(explained.rank, explained.probability)];
  const some = `${count(nNew, "item")} of the list ${nNew === 1 ? "changes" : "change"}.`;
  const changes = nNew ? some : "The list holds the same items.";
  return ["Without it, ", title(explained.title), ` has ${after}; with it, ${before}. ${changes}`];
}

function beforeAfter({ item: explained, items }, { without }) {
  const { mark, gone } = compared(items, without.items);
  const dropped = (item) => (gone.includes(item) ? tag("gone", "drops out") : null);
  const line = (item, note) =>
    el(
      "li",
      { class: item.item_id === explained.item_id ? "explained" : null },
      el("span", { class: "grow" }, title(item.title), note),
      el("span", { class: "figure" }, percent(item.probability)),
    );
  const list = (heading, ranked, note) => {
    const lines = ranked.map((item, place) => line(item, note(item, place)));
    return el("div", {}, el("h4", {}, heading), el("ol", { class: "plain" }, lines));
  };
  return [list("With it", items, dropped), list("Without it", without.items, mark)];
}
