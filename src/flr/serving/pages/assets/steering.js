// What the list is asked for: weights of factors, diversifying, filters, length.

import { byId, el, portion } from "./elements.js";
import { factorName } from "./explaining.js";
import { wireFilters } from "./filters.js";
import { keepingFocus } from "./focus.js";

const LENGTHS = [5, 10, 20, 50, 100];

/**
 * Wire all that steers. model: what is served; names: of its factors; attributes: what filters can choose from;
 * isProfiled: whether there are cards of what factors stand for.
 * changed(ms): told when a list would be another one, and how long to wait for more.
 * Returns asked(), the fields of a request; set(asked), which steers as such fields say, as far as that is possible;
 * chooseFrom(attributes), for when there are others; and allow(isAllowed), whether factors can steer now.
 */
export function wireSteering({ model, names, attributes, isProfiled, changed }) {
  const weights = new Array(model.n_factors).fill(1);

  const setWeights = wireFactors(weights, { names, isProfiled, changed });
  wireList(model, changed);
  let where = wireFilters(attributes, changed);

  const asked = () => ({
    k: Number(byId("k").value),
    exclude_seen: byId("exclude-seen").checked,
    ...(weights.some((weight) => weight !== 1) ? { factor_weights: [...weights] } : {}),
    ...(byId("diversify").checked ? { diversify: "factors" } : {}),
    ...(where.get().length ? { filters: { where: Object.fromEntries(where.get()) } } : {}),
  });
  const set = ({ k, exclude_seen: excludeSeen, factor_weights: wanted = [], diversify, filters }) => {
    if ([...byId("k").options].some((option) => Number(option.value) === k)) byId("k").value = String(k);
    byId("exclude-seen").checked = excludeSeen;
    byId("diversify").checked = diversify === "factors" && weights.length > 0;
    const isFit = wanted.length === weights.length && wanted.every((one) => one >= 0 && one <= 2);
    setWeights(isFit ? wanted : weights.map(() => 1));
    where.set(filters?.where ?? {});
  };
  const chooseFrom = (others) => {
    const { filters } = asked();
    keepingFocus(byId("attributes"), () => (where = wireFilters(others, changed)));
    where.set(filters?.where ?? {});
  };
  const allow = (isAllowed) => allowFactors(isAllowed, weights.every((weight) => weight === 1));
  return { asked, set, chooseFrom, allow };
}

function showCard(factor) {
  const card = byId(`profile-${factor}`);
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
}

/** Let factors steer, or say why they do not. isNeutral: whether all weights are 1. */
function allowFactors(isAllowed, isNeutral) {
  const sliders = byId("sliders").querySelectorAll("input");
  [...sliders, byId("diversify")].forEach((one) => (one.disabled = !isAllowed));
  byId("neutral").disabled = !isAllowed || isNeutral;
  byId("factors-note").textContent = isAllowed
    ? "Weight of each: 0 turns it off, 1 leaves it, 2 doubles it."
    : "Add a title first; what is popular is not steered.";
  if (!isAllowed) byId("factors-share").textContent = "";
}

/** Tell what share factors have in the list. sources: where its probabilities come from, as /v1/explain says. */
export const tellShare = (sources) => (byId("factors-share").textContent = shareIn(sources));

function shareIn(sources) {
  const [votes, other] = ["votes", "assistant"].map((name) => sources.find((one) => one.source === name));
  if (!other) return "";
  if (votes.weight + other.weight === 0) {
    return "After this history, neither factors nor a second opinion have a say: titles as written decide alone.";
  }
  const share = portion(1 - other.weight);
  return `After this history, factors have ${share} of the say; the rest is a second opinion, which weights do not steer.`;
}

function wireFactors(weights, { names, isProfiled, changed }) {
  byId("no-factors").hidden = weights.length > 0;
  byId("factors").hidden = byId("diversify-row").hidden = byId("diversify-note").hidden = !weights.length;
  const neutral = byId("neutral");
  const sliders = names.map((name, factor) => {
    const id = `factor-${factor}`;
    const output = el("output", { for: id, "aria-live": "off" }); // the slider itself tells its value
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
    const ask = { type: "button", class: "small", "aria-label": `What ${name} stands for`, title: "What it stands for" };
    const more = isProfiled ? el("button", { ...ask, on: { click: () => showCard(factor) } }, "?") : null;
    return { row: el("div", { class: "slider" }, label, output, more, input), set };
  });
  byId("sliders").replaceChildren(...sliders.map((one) => one.row));
  neutral.onclick = () => {
    sliders.forEach((one) => one.set(1));
    byId("factor-0").focus();
    changed();
  };
  return (wanted) => sliders.forEach((one, factor) => one.set(wanted[factor]));
}

function wireList(model, changed) {
  const lengths = LENGTHS.filter((length) => length <= model.limits.k);
  if (!lengths.length) lengths.push(model.limits.k);
  const usual = lengths.includes(10) ? 10 : lengths[lengths.length - 1];
  const option = (length) => el("option", { value: length, selected: length === usual }, String(length));
  byId("k").replaceChildren(...lengths.map(option));
  for (const id of ["k", "diversify", "exclude-seen"]) byId(id).onchange = () => changed();
}
