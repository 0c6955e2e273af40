// The page: asks what is served, keeps the history, and shows lists and explanations as they come.

import { ask, key, pause } from "./api.js";
import { byId, count } from "./elements.js";
import { drawProfiles } from "./factors.js";
import { drawHistory, wireSearch } from "./history.js";
import { attempt, begin, waitingBy } from "./jobs.js";
import { acceptKey, wireKey } from "./keys.js";
import { INVITATION, drawList, say } from "./list.js";
import { state } from "./state.js";
import { wireSteering } from "./steering.js";
import { closeWhy, explainItem, showHeat, wireWhy } from "./why.js";

const STEERING_MS = 200;
const EXAMPLE_ITEMS = 5;

/** The history and the weights that the heat map is of. */
let heated = "";

const taken = ({ item_id, title: text }) => ({ item_id, title: text });
const waiting = waitingBy(say);

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
    acceptKey();
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

function addListed(item) {
  changeHistory([...state.history, taken(item)], `Added ${item.title}.`);
  byId("results").focus();
}

/** Ask for the list; afterwards for what is shown of it: why an item, and what the factors read. */
function recommend(delay, isNewHistory = false) {
  const [list, place] = [byId("list"), byId("results-problem")];
  const isEmpty = !state.history.length;
  if (isNewHistory) {
    closeWhy();
    begin("heat");
    heated = ""; // what was under way for this very history may have been ended
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
    drawList(answer.lists[0].items, performance.now() - started, addListed);
    if (isEmpty) return;
    if (state.explained !== null) explainItem();
    const heat = JSON.stringify([histories, body.factor_weights]);
    if (byId("heat").hidden || heat !== heated) showHeat();
    heated = heat;
  };
  const failed = () => {
    list.setAttribute("aria-busy", "false");
    list.replaceChildren();
    byId("list-note").hidden = true;
    say("");
  };
  attempt("list", place, work, { again: () => recommend(0, isNewHistory), failed });
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

wireSearch({
  chosen: (item) => changeHistory([...state.history, taken(item)], ""),
  isTaken: (item) => state.history.some((one) => one.item_id === item.item_id),
});
byId("example").addEventListener("click", addExample);
byId("clear").addEventListener("click", () => {
  changeHistory([], "The history is empty.");
  byId("search").focus();
});
wireWhy();
wireKey(start);
if (window.matchMedia("(max-width: 44rem)").matches) byId("steer").open = false;
start();
