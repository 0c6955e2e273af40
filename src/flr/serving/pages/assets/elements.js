// Elements of the page. Text always becomes a text node: nothing that comes from the server is ever read as markup.

/** Return an element. properties: attributes, and `class`, `on` (event -> listener), `share` (0..1, for bars). */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (property === "class") element.className = value;
    else if (property === "on") Object.entries(value).forEach((one) => element.addEventListener(...one));
    else if (property === "share") element.style.setProperty("--share", Number(value).toFixed(4));
    else element.setAttribute(property, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Return a title that keeps its own direction and disturbs no text around it. */
export const title = (text, properties = {}) => el("bdi", { class: "title", ...properties }, text);

/**
 * Return a table with a caption, whose first column heads its rows; it scrolls by itself where the page is narrow.
 * ends: columns of figures. label: of the part that scrolls.
 */
export function table(caption, heads, rows, properties = {}) {
  const side = (place) => (properties.ends?.includes(place) ? "end" : null);
  const head = el("tr", {}, heads.map((cell, place) => el("th", { scope: "col", class: side(place) }, cell)));
  const parts = [el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, rows)];
  const scroller = el("div", { class: "scroller" }, el("table", { class: properties.class }, parts));
  scroller.dataset.label = properties.label ?? caption;
  widths.observe(scroller);
  return scroller;
}

/** Lets the keyboard reach tables that scroll, and those alone. */
const widths = new ResizeObserver((seen) => {
  for (const { target } of seen) {
    const isCut = target.scrollWidth > target.clientWidth;
    const told = { tabindex: "0", role: "region", "aria-label": target.dataset.label };
    for (const [name, value] of Object.entries(told)) {
      if (isCut) target.setAttribute(name, value);
      else target.removeAttribute(name);
    }
  }
});

const percents = [0, 1, 2, 3].map((digits) => {
  const options = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat("en", options);
});

/** Return a probability in words, with two digits where there are as many: 34%, 2.1%, 0.15%, 0.034%. */
export function percent(share) {
  if (share > 0 && share < 0.00001) return "< 0.001%";
  return percents[share === 0 || share >= 0.1 ? 0 : share >= 0.01 ? 1 : share >= 0.001 ? 2 : 3].format(share);
}

/** Return a share of attention in words: whole percents, one decimal where it is little. */
export const portion = (share) => percents[share < 0.0005 || share >= 0.1 ? 0 : 1].format(share);

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Return how many times as probable something is: the exponential of a difference of log-probabilities, in nats. */
export function times(nats) {
  const factor = Math.exp(nats);
  if (factor >= 1000) return "over 1,000×";
  if (factor < 0.001) return "under 0.001×";
  const digits = factor >= 100 ? 0 : factor >= 10 ? 1 : factor >= 0.1 ? 2 : 3;
  return `${factor.toFixed(digits)}×`;
}

/** Show a problem in a place, with a way to try again. */
export function showProblem(place, problem, again) {
  const parts = [el("strong", {}, problem.title || "Error"), el("p", {}, problem.detail || "Something went wrong.")];
  if (problem.errors?.length > 1) {
    parts.push(el("ul", {}, problem.errors.map((one) => el("li", {}, `${one.where}: ${one.problem}`))));
  }
  if (problem.requestId) parts.push(el("p", { class: "quiet" }, `Request ${problem.requestId}`));
  if (again) {
    const retry = () => {
      place.replaceChildren();
      again();
    };
    parts.push(el("button", { type: "button", on: { click: retry } }, "Try again"));
  }
  place.replaceChildren(el("div", { class: "problem" }, parts));
}
