// Explanations as they are asked for: why an item is in the list, whether that is true, and what the factors read.

import { ask, pause } from "./api.js";
import { byId, el, title } from "./elements.js";
import { drawWhy } from "./explaining.js";
import { drawHeat } from "./factors.js";
import { keepingFocus } from "./focus.js";
import { attempt, begin, waitingBy } from "./jobs.js";
import { state } from "./state.js";
import { tellShare } from "./steering.js";

/** An explanation takes the server much longer than a list, so it waits until nobody adds or steers any more. */
const EXPLAIN_MS = 500;

const waiting = waitingBy((words) => (byId("status").textContent = words));

const explained = (item, steering, signal) => {
  const body = { history: state.history.map((one) => one.item_id), item, ...steering };
  return ask("v1/explain", { body, signal, waiting });
};

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
    const { explanation } = await explained(null, steering, signal);
    keepingFocus(body, () => drawHeat(explanation, state.names), byId("results"));
    tellShare(explanation.sources);
    body.setAttribute("aria-busy", "false");
  };
  attempt("heat", byId("heat-problem"), work, { again: showHeat, failed: () => body.replaceChildren() });
}

export const toggleWhy = (item) => (state.explained === item.item_id ? closeWhy() : openWhy(item));

function openWhy(item) {
  state.explained = item.item_id;
  markExplained();
  const [panel, body] = [byId("why"), byId("why-body")];
  panel.hidden = false;
  byId("why-title").replaceChildren("Why ", title(item.title), "?");
  body.replaceChildren(el("p", { class: "quiet" }, "Asking again without each factor and each purchase…"));
  panel.focus();
  panel.scrollIntoView({ block: "nearest" });
  explainItem(0).then(() => panel.scrollIntoView({ block: "nearest" }));
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
    const { explanation } = await explained(item, steering, signal);
    byId("why-plain").hidden = !diversify;
    const test = (panel) => testExplanation(panel, item, steering);
    drawWhy(explanation, state.names, { ask: test, leave: () => begin("fidelity") });
    body.setAttribute("aria-busy", "false");
  };
  return attempt("why", byId("why-problem"), work, {
    again: () => explainItem(0),
    failed: () => body.replaceChildren(),
  });
}

/** Test the explanation of an item, of the list as it was steered when it was explained. */
function testExplanation(panel, item, steering) {
  const work = async (signal) => {
    panel.begin();
    panel.show((await explained(item, { ...steering, fidelity: true }, signal)).fidelity);
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

export function wireWhy() {
  byId("why-close").addEventListener("click", () => closeWhy());
  byId("why").addEventListener("keydown", (event) => event.key === "Escape" && closeWhy());
}
