// The page: asks what is served, keeps the history, and shows lists and explanations as they come.

import { addressOf, readAddress } from "./address.js";
import { ask, pause, whenModelChanges } from "./api.js";
import { byId, count } from "./elements.js";
import { drawProfiles } from "./factors.js";
import { keepingFocus } from "./focus.js";
import { drawHistory } from "./history.js";
import { attempt, begin, endAll, waitingIn } from "./jobs.js";
import { acceptKey, wireKey } from "./keys.js";
import { INVITATION, clearList, drawList, say } from "./list.js";
import { askNeutral, keepNeutral, keptNeutral } from "./neutral.js";
import { wireSearch } from "./search.js";
import { state } from "./state.js";
import { wireSteering } from "./steering.js";
import { forgetTitles, itemsOf, meet } from "./titles.js";
import { closeWhy, explainItem, markOld, showHeat, wireWhy } from "./why.js";

const STEERING_MS = 200;
/** While servers are exchanged, answers may come from either; nobody is asked without a pause. */
const RELOAD_MS = 500;
const EXAMPLE_ITEMS = 5;

const ATTRIBUTES = "v1/attributes?limit=1000";
const ASKING = "Asking the server what it serves…";
const NOTHING = readAddress("");

/** The history and the weights that the heat map is of. */
let heated = "";

const taken = ({ item_id, title: text }) => ({ item_id, title: text });
const waiting = waitingIn(byId("status"), "Thinking…");
const tellNews = (...words) => (byId("news").textContent = words.filter(Boolean).join(" "));
const address = () => addressOf(state.history.map((item) => item.item_id), state.steering.asked());

/** Ask what is served, and show what the address says; news tell why, where it was shown before. */
function start(news = "") {
  endAll();
  cancelSearch();
  const tell = (words) => (byId("starting").textContent = words);
  const work = async (signal) => {
    tell(ASKING);
    if (news) await pause(RELOAD_MS, signal);
    const options = { signal, waiting: waitingIn(byId("starting"), ASKING) };
    const quietly = async (path) => {
      try {
        return await ask(path, options);
      } catch (problem) {
        if (problem.status === 404) return null;
        throw problem;
      }
    };
    const model = await ask("v1/model", options);
    const { attributes } = await ask(ATTRIBUTES, options);
    const profiles = model.n_factors ? ((await quietly("v1/factors"))?.profiles ?? null) : null;
    const names = Array.from({ length: model.n_factors }, (_, factor) => `Factor ${factor + 1}`);
    profiles?.factors.forEach((one) => (names[one.factor] = one.name));
    const wanted = readAddress(state.model ? new URL(address(), location.href).hash : location.hash) ?? NOTHING;
    const known = new Map(state.history.map((item) => [item.item_id, item.title]));
    if (model.model_id !== state.model?.model_id) forgetTitles();
    if (news) delete wanted.asked.factor_weights; // another model has other factors
    keepingFocus(byId("steer"), () => {
      const changed = (delay = STEERING_MS) => recommend(delay);
      const steering = wireSteering({ model, names, attributes, isProfiled: profiles !== null, changed });
      Object.assign(state, { model, names, attributes, steering });
    });
    tellModel(model);
    drawProfiles(profiles, model.n_factors);
    tell("");
    byId("main").inert = false;
    acceptKey();
    restore(wanted, { news, known });
  };
  return attempt("start", byId("problem"), work, { again: () => start(news), failed: () => tell("") });
}

/** Show what an address says; news are what else is told of it. known: titles by ids that may be there no longer. */
function restore({ ids, asked }, { news = "", known = new Map() } = {}) {
  const work = async (signal) => {
    state.steering.set(asked);
    const { items, unknown } = await itemsOf(ids, { signal, waiting });
    const lost = unknown.map((id) => known.get(id) ?? `“${id}”`).join(", ");
    tellNews(news, lost && `Not in the catalogue, and left out of the history: ${lost}.`);
    showHistory(items);
  };
  attempt("restore", byId("results-problem"), work, { again: () => restore({ ids, asked }, { news, known }) });
}

/** Learn what is served since the catalogue was edited; returns whether the list is to be another one. */
async function followEdits(options) {
  const [model, { attributes }] = [await ask("v1/model", options), await ask(ATTRIBUTES, options)];
  const asked = JSON.stringify(state.steering.asked());
  Object.assign(state, { model, attributes });
  tellModel(model);
  state.steering.chooseFrom(attributes);
  return asked !== JSON.stringify(state.steering.asked());
}

function tellModel(model) {
  const factors = model.n_factors ? count(model.n_factors, "factor") : "no factors";
  const window = `reads the last ${count(model.window, "item")} of a history`;
  byId("model").textContent = [count(model.n_items, "item"), factors, window, `flr ${model.flr_version}`].join(" · ");
}

/** Show another history, which one can go back from, and say what happened. */
function changeHistory(items, words) {
  const limit = state.model.limits.history;
  if (items.length > limit) {
    byId("search-note").textContent = `The server takes ${count(limit, "item")} of a history at most.`;
    return;
  }
  begin("restore");
  meet(items);
  tellNews();
  showHistory(items, words);
  if (address() !== shownAddress()) window.history.pushState(null, "", address());
}

const shownAddress = () => location.pathname + location.search + location.hash;

function showHistory(items, words) {
  state.history = items;
  state.explained = null;
  drawHistory(items, state.model.window, changeHistory);
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
  state.steering.allow(!isEmpty);
  if (isNewHistory) {
    closeWhy();
    begin("heat");
    heated = ""; // what was under way for this very history may have been ended
  }
  if (isEmpty) {
    byId("heat").hidden = true;
    if (isNewHistory) clearList(); // what is listed can no longer be explained
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
    if (address() !== shownAddress()) window.history.replaceState(null, "", address());
    list.setAttribute("aria-busy", "true");
    say("Thinking…");
    const started = performance.now();
    const histories = [state.history.map((item) => item.item_id)];
    const { factor_weights: weights, diversify, ...plain } = { histories, ...state.steering.asked() };
    const steered = { ...(weights && { factor_weights: weights }), ...(diversify && { diversify }) };
    const body = isEmpty ? { ...plain, empty: "popular" } : { ...plain, ...steered };
    const version = [state.model.model_id, state.model.catalogue_version];
    const answer = await ask("v1/recommend", { body, signal, waiting });
    const milliseconds = performance.now() - started;
    const { items } = answer.lists[0];
    markOld(false);
    const isEdited = answer.catalogue_version !== state.model.catalogue_version;
    if (isEdited && (await followEdits({ signal, waiting }))) return recommend(0);
    list.setAttribute("aria-busy", "false");
    if (!body.factor_weights) keepNeutral(body, version, items);
    meet(items.map(taken));
    const draw = (neutral) => drawList(items, { neutral, milliseconds, add: addListed });
    const kept = body.factor_weights ? keptNeutral(body, version) : null;
    draw(kept);
    if (isEmpty) return;
    if (state.explained !== null) explainItem();
    const heat = JSON.stringify([histories, body.factor_weights]);
    if (byId("heat").hidden || heat !== heated) showHeat();
    heated = heat;
    if (!body.factor_weights || kept) return;
    const neutral = await askNeutral(body, version, signal);
    signal.throwIfAborted();
    if (neutral) draw(neutral);
  };
  const failed = () => {
    list.setAttribute("aria-busy", "false");
    clearList();
    say("");
    markOld(true);
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

const cancelSearch = wireSearch({
  chosen: (item) => changeHistory([...state.history, taken(item)], `Added ${item.title}.`),
  isTaken: (item) => state.history.some((one) => one.item_id === item.item_id),
});
byId("example").addEventListener("click", addExample);
byId("clear").addEventListener("click", () => {
  const before = state.history;
  changeHistory([], "The history is empty.");
  byId("undo").hidden = false;
  byId("undo").onclick = () => {
    changeHistory(before, "All is back.");
    byId("search").focus();
  };
  byId("search").focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment says what is asked for
  byId("results").focus();
});
window.addEventListener("popstate", () => {
  const wanted = readAddress(location.hash);
  if (wanted && state.model) restore(wanted);
});
whenModelChanges(() => start("The server now serves another model; the page was loaded anew."));
wireWhy((title) => {
  tellNews(`${title} is recommended no longer.`);
  recommend(0);
});
wireKey(() => start());
if (window.matchMedia("(max-width: 54rem)").matches) byId("steer").open = false;
start();
