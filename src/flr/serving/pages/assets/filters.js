// Filters: which items may be listed, by values of attributes and by ranges of numbers.

import { byId, el, title } from "./elements.js";

/** Numbers are typed digit by digit, so the list waits until nobody types any more. */
const TYPING_MS = 700;
/** Values from which on an attribute gets a field to find some. */
const MANY_VALUES = 12;

/**
 * Wire the filters; returns get(), the conditions that are set: [name, values and ranges], one of which must hold, and
 * set(conditions), an object of these.
 */
export function wireFilters(attributes, changed) {
  byId("filters").hidden = !attributes.length;
  const filters = attributes.map((attribute) => attributeFilter(attribute, (ms) => (refresh(), changed(ms))));
  const get = () => filters.map((one) => [one.name, one.wanted()]).filter(([, wanted]) => wanted.length);
  const set = (conditions) => {
    filters.forEach((one) => one.set(conditions[one.name] ?? []));
    refresh();
  };
  const refresh = () => {
    byId("no-filters").disabled = !filters.some((one) => one.isSet());
    filters.forEach((one) => one.tell());
  };
  const opened = new Set([...byId("attributes").querySelectorAll("[open]")].map((one) => one.dataset.name));
  byId("attributes").replaceChildren(...filters.map((one) => one.element));
  filters.forEach((one) => opened.has(one.name) && one.open());
  byId("no-filters").onclick = () => {
    set({});
    byId("attributes").querySelector("summary").focus();
    changed();
  };
  refresh();
  return { get, set };
}

/** Return the filter of an attribute: its element, what is wanted of it, and how to tell that and to clear it. */
function attributeFilter(attribute, changed) {
  const name = attribute.name.replaceAll("_", " ");
  const told = el("span", { class: "quiet" });
  const between = attribute.numbers ? rangeFields(name, attribute.numbers, changed) : null;
  const values = valueBoxes(attribute, name, () => changed());
  const element = el(
    "details",
    { class: "attribute", "data-name": attribute.name, on: { toggle: () => element.open && values.draw() } },
    el("summary", {}, el("span", {}, name, " "), told),
    between?.element,
    values.elements,
  );
  const wanted = () => [...(between?.wanted() ?? []), ...values.wanted()];
  return {
    name: attribute.name,
    element,
    wanted,
    tell: () => (told.textContent = wanted().map(inWords).join(", ") || "any"),
    open: () => {
      values.draw();
      element.open = true;
    },
    isSet: () => wanted().length > 0 || Boolean(between?.isSet()),
    set: (conditions) => [between, values].forEach((one) => one?.set(conditions)),
  };
}

function inWords(wanted) {
  if (typeof wanted === "string") return wanted;
  const { min, max } = wanted;
  if (min === undefined) return `up to ${max}`;
  return max === undefined ? `from ${min}` : `${min} to ${max}`;
}

/** Return two fields for the ends of a range. One that is upside down or no number is told; what held before still does. */
function rangeFields(name, numbers, changed) {
  const note = el("p", { class: "problem-note", role: "status", id: `range-of-${name.replaceAll(" ", "-")}` });
  const field = ([end, word]) => {
    const labelled = { "aria-label": `${name} ${word}`, "aria-describedby": note.id };
    const typed = { type: "number", step: "any", autocomplete: "off", placeholder: String(numbers[end]) };
    return { end, input: el("input", { ...typed, ...labelled, on: { input: () => (read(), changed(TYPING_MS)) } }) };
  };
  const fields = [["min", "from"], ["max", "to"]].map(field);
  let held = {};
  const read = () => {
    const given = fields.filter(({ input }) => input.value !== "").map(({ end, input }) => [end, Number(input.value)]);
    const range = Object.fromEntries(given);
    const bad = fields.filter(({ input }) => input.validity.badInput);
    const isUpsideDown = range.min > range.max;
    note.textContent = bad.length ? "That is not a number." : isUpsideDown ? `${range.min} is above ${range.max}.` : "";
    const marked = isUpsideDown ? fields : bad;
    fields.forEach((one) => one.input.setAttribute("aria-invalid", String(marked.includes(one))));
    if (!marked.length) held = range;
  };
  const set = (conditions) => {
    const range = conditions.find((one) => typeof one === "object") ?? {};
    fields.forEach(({ end, input }) => (input.value = range[end] ?? ""));
    read();
  };
  const [from, to] = fields.map(({ input }) => input);
  return {
    element: el("div", {}, el("div", { class: "range" }, "from", from, "to", to), note),
    wanted: () => (Object.keys(held).length ? [held] : []),
    isSet: () => fields.some(({ input }) => input.value !== "" || input.validity.badInput),
    set,
  };
}

function valueBoxes(attribute, name, changed) {
  const row = ({ value, n_items: nItems }) => {
    const change = () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      changed();
    };
    const box = el("input", { type: "checkbox", value, checked: chosen.has(value), on: { change } });
    const number = el("span", { class: "quiet figure" }, nItems.toLocaleString("en"));
    return { box, element: el("label", { class: "choice" }, box, title(value), number) };
  };
  let rows = [];
  const chosen = new Set();
  const known = new Set(attribute.values.map((one) => one.value));
  const labelled = { "aria-label": `Find a value of ${name}`, placeholder: "Find" };
  const find = el("input", { type: "text", autocomplete: "off", ...labelled });
  const seek = () => {
    const sought = find.value.trim().toLowerCase();
    rows.forEach((one) => (one.element.hidden = !one.box.value.toLowerCase().includes(sought)));
    const isThere = rows.some((one) => !one.element.hidden);
    none.textContent = isThere ? "" : `No value of ${name} holds “${find.value.trim()}”.`;
  };
  const none = el("p", { class: "quiet", role: "status" });
  const choices = el("div", { class: "choices", role: "group", "aria-label": name });
  /** Draw the boxes; there may be a thousand, so not before somebody looks. */
  const draw = () => {
    if (rows.length) return;
    rows = attribute.values.map(row);
    choices.replaceChildren(...rows.map((one) => one.element));
  };
  find.addEventListener("input", seek);
  const unlisted = attribute.n_values - known.size;
  const elements = [
    known.size > MANY_VALUES ? [find, none] : [],
    known.size ? choices : [],
    unlisted > 0 ? el("p", { class: "quiet" }, `${unlisted.toLocaleString("en")} rarer values are not shown.`) : null,
  ].flat();
  const wanted = () => attribute.values.map((one) => one.value).filter((value) => chosen.has(value));
  const set = (conditions) => {
    chosen.clear();
    conditions.filter((one) => known.has(one)).forEach((one) => chosen.add(one));
    rows.forEach(({ box }) => (box.checked = chosen.has(box.value)));
  };
  return { elements, wanted, set, draw };
}
