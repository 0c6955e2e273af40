// The page: asks what is served, keeps the history, and shows lists and explanations as they come.

import { Problem, ask, key, pause } from "./api.js";
import { byId, count, el, percent, showProblem, title } from "./elements.js";
import { drawWhy, factorName } from "./explaining.js";
import { drawHeat, drawProfiles } from "./factors.js";
import { drawHistory, wireSearch } from "./history.js";
import { wireSteering } from "./steering.js";

const STEERING_MS = 200;
/** An explanation takes the server much longer than a list, so it waits until nobody adds or steers any more. */
const EXPLAIN_MS = 500;
const EXAMPLE_ITEMS = 5;
const INVITATION = "Add a title to the history, and what comes next is shown here.";

/** heat: the history and the weights that the heat map is of. */
const state = { model: null, names: [], asked: null, history: [], explained: null, heat: "" };
const running = {};

/** Return a signal that is aborted when the same kind of work begins anew. */
function begin(kind) {
  running[kind]?.abort();
  running[kind] = new AbortController();
  return running[kind].signal;
}

/** Do some work, and show in a place what goes wrong, after failed(). Work of its kind that begins later ends it. */
async function attempt(kind, place, work, { again, failed = () => {} }) {
  const signal = begin(kind);
  try {
    place.replaceChildren();
    await work(signal);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    if (!(problem instanceof Problem)) throw problem;
    failed();
    if (problem.status === 401 && byId("key-form")) askForKey(problem);
    else showProblem(place, problem, again);
  }
}

const taken = ({ item_id, title: text }) => ({ item_id, title: text });
const say = (words) => (byId("status").textContent = words);
/** Return what tells somebody that the server is asked again. */
const waitingBy = (tell) => (seconds, reason) => {
  if (seconds !== null) tell(`${reason}. Asking again in ${count(seconds, "second")}.`);
};
const waiting = waitingBy(say);

function askForKey(problem) {
  byId("key-form").classList.add("wanted");
  const first = "This server asks for a key; it is kept in this tab only.";
  byId("key-note").textContent = key.get() ? `${problem.detail}.` : first;
  byId("main").inert = true;
  byId("key").focus();
}

function start() {
  const tell = (words) => (byId("starting").textContent = words);
  const work = async (signal) => {
    tell("Asking the server what it serves…");
    const options = { signal, waiting: waitingBy(tell) };
    const quietly = async (path) => {
      try {
        return await ask(path, options);
      } catch (problem) {
        if (problem.status === 404) return null;
        throw problem;
      }
    };
    const model = await ask("v1/model", options);
    const { attributes } = await ask("v1/attributes", options);
    const profiles = model.n_factors ? ((await quietly("v1/factors"))?.profiles ?? null) : null;
    const names = Array.from({ length: model.n_factors }, (_, factor) => `Factor ${factor + 1}`);
    profiles?.factors.forEach((one) => (names[one.factor] = one.name));
    const asked = wireSteering({ model, names, attributes, changed: (delay = STEERING_MS) => recommend(delay) });
    Object.assign(state, { model, names, asked });
    tellModel(model);
    drawProfiles(profiles, model.n_factors);
    tell("");
    byId("main").inert = false;
    byId("key-form")?.classList.remove("wanted");
    if (key.get() && byId("key-form")) byId("key-note").textContent = "The key is in use; it is kept in this tab only.";
    changeHistory(state.history, "");
  };
  return attempt("start", byId("problem"), work, { again: start, failed: () => tell("") });
}

function tellModel(model) {
  const factors = model.n_factors ? count(model.n_factors, "factor") : "no factors";
  const window = `reads the last ${count(model.window, "item")} of a history`;
  byId("model").textContent = [count(model.n_items, "item"), factors, window, `flr ${model.flr_version}`].join(" · ");
}

function changeHistory(history, words) {
  const limit = state.model.limits.history;
  if (history.length > limit) {
    byId("search-note").textContent = `The server takes ${count(limit, "item")} of a history at most.`;
    return;
  }
  state.history = history;
  state.explained = null;
  drawHistory(history, state.model.window, changeHistory);
  if (words) byId("search-note").textContent = words;
  recommend(0, true);
}

/** Ask for the list; afterwards for what is shown of it: why an item, and what the factors read. */
function recommend(delay, isNewHistory = false) {
  const [list, place] = [byId("list"), byId("results-problem")];
  const isEmpty = !state.history.length;
  if (isNewHistory) {
    closeWhy();
    begin("heat");
    state.heat = ""; // what was under way for this very history may have been ended
  }
  if (isEmpty) {
    byId("heat").hidden = byId("list-note").hidden = true;
    if (isNewHistory) list.replaceChildren(); // what is listed can no longer be explained
  }
  if (isEmpty && !state.model.knows_popular) {
    begin("list");
    place.replaceChildren();
    list.setAttribute("aria-busy", "false");
    say(INVITATION);
    return;
  }
  const work = async (signal) => {
    await pause(delay, signal);
    list.setAttribute("aria-busy", "true");
    say("Thinking…");
    const started = performance.now();
    const histories = [state.history.map((item) => item.item_id)];
    const body = { histories, ...state.asked(), ...(isEmpty ? { empty: "popular" } : {}) };
    const answer = await ask("v1/recommend", { body, signal, waiting });
    list.setAttribute("aria-busy", "false");
    drawList(answer.lists[0].items, performance.now() - started);
    if (isEmpty) return;
    if (state.explained !== null) explainItem(EXPLAIN_MS);
    const heat = JSON.stringify([histories, body.factor_weights]);
    if (byId("heat").hidden || heat !== state.heat) showHeat();
    state.heat = heat;
  };
  const failed = () => {
    list.setAttribute("aria-busy", "false");
    list.replaceChildren();
    byId("list-note").hidden = true;
    say("");
  };
  attempt("list", place, work, { again: () => recommend(0, isNewHistory), failed });
}

function drawList(items, milliseconds) {
  const most = Math.max(...items.map((item) => item.probability), 0);
  const row = (item, place) => {
    const button = (sign, label, attributes, click) =>
      el("button", { type: "button", class: "small", "aria-label": label, ...attributes, on: { click } }, sign);
    const toggle = () => (state.explained === item.item_id ? closeWhy() : openWhy(item));
    const add = () => {
      changeHistory([...state.history, taken(item)], `Added ${item.title}.`);
      byId("results").focus();
    };
    const told = { "aria-expanded": "false", "aria-controls": "why", "data-item": item.item_id };
    const { factor = null } = item;
    const share = most > 0 ? item.probability / most : 0;
    return el(
      "li",
      {},
      el("span", { class: "number", "aria-hidden": "true" }, String(place + 1)),
      el(
        "span",
        { class: "grow" },
        title(item.title),
        factor === null ? null : el("span", { class: "by" }, "picked by ", factorName(factor, state.names[factor])),
        el("span", { class: "bar", share, "aria-hidden": "true" }),
      ),
      el("span", { class: "figure" }, percent(item.probability)),
      state.history.length ? button("Why?", `Why ${item.title}?`, told, toggle) : null,
      button("+", `Add to the history: ${item.title}`, { title: "Add to the history" }, add),
    );
  };
  byId("list").replaceChildren(...items.map(row));
  tellList(items, Math.max(1, Math.round(milliseconds)));
  markExplained();
}

function tellList(items, milliseconds) {
  const { diversify, filters } = state.asked();
  byId("list-note").hidden = !items.length;
  if (!state.history.length) {
    byId("list-note").textContent = "Percentages are of all that was taken in training.";
    const nothing = filters ? "Nothing is left; loosen the filters." : INVITATION;
    say(items.length ? `${INVITATION} Until then, this is what was taken most often.` : nothing);
    return;
  }
  const unraised = filters ? "; filters do not raise them" : "";
  const all = `Probabilities are over all ${count(state.model.n_items, "item")}${unraised}.`;
  const own = "Each probability is that of the model thinking in the factor alone that picked it, over all items.";
  byId("list-note").textContent = diversify ? own : all;
  const after = `after ${count(state.history.length, "item")} in ${milliseconds.toLocaleString("en")} ms`;
  if (items.length) say(`${count(items.length, "recommendation")} ${after}.`);
  else say(`Nothing is left to recommend${filters ? "; loosen the filters" : ": the history holds everything"}.`);
}

const explained = (item, steering, signal) => {
  const body = { history: state.history.map((one) => one.item_id), item, ...steering };
  return ask("v1/explain", { body, signal, waiting });
};

function showHeat() {
  if (!state.model.n_factors) return;
  byId("heat").hidden = false;
  const body = byId("heat-body");
  if (!body.hasChildNodes()) body.replaceChildren(el("p", { class: "quiet" }, "Looking at what the factors read…"));
  body.setAttribute("aria-busy", "true");
  const work = async (signal) => {
    await pause(EXPLAIN_MS, signal);
    // What factors read has nothing to do with filters, which may leave nothing to explain.
    const { diversify, filters, ...steering } = state.asked();
    drawHeat((await explained(null, steering, signal)).explanation, state.names);
    body.setAttribute("aria-busy", "false");
  };
  attempt("heat", byId("heat-problem"), work, { again: showHeat, failed: () => body.replaceChildren() });
}

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
function explainItem(delay) {
  const body = byId("why-body");
  body.setAttribute("aria-busy", "true");
  begin("fidelity");
  const work = async (signal) => {
    await pause(delay, signal);
    const { diversify, ...steering } = state.asked();
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

function markExplained() {
  for (const button of byId("list").querySelectorAll("[data-item]")) {
    button.setAttribute("aria-expanded", String(button.dataset.item === state.explained));
  }
}

function closeWhy() {
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

function addExample() {
  const work = async (signal) => {
    const last = Math.max(0, state.model.n_items - EXAMPLE_ITEMS);
    const offset = Math.floor(Math.random() * (last + 1));
    const query = new URLSearchParams({ offset, limit: EXAMPLE_ITEMS });
    const { items } = await ask(`v1/items?${query}`, { signal, waiting });
    changeHistory(items.map(taken), `Added ${count(items.length, "item")} as an example.`);
    byId("search").focus();
  };
  return attempt("example", byId("results-problem"), work, { again: addExample });
}

function wire() {
  wireSearch({
    chosen: (item) => changeHistory([...state.history, taken(item)], ""),
    isTaken: (item) => state.history.some((one) => one.item_id === item.item_id),
  });
  byId("example").addEventListener("click", addExample);
  byId("clear").addEventListener("click", () => {
    changeHistory([], "The history is empty.");
    byId("search").focus();
  });
  byId("why-close").addEventListener("click", () => closeWhy());
  byId("why").addEventListener("keydown", (event) => event.key === "Escape" && closeWhy());
  byId("key-form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key").value.trim());
    byId("key").value = "";
    start();
  });
  byId("forget")?.addEventListener("click", () => {
    key.forget();
    location.reload();
  });
  if (window.matchMedia("(max-width: 44rem)").matches) byId("steer").open = false;
}

wire();
start();
