// The search over the catalogue, for what goes into the history.

import { ask } from "./api.js";
import { byId, count, el, title } from "./elements.js";
import { waitingIn } from "./jobs.js";
import { describe, meet, twins } from "./titles.js";

const MOST_FOUND = 8;
const TYPING_MS = 150;

/** Return a title as it is compared with what was typed: without case, and without a year in brackets. */
const plain = (text) => text.replace(/\s*\(\d{4}\)\s*$/, "").trim().toLowerCase();

/** Return the place of the title that was typed in full; the first where none was. */
function placeOf(items, sought) {
  const whole = items.findIndex((item) => item.title.toLowerCase() === sought.toLowerCase());
  const named = whole >= 0 ? whole : items.findIndex((item) => plain(item.title) === plain(sought));
  return Math.max(named, 0);
}

/**
 * Wire the search. chosen(item): told what was chosen. isTaken(item): whether the history holds it. Returns cancel(),
 * which forgets what was found.
 */
export function wireSearch({ chosen, isTaken }) {
  const [input, list, note] = [byId("search"), byId("found"), byId("search-note")];
  let [items, active, timer] = [[], -1, 0];
  let shown = ""; // what was sought for the titles that are shown
  let searching = new AbortController();
  let hurried = new AbortController(); // of texts for which Enter was pressed before their titles came
  let last = Promise.resolve(); // of these, so that they are added in the order of typing

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };
  /** End the search: nothing opens any more that nobody waits for. */
  const cancel = () => {
    clearTimeout(timer);
    searching.abort();
    close();
  };
  const activate = (place) => {
    active = (place + items.length) % items.length;
    [...list.children].forEach((option, number) => option.setAttribute("aria-selected", String(number === active)));
    input.setAttribute("aria-activedescendant", `found-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  };
  const choose = (place) => {
    const item = items[place];
    input.value = "";
    items = [];
    cancel();
    chosen(item);
  };
  const option = (item, place, all) => {
    const about = describe(item, twins(all).has(item.item_id));
    const taken = isTaken(item) ? el("span", { class: "quiet" }, "in the history") : null;
    const attributes = { role: "option", id: `found-${place}`, "aria-selected": "false" };
    return el("li", { ...attributes, on: { click: () => choose(place) } }, el("span", { class: "grow" }, title(item.title), el("span", { class: "by one-line" }, about)), taken);
  };
  const find = async (sought, signal) => {
    const query = new URLSearchParams({ search: sought, limit: MOST_FOUND });
    const answer = await ask(`v1/items?${query}`, { signal, waiting: waitingIn(note) });
    meet(answer.items);
    return answer;
  };
  const missing = (sought) => `No title holds “${sought}”.`;
  const show = (answer, sought) => {
    if (document.activeElement !== input) return;
    items = answer.items;
    shown = sought;
    list.replaceChildren(...items.map(option));
    if (!items.length) {
      close();
      note.textContent = missing(sought);
      return;
    }
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    activate(placeOf(items, sought));
    const more = answer.total > items.length ? `; the first ${items.length} are shown, type more to narrow` : "";
    note.textContent = `${count(answer.total, "title")}${more}.`;
  };
  const search = async () => {
    clearTimeout(timer);
    searching.abort();
    const sought = input.value.trim();
    if (!sought) {
      close();
      note.textContent = "";
      return;
    }
    searching = new AbortController();
    try {
      show(await find(sought, searching.signal), sought);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      close();
      note.textContent = `${problem.title}: ${problem.detail}`;
    }
  };
  /** Add the best title for what was typed, once it is found; meanwhile the field is free for the next. */
  const hurry = (sought) => {
    const { signal } = hurried;
    input.value = "";
    cancel();
    note.textContent = `Looking for “${sought}”…`;
    const failed = (words) => {
      note.textContent = words;
      if (!input.value) input.value = sought; // to be mended
    };
    const answer = find(sought, signal);
    answer.catch(() => {}); // told below, in its turn
    last = last.then(async () => {
      try {
        const { items: found } = await answer;
        if (signal.aborted) return;
        if (found.length) chosen(found[placeOf(found, sought)]);
        else failed(missing(sought));
      } catch (problem) {
        if (problem.name !== "AbortError") failed(`${problem.title}: ${problem.detail}`);
      }
    });
  };
  const keys = {
    ArrowDown: () => (list.hidden ? search() : activate(active + 1)),
    ArrowUp: () => !list.hidden && activate(active - 1),
    Enter: () => {
      const sought = input.value.trim();
      if (!list.hidden && shown === sought) choose(active);
      else if (sought) hurry(sought);
    },
    Escape: () => {
      if (list.hidden) {
        input.value = note.textContent = "";
        hurried.abort();
        hurried = new AbortController();
      }
      cancel();
    },
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, TYPING_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("blur", cancel);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus in the field
  return cancel;
}
