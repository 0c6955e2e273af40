// Explanations as they are asked for: why an item is in the list, whether that is true, and what the factors read.

import { ask, pause } from "./api.js";
import { byId, el, title } from "./elements.js";
import { drawWhy } from "./explaining.js";
import { drawHeat } from "./factors.js";
import { keepingFocus } from "./focus.js";
import { attempt, begin, waitingIn } from "./jobs.js";
import { state } from "./state.js";
import { tellShare } from "./steering.js";

/** An explanation takes the server much longer than a list, so it waits until nobody adds or steers any more. */
const EXPLAIN_MS = 500;

/** What "Why" shows, to be kept when it is explained anew: see `drawWhy`. */
let drawn = null;
let tellGone = () => {};

const explained = (item, steering, { signal, told }) => {
  const body = { history: state.history.map((one) => one.item_id), item, ...steering };
  return ask("v1/explain", { body, signal, waiting: waitingIn(told) });
};

/** Say of what is explained whether it is of a list before, because there is no newer one. */
export const markOld = (isOld) => ["why-old", "heat-old"].forEach((id) => (byId(id).hidden = !isOld));

export function showHeat() {
  if (!state.model.n_factors) return;
  byId("heat").hidden = false;
  const body = byId("heat-body");
  if (!body.hasChildNodes()) body.replaceChildren(el("p", { class: "quiet" }, "Looking at what the factors read…"));
  body.setAttribute("aria-busy", "true");
  const work = async (signal) => {
    await pause(EXPLAIN_MS, signal);
    // What factors read has nothing to do with filters, which may leave nothing to explain.
    const { diversify, filters, ...steering } = state.steering.asked();
    const { explanation } = await explained(null, steering, { signal, told: byId("heat-told") });
    keepingFocus(body, () => drawHeat(explanation, state.names), byId("results"));
    tellShare(explanation.sources);
    body.setAttribute("aria-busy", "false");
  };
  attempt("heat", byId("heat-problem"), work, { again: showHeat, failed: () => empty(body) });
}

function empty(body) {
  keepingFocus(body, () => body.replaceChildren(), body.closest("section"));
  body.setAttribute("aria-busy", "false");
}

export const toggleWhy = (item) => (state.explained === item.item_id ? closeWhy() : openWhy(item));

function openWhy(item) {
  state.explained = item.item_id;
  drawn = null;
  byId("why-summary").textContent = "";
  markExplained();
  const [panel, body] = [byId("why"), byId("why-body")];
  panel.hidden = false;
  byId("why-title").replaceChildren("Why ", title(item.title), "?");
  body.replaceChildren(el("p", { class: "quiet" }, "Asking again without each factor and each purchase…"));
  panel.focus();
  panel.scrollIntoView({ block: "nearest" });
  explainItem(0).then(() => {
    if (panel.contains(document.activeElement)) panel.scrollIntoView({ block: "nearest" }); // else nobody waits here
  });
}

/** Say why the item that was asked about is where it is in the list as it is steered now. */
export function explainItem(delay = EXPLAIN_MS) {
  const body = byId("why-body");
  body.setAttribute("aria-busy", "true");
  begin("fidelity");
  const work = async (signal) => {
    await pause(delay, signal);
    const { diversify, ...steering } = state.steering.asked();
    const item = state.explained;
    const { explanation } = await explained(item, steering, { signal, told: byId("why-told") });
    byId("why-plain").hidden = !diversify;
    const test = { ask: (panel) => testExplanation(panel, item, steering), leave: () => begin("fidelity") };
    keepingFocus(body, () => (drawn = drawWhy(explanation, state.names, test, drawn)), byId("why"));
    body.setAttribute("aria-busy", "false");
  };
  const failed = (problem) => {
    empty(body);
    byId("why-summary").textContent = "";
    if (problem.name !== "unknown-item" || !problem.detail.startsWith("item:")) return;
    const words = byId("why-title").querySelector(".title").textContent;
    closeWhy();
    tellGone(words);
  };
  return attempt("why", byId("why-problem"), work, { again: () => explainItem(0), failed });
}

/** Test the explanation of an item, of the list as it was steered when it was explained. */
function testExplanation(panel, item, steering) {
  const work = async (signal) => {
    panel.begin();
    const { fidelity } = await explained(item, { ...steering, fidelity: true }, { signal, told: panel.told });
    panel.show(fidelity);
  };
  const again = () => testExplanation(panel, item, steering);
  return attempt("fidelity", panel.problem, work, { again, failed: panel.end });
}

export function markExplained() {
  for (const button of byId("list").querySelectorAll("[data-item]")) {
    button.setAttribute("aria-expanded", String(button.dataset.item === state.explained));
  }
}

export function closeWhy() {
  if (byId("why").hidden) return;
  begin("why");
  begin("fidelity");
  const button = [...byId("list").querySelectorAll("[data-item]")].find((one) => one.dataset.item === state.explained);
  const hadFocus = byId("why").contains(document.activeElement);
  byId("why").hidden = true;
  state.explained = null;
  markExplained();
  if (hadFocus) (button ?? byId("results")).focus();
}

/** Wire the panel. gone(title): told where an item is recommended no longer. */
export function wireWhy(gone) {
  tellGone = gone;
  byId("why-close").addEventListener("click", () => closeWhy());
  byId("why").addEventListener("keydown", (event) => event.key === "Escape" && closeWhy());
}
