// What the list is asked for: weights of factors, diversifying, filters, length.

import { byId, el, title } from "./elements.js";
import { factorName } from "./explaining.js";

const LENGTHS = [5, 10, 20, 50, 100];
/** Values from which on an attribute gets a field to find some. */
const MANY_VALUES = 12;

/**
 * Wire all that steers. model: what is served; names: of its factors; attributes: what filters can choose from.
 * changed(): told when a list would be another one. Returns asked(), the fields of a request.
 */
export function wireSteering({ model, names, attributes, changed }) {
  const weights = new Array(model.n_factors).fill(1);
  const where = new Map();

  wireFactors(weights, names, changed);
  wireList(model, changed);
  wireFilters(attributes, where, changed);

  const chosen = () => [...where].filter(([, values]) => values.size).map(([name, values]) => [name, [...values]]);
  return () => ({
    k: Number(byId("k").value),
    exclude_seen: byId("exclude-seen").checked,
    ...(weights.some((weight) => weight !== 1) ? { factor_weights: weights } : {}),
    ...(byId("diversify").checked ? { diversify: "factors" } : {}),
    ...(chosen().length ? { filters: { where: Object.fromEntries(chosen()) } } : {}),
  });
}

function wireFactors(weights, names, changed) {
  byId("no-factors").hidden = weights.length > 0;
  byId("factors").hidden = byId("diversify-row").hidden = byId("diversify-note").hidden = !weights.length;
  byId("diversify").checked = false;
  const neutral = byId("neutral");
  const sliders = names.map((name, factor) => {
    const id = `factor-${factor}`;
    const output = el("output", { for: id });
    const range = { type: "range", min: 0, max: 2, step: 0.1, value: 1 };
    const input = el("input", { ...range, id, "aria-describedby": "factors-note" });
    const show = () => {
      output.textContent = `${weights[factor].toFixed(1)}×`;
      input.setAttribute("aria-valuetext", weights[factor] === 0 ? "off" : `${weights[factor].toFixed(1)} times`);
      neutral.disabled = weights.every((weight) => weight === 1);
    };
    input.addEventListener("input", () => {
      weights[factor] = Number(input.value);
      show();
      changed();
    });
    show();
    const set = (weight) => {
      weights[factor] = weight;
      input.value = String(weight);
      show();
    };
    const label = el("label", { for: id }, factorName(factor, name));
    return { row: el("div", { class: "slider" }, label, output, input), set };
  });
  byId("sliders").replaceChildren(...sliders.map((one) => one.row));
  neutral.onclick = () => {
    sliders.forEach((one) => one.set(1));
    byId("factor-0").focus();
    changed();
  };
}

function wireList(model, changed) {
  const lengths = LENGTHS.filter((length) => length <= model.limits.k);
  if (!lengths.length) lengths.push(model.limits.k);
  const usual = lengths.includes(10) ? 10 : lengths[lengths.length - 1];
  const option = (length) => el("option", { value: length, selected: length === usual }, String(length));
  byId("k").replaceChildren(...lengths.map(option));
  for (const id of ["k", "diversify", "exclude-seen"]) byId(id).onchange = changed;
}

function wireFilters(attributes, where, changed) {
  byId("filters").hidden = !attributes.length;
  const all = [];
  const refresh = () => {
    byId("no-filters").disabled = ![...where.values()].some((values) => values.size);
    all.forEach((one) => one.tell());
  };
  for (const attribute of attributes) {
    where.set(attribute.name, new Set());
    all.push(attributeFilter(attribute, where.get(attribute.name), () => (refresh(), changed())));
  }
  byId("attributes").replaceChildren(...all.map((one) => one.element));
  byId("no-filters").onclick = () => {
    where.forEach((values) => values.clear());
    byId("attributes").querySelectorAll("input[type=checkbox]").forEach((box) => (box.checked = false));
    refresh();
    byId("attributes").querySelector("summary").focus();
    changed();
  };
  refresh();
}

function attributeFilter(attribute, chosen, changed) {
  const name = attribute.name.replaceAll("_", " ");
  const told = el("span", { class: "quiet" });
  const row = ({ value, n_items: nItems }) => {
    const box = el("input", { type: "checkbox", value });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      changed();
    });
    const number = el("span", { class: "quiet figure" }, nItems.toLocaleString("en"));
    return el("label", { class: "choice" }, box, title(value), number);
  };
  const rows = attribute.values.map(row);
  const labelled = { "aria-label": `Find a value of ${name}`, placeholder: "Find" };
  const find = el("input", { type: "text", autocomplete: "off", ...labelled });
  find.addEventListener("input", () => {
    const sought = find.value.trim().toLowerCase();
    rows.forEach((one, place) => (one.hidden = !attribute.values[place].value.toLowerCase().includes(sought)));
  });
  const unlisted = attribute.n_values - rows.length;
  const element = el(
    "details",
    { class: "attribute" },
    el("summary", {}, el("span", {}, name, " "), told),
    rows.length > MANY_VALUES ? find : null,
    el("div", { class: "choices", role: "group", "aria-label": name }, rows),
    unlisted > 0 ? el("p", { class: "quiet" }, `${unlisted.toLocaleString("en")} rarer values are not shown.`) : null,
  );
  return { element, tell: () => (told.textContent = chosen.size ? [...chosen].join(", ") : "any") };
}
