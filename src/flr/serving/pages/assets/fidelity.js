// Whether the order of purchases is true: what becomes of the item when purchases are taken away, or given, in its order.

import { count, el, percent, table, times } from "./elements.js";

/** Orders of purchases, as the server calls them; the first is that of the effects, which the chart shows. */
const ORDERS = {
  "leave-one-out": "largest effect first",
  gated: "most attention first",
  attention: "most attention first, factors alike",
  latest: "latest first",
};
/** A gain that counts: 5% more or less probable. */
const LEAST_NATS = 0.05;
const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [300, 150, 52, 10, 12, 28];

/**
 * Return a panel that tests an explanation when it is opened; renew({ ask, leave }) returns its element, and marks what
 * was found before.
 * ask(panel): asks the server, and calls begin() before, and then show(answer) or end(); panel.problem is where
 * problems are told, panel.told whether it has to wait. leave(): told when nobody waits for the answer any more.
 */
export function fidelityPanel() {
  let test = null;
  const [said, told] = [el("p", { role: "status" }), el("p", { class: "quiet", "aria-live": "polite" })];
  const figures = el("div", { class: "figures" });
  const again = el("button", { type: "button", class: "small", on: { click: () => test.ask(panel) } }, "Test again");
  const old = el("p", { class: "note row", hidden: true }, "This is of the list before, steered otherwise.", again);
  const problem = el("div", { role: "alert" });
  const summary = el("summary", {}, "Test the order of purchases");
  const element = el("details", { class: "fidelity" }, summary, old, said, told, problem, figures);
  const tell = (state, words, parts = []) => {
    element.dataset.state = state;
    old.hidden = true;
    said.textContent = words;
    figures.replaceChildren(...parts);
  };
  const close = () => {
    tell("", "");
    problem.replaceChildren();
    element.open = false;
  };
  const panel = {
    problem,
    told,
    begin: () => tell("asking", "Asking again with fewer and fewer purchases; this may take some seconds…"),
    show: (found) => {
      const [first, ...others] = inOrder(found);
      tell("shown", verdict(first, found.find((one) => one.measure === "latest")), [chart(first), orders([first, ...others]), points(first)]);
    },
    end: () => tell("", ""),
    renew: (another) => {
      test = another;
      if (element.dataset.state === "shown") old.hidden = false;
      else if (element.open) close();
      return element;
    },
  };
  element.addEventListener("toggle", () => {
    if (element.open && !element.dataset.state) {
      test.ask(panel);
    } else if (!element.open && element.dataset.state === "asking") {
      test.leave();
      panel.end();
    }
  });
  return panel;
}

const inOrder = (curves) => {
  const known = Object.keys(ORDERS);
  return [...curves].sort((left, right) => known.indexOf(left.measure) - known.indexOf(right.measure));
};

const nats = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** Return in plain sentences whether the order of the effects beats random ones, and the mere order in time. */
function verdict(first, latest) {
  const { deletion_gain: lowered, insertion_gain: raised, n_kept: kept } = first;
  if (Math.max(...kept) < 3) return "With two purchases this test cannot fail; add more.";
  const n = [lowered, raised].filter((gain) => gain > LEAST_NATS).length;
  const faster = (gain) => (gain > LEAST_NATS ? "faster than a random order" : "no faster than a random order");
  const isBeaten = n > 0 && latest && first.score - latest.score <= LEAST_NATS;
  const than = isBeaten ? ", but the order is no better than the mere order in time, latest first" : "";
  return [
    `${["It does not hold up", "It holds up in part", "It holds up against random orders"][n]}${than}.`,
    `Removing the purchases with the largest effect first lowers this item\u2019s score ${faster(lowered)}:`,
    `${nats(lowered)} nats on average, which leaves it ${times(-lowered)} as probable.`,
    `Giving them first raises it ${faster(raised)}: ${nats(raised)} nats, ${times(raised)} as probable.`,
  ].join(" ");
}

function orders(curves) {
  const figure = (value) => el("td", { class: "figure" }, nats(value));
  const row = ({ measure, deletion_gain: deletion, insertion_gain: insertion, score }) =>
    el("tr", {}, el("th", { scope: "row" }, ORDERS[measure] ?? measure), [deletion, insertion, score].map(figure));
  const heads = ["Order of purchases", "Removed", "Given", "Mean"];
  const note =
    "A nat is a factor of 2.7. Effects of factors are not tested here. Effects of purchases have a head start: what is removed first is what they measured. " +
    "Latest first is no explanation, but what one has to beat.";
  return el(
    "div",
    {},
    table("Nats better than random orders", heads, curves.map(row), { ends: [1, 2, 3] }),
    el("p", { class: "quiet" }, note),
  );
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...children.flat());
  return element;
}

/** Return the curves as a chart: the number of purchases that are left by the logarithm of the probability. */
function chart({ n_kept: kept, deletion, insertion, random }) {
  const all = [...deletion, ...insertion, ...random];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const last = kept[kept.length - 1];
  const x = (n) => LEFT + ((n - kept[0]) / (last - kept[0])) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (high > low ? (high - value) / (high - low) : 0.5) * (HEIGHT - TOP - BOTTOM);
  const line = (kind, values) => {
    const places = values.map((value, place) => [x(kept[place]), y(value)]);
    const marks = kind === "random" ? [] : places.map((place) => mark(kind, place));
    const points = places.map((place) => place.map((one) => one.toFixed(1)).join(",")).join(" ");
    return svg("g", { class: kind }, svg("polyline", { points }), marks);
  };
  const label = (text, place) => svg("text", place, text);
  const axis = svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` });
  const right = { "text-anchor": "end", x: LEFT - 6 };
  const below = { y: HEIGHT - BOTTOM + 18 };
  const lines = [line("random", random), line("deletion", deletion), line("insertion", insertion)];
  const labels = [
    label(percent(Math.exp(high)), { ...right, y: TOP + 8 }),
    label(percent(Math.exp(low)), { ...right, y: HEIGHT - BOTTOM }),
    label(`${kept[0]} left`, { ...below, x: LEFT }),
    label(`all ${last}`, { ...below, "text-anchor": "end", x: WIDTH - RIGHT }),
  ];
  const told = "Probability of the item by the number of purchases that are left; the table below has the figures.";
  const picture = { class: "curves", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told };
  return el("figure", {}, svg("svg", picture, axis, lines, labels), legend());
}

const mark = (kind, [x, y]) =>
  kind === "insertion"
    ? svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 3.5 })
    : svg("rect", { x: (x - 3.5).toFixed(1), y: (y - 3.5).toFixed(1), width: 7, height: 7 });

function legend() {
  const sample = (kind) => {
    const marks = kind === "random" ? [] : mark(kind, [14, 7]);
    const of = svg("g", { class: kind }, svg("polyline", { points: "0,7 28,7" }), marks);
    return svg("svg", { class: "curves sample", viewBox: "0 0 28 14", "aria-hidden": "true" }, of);
  };
  const entry = ([kind, words]) => el("span", {}, sample(kind), words);
  const entries = [
    ["insertion", "largest effects given first"],
    ["random", "random order"],
    ["deletion", "largest effects removed first"],
  ];
  return el("figcaption", { class: "quiet legend" }, entries.map(entry));
}

/** Return the figures of the chart. */
function points({ n_kept: kept, deletion, insertion, random }) {
  const figure = (value) => el("td", { class: "figure" }, percent(Math.exp(value)));
  const row = (n, place) => {
    const figures = [insertion, random, deletion].map((one) => figure(one[place]));
    return el("tr", {}, el("th", { scope: "row" }, count(n, "purchase")), figures);
  };
  const heads = ["Left", "Given first", "Random order", "Removed first"];
  const shown = table("Probability with the purchases that are left", heads, kept.map(row), { ends: [1, 2, 3] });
  return el("details", {}, el("summary", {}, "Figures of the chart"), shown);
}
