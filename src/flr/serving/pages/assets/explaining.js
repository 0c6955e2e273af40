// Why an item is recommended, what each factor reads, and what it stands for.

import { byId, count, el, percent, table, times, title } from "./elements.js";

/** Return a factor's sign and name; the sign's colour is the same all over the page. */
export const factorName = (factor, name) =>
  el("span", { class: "factor" }, el("span", { class: `dot dot-${factor % 8}`, "aria-hidden": "true" }), title(name));

/** Return a bar from the middle to the right where something speaks for the item, to the left where against it. */
function effectBar(nats, most) {
  const side = nats >= 0 ? "for" : "against";
  return el("span", { class: `effect ${side}`, share: most > 0 ? Math.abs(nats) / most : 0, "aria-hidden": "true" });
}

/** Draw why an item is recommended. found: what /v1/explain says; names: of factors. */
export function drawWhy(found, names) {
  const { item, items } = found;
  byId("why-title").replaceChildren("Why ", title(item.title), "?");
  const factors = found.factors.map((one) => ({ ...one, label: factorName(one.factor, names[one.factor]), words: names[one.factor], nats: one.contribution, weight: one.gate }));
  const purchases = found.history
    .map((one) => ({ ...one, label: title(one.title), words: one.title, nats: one.influence, weight: one.attention }))
    .filter((one) => one.nats !== null)
    .sort((left, right) => right.nats - left.nats);
  const most = Math.max(...[...factors, ...purchases].map((one) => Math.abs(one.nats)), 0);
  const comparison = el("div", { class: "comparison", id: "comparison", "aria-live": "polite" });
  const buttons = [];

  const compare = (one, button) => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    comparison.replaceChildren(...beforeAfter(found, one));
  };
  const row = (one) => {
    const button = el("button", { type: "button", class: "small", "aria-pressed": "false", "aria-controls": "comparison", "aria-label": `Compare lists with and without ${one.words}` }, "Compare");
    button.addEventListener("click", () => compare(one, button));
    buttons.push(button);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, one.label),
      el("td", { class: "figure" }, one.weight === null ? "–" : percent(one.weight)),
      el("td", {}, el("span", { class: "with-bar" }, effectBar(one.nats, most), el("span", { class: "figure" }, times(one.nats)))),
      el("td", { class: "figure" }, `${one.without.rank}`),
      el("td", {}, button),
    );
  };
  const effects = (caption, first, weight, rows) => table(caption, [first, weight, "Effect", "Rank without", ""], rows.map(row), { class: "effects" });

  const parts = [el("p", {}, ...summary(found))];
  if (factors.length) parts.push(effects("What each factor does", "Factor", "Weight", factors));
  if (purchases.length) parts.push(effects("What each purchase does", "Purchase", factors.length ? "Attention" : "", purchases));
  else parts.push(el("p", { class: "note" }, "It is the only purchase that is read, so there is no list without it to compare."));
  if (buttons.length) {
    parts.push(el("p", { class: "quiet" }, "Effect: how many times as probable the item is with it as without it. Effects need not multiply to anything."), comparison);
  }
  byId("why-body").replaceChildren(...parts);
  const all = [...factors, ...purchases];
  if (all.length) {
    const strongest = all.reduce((best, one, place) => (Math.abs(one.nats) > Math.abs(all[best].nats) ? place : best), 0);
    compare(all[strongest], buttons[strongest]);
  }
}

function summary({ item, is_seen: isSeen, n_sharing: nSharing, n_unread: nUnread, history }) {
  const words = [`Rank ${item.rank.toLocaleString("en")}, probability ${percent(item.probability)}, after ${count(history.length, "item")} that ${history.length === 1 ? "is" : "are"} read.`];
  if (nUnread) words.push(` ${count(nUnread, "older item is", "older items are")} not read.`);
  if (isSeen) words.push(" The history holds it.");
  if (nSharing > 1) words.push(` ${nSharing} items share this title and divide its probability equally.`);
  return words;
}

function beforeAfter(found, one) {
  const { without } = one;
  const [entered, left] = [new Set(without.entered), new Set(without.left)];
  const old = new Map(found.items.map((item, place) => [item.item_id, place + 1]));
  const line = (item, tag, tagClass) =>
    el("li", { class: item.item_id === found.item.item_id ? "explained" : null }, el("span", { class: "grow" }, title(item.title)), tag ? el("span", { class: `tag ${tagClass}` }, tag) : null, el("span", { class: "figure" }, percent(item.probability)));
  const moved = (item, place) => {
    if (entered.has(item.item_id)) return ["new", "new"];
    const by = old.get(item.item_id) - place - 1;
    return by === 0 ? [null, ""] : [by > 0 ? `↑ ${by}` : `↓ ${-by}`, "moved"];
  };
  const list = (heading, items, tagged) => {
    const lines = items.map((item, place) => line(item, ...tagged(item, place)));
    return el("div", {}, el("h4", {}, heading), el("ol", { class: "plain" }, lines));
  };
  const { rank, log_prob: logProb } = without;
  const fate = `Without it, ${found.item.title} has rank ${rank.toLocaleString("en")} (${percent(Math.exp(logProb))}); with it, rank ${found.item.rank.toLocaleString("en")} (${percent(found.item.probability)}).`;
  const change = entered.size ? `${count(entered.size, "item")} of the list ${entered.size === 1 ? "changes" : "change"}.` : "The list holds the same items.";
  return [
    el("h3", {}, "Without ", title(one.words)),
    el("p", {}, el("bdi", {}, fate), ` ${change}`),
    el("div", { class: "two" }, list("With it", found.items, (item) => (left.has(item.item_id) ? ["drops out", "gone"] : [null, ""])), list("Without it", without.items, moved)),
  ];
}

/** Draw what each factor reads: a table that is coloured as a heat map, the figures written in its cells. */
export function drawHeat(found, names) {
  const { factors, history } = found;
  const most = Math.max(...factors.flatMap((one) => one.reads), 0);
  const cell = (share) => el("td", { class: "heat", share: most > 0 ? share / most : 0 }, percent(share));
  const row = (item, place) => el("tr", {}, el("th", { scope: "row" }, title(item.title)), factors.map((one) => cell(one.reads[place])));
  const elsewhere = el("tr", { class: "elsewhere" }, el("th", { scope: "row" }, "outside all titles"), factors.map((one) => el("td", {}, percent(one.elsewhere))));
  const gates = el("tr", { class: "elsewhere" }, el("th", { scope: "row" }, "weight of the factor"), factors.map((one) => el("td", {}, percent(one.gate))));
  const heads = ["History, oldest first", ...factors.map((one) => factorName(one.factor, names[one.factor]))];
  const caption = `Share of each factor’s attention on each title. The darkest cell is ${percent(most)}; a column adds up to 100%.`;
  const label = "Heat map: what each factor reads";
  byId("heat-body").replaceChildren(table(caption, heads, [...history.map(row), elsewhere, gates], { class: "heatmap", label }));
}

/** Draw what each factor stands for, or how to find out. */
export function drawProfiles(profiles, nFactors) {
  byId("profiles").hidden = nFactors === 0;
  if (!profiles) {
    byId("profiles-note").textContent = "Nobody has looked yet: run `flr profile` on the run that is served, and start the server again.";
    byId("profile-cards").replaceChildren();
    return;
  }
  byId("profiles-note").textContent =
    `Over ${count(profiles.n_targets, "recommendation")} to ${count(profiles.n_users, "person", "people")} (${profiles.split} split). Shown are differences beyond chance.`;
  byId("profile-cards").replaceChildren(...profiles.factors.map(profileCard));
}

function profileCard(one) {
  const sure = one.attributes.filter((lift) => lift.lift < lift.chance_low || lift.lift > lift.chance_high);
  const row = (lift) =>
    el("tr", {}, el("th", { scope: "row" }, title(lift.value), el("span", { class: "quiet" }, ` ${lift.attribute.replaceAll("_", " ")}`)),
      el("td", { class: "figure" }, percent(lift.share)), el("td", { class: "figure" }, percent(lift.base)), el("td", { class: "figure" }, `${lift.lift.toFixed(2)}×`));
  const typical = one.items.slice(0, 5).map((item) => el("li", {}, title(item.title), el("span", { class: "figure quiet" }, ` ${item.lift.toFixed(1)}×`)));
  return el(
    "article",
    { class: "profile", "aria-label": one.name },
    el("h3", {}, factorName(one.factor, one.name)),
    el("p", {}, habits(one)),
    sure.length ? table("Reads more or less of", ["Value", "Reads", "Histories", "Lift"], sure.slice(0, 6).map(row), { label: `What ${one.name} reads more or less of` }) : el("p", { class: "quiet" }, "No attribute is read more or less than chance would have it."),
    typical.length ? el("div", {}, el("h4", {}, "Typical titles"), el("ul", { class: "typical" }, typical)) : null,
  );
}

function habits(one) {
  const leaning = ({ low, high }, more, less) => (low !== null && low > 0 ? more : high !== null && high < 0 ? less : null);
  const words = [
    leaning(one.recency, "later purchases", "earlier purchases"),
    leaning(one.popularity, "popular titles", "less known titles"),
  ].filter(Boolean);
  const reads = one.elsewhere > 0.5 ? `Looks outside all titles (${percent(one.elsewhere)} of its attention).` : words.length ? `Leans to ${words.join(" and ")}.` : "Leans to nothing in particular.";
  return `${reads} Mean weight ${percent(one.gate)}.`;
}
