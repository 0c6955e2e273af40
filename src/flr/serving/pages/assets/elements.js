// Elements of the page. Text always becomes a text node: nothing that comes from the server is ever read as markup.

/** Return an element. properties: attributes; `class`, `on` (event -> listener) and `share` (0..1, for bars) are told apart. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (property === "class") element.className = value;
    else if (property === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (property === "share") element.style.setProperty("--share", Number(value).toFixed(4));
    else element.setAttribute(property, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Return a title that keeps its own direction and disturbs no text around it. */
export const title = (text, properties = {}) => el("bdi", { class: "title", ...properties }, text);

/** Return a table with a caption, whose first column heads its rows; it scrolls by itself where the page is narrow. */
export function table(caption, heads, rows, properties = {}) {
  const head = el("tr", {}, heads.map((cell) => el("th", { scope: "col" }, cell)));
  const scroller = { class: "scroller", tabindex: "0", role: "region", "aria-label": properties.label ?? caption };
  return el("div", scroller, el("table", { class: properties.class }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, rows)));
}

const percents = (digits) => new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
const [WHOLE, TENTHS, FINE] = [percents(0), percents(1), percents(3)];

/** Return a share in words: 34 %, 2.1 %, 0.034 %. */
export function percent(share) {
  if (share > 0 && share < 0.00001) return "< 0.001%";
  if (share > 0 && share < 0.001) return FINE.format(share);
  return (share < 0.1 ? TENTHS : WHOLE).format(share);
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Return how many times as probable something is: the exponential of a difference of log-probabilities, in nats. */
export function times(nats) {
  const factor = Math.exp(nats);
  if (factor >= 1000) return "over 1,000×";
  if (factor < 0.001) return "under 0.001×";
  return `${factor >= 100 ? factor.toFixed(0) : factor >= 10 ? factor.toFixed(1) : factor >= 0.1 ? factor.toFixed(2) : factor.toFixed(3)}×`;
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
