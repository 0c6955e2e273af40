// What each factor reads of a history, and what it stands for over many.

import { byId, count, el, portion, table, title } from "./elements.js";
import { factorName } from "./explaining.js";

const MOST_ATTRIBUTES = 6;
const MOST_TITLES = 5;

/** Draw what each factor reads: a table that is coloured as a heat map, the figures written in its cells. */
export function drawHeat({ factors, history }, names) {
  const most = Math.max(...factors.flatMap((one) => one.reads), 0);
  const head = (text) => el("th", { scope: "row" }, text);
  const cell = (share) => el("td", { class: "heat", share: most > 0 ? share / most : 0 }, portion(share));
  const row = (item, place) => el("tr", {}, head(title(item.title)), factors.map((one) => cell(one.reads[place])));
  const plain = (text, share) =>
    el("tr", { class: "elsewhere" }, head(text), factors.map((one) => el("td", {}, portion(share(one)))));
  const rows = [
    ...history.map(row),
    plain("outside all titles", (one) => one.elsewhere),
    plain("weight of the factor", (one) => one.gate),
  ];
  const heads = ["History, oldest first", ...factors.map((one) => factorName(one.factor, names[one.factor]))];
  const label = "Heat map: what each factor reads";
  const options = { class: "heatmap", label, ends: factors.map((_, place) => place + 1) };
  const note = `The strongest colour is ${portion(most)}; with what is outside of titles, a column adds up to 100%.`;
  byId("heat-body").replaceChildren(
    table("Share of each factor’s attention", heads, rows, options),
    el("p", { class: "quiet" }, note),
  );
}

/** Draw what each factor stands for, or how to find out. */
export function drawProfiles(profiles, nFactors) {
  byId("profiles").hidden = nFactors === 0;
  const common = commonTitles(profiles?.factors ?? []);
  byId("profile-cards").replaceChildren(...(profiles?.factors ?? []).map((one) => profileCard(one, common)));
  if (!profiles) {
    byId("profiles-note").textContent =
      "Nobody has looked yet: run `flr profile` on the run that is served, and start the server again.";
    return;
  }
  const seen = `${count(profiles.n_targets, "recommendation")} to ${count(profiles.n_users, "person", "people")}`;
  byId("profiles-note").textContent = `Over ${seen} (${profiles.split} split). Shown are differences beyond chance.`;
}

/** Return the ids of titles that are typical of most factors, and so tell little of one. */
function commonTitles(factors) {
  const counts = new Map();
  const ids = factors.flatMap((one) => one.items.slice(0, MOST_TITLES).map((item) => item.item_id));
  ids.forEach((id) => counts.set(id, (counts.get(id) ?? 0) + 1));
  return new Set([...counts.keys()].filter((id) => factors.length > 1 && counts.get(id) > factors.length / 2));
}

function profileCard(one, common) {
  const isSure = (lift) => lift.lift < lift.chance_low || lift.lift > lift.chance_high;
  const sure = one.attributes.filter(isSure).slice(0, MOST_ATTRIBUTES);
  const typical = one.items.slice(0, MOST_TITLES).map((item) => {
    const of = ` ${item.lift.toFixed(1)}×, ${count(item.n_read, "person", "people")}`;
    const tag = common.has(item.item_id) ? el("span", { class: "tag" }, "of most factors") : null;
    return el("li", {}, title(item.title), el("span", { class: "quiet" }, of), tag);
  });
  const nothing = "No attribute is read more or less than chance would have it.";
  return el(
    "article",
    { class: "profile", id: `profile-${one.factor}`, tabindex: "-1", "aria-label": one.name },
    el("h3", {}, factorName(one.factor, one.name)),
    el("p", {}, habits(one)),
    el("ul", { class: "quiet typical" }, intervals(one).map((words) => el("li", {}, words))),
    sure.length ? liftTable(one.name, sure) : el("p", { class: "quiet" }, nothing),
    typical.length ? el("div", {}, el("h4", {}, "Typical titles"), el("ul", { class: "typical" }, typical)) : null,
  );
}

function liftTable(name, lifts) {
  const figure = (text) => el("td", { class: "figure" }, text);
  const row = ({ attribute, value, share, base, lift, chance_low: low, chance_high: high }) => {
    const kind = el("span", { class: "quiet" }, ` ${attribute.replaceAll("_", " ")}`);
    const chance = el("span", { class: "by" }, `${low.toFixed(1)}–${high.toFixed(1)}`);
    const figures = [portion(share), portion(base)].map(figure);
    const lifted = el("td", { class: "figure" }, `${lift.toFixed(2)}×`, chance);
    return el("tr", {}, el("th", { scope: "row" }, title(value), kind), figures, lifted);
  };
  const options = { label: `What ${name} reads more or less of`, ends: [1, 2, 3] };
  return table("Reads more or less of", ["Value", "Reads", "Histories", "Lift (by chance)"], lifts.map(row), options);
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** Return in words how sure it is where a factor looks. */
function intervals({ recency, popularity }) {
  const between = ({ low, high }) => (low === null || high === null ? "" : ` (${signed(low)} to ${signed(high)})`);
  const told = ([name, one]) => (one.mean === null ? null : `${name} ${signed(one.mean)}${between(one)}`);
  return [["Place read", recency], ["Popularity", popularity]].map(told).filter(Boolean);
}

/** Return in words where a factor looks; the ends of an interval are null where one person was looked at. */
function habits({ recency, popularity, elsewhere, gate }) {
  const weight = `Mean weight ${portion(gate)}.`;
  if (elsewhere > 0.5) return `Looks outside all titles (${portion(elsewhere)} of its attention). ${weight}`;
  const leaning = ({ low, high }, more, less) => {
    if (low !== null && low > 0) return more;
    return high !== null && high < 0 ? less : null;
  };
  const words = [
    leaning(recency, "later purchases", "earlier purchases"),
    leaning(popularity, "popular titles", "less known titles"),
  ].filter(Boolean);
  return `${words.length ? `Leans to ${words.join(" and ")}.` : "Leans to nothing in particular."} ${weight}`;
}
