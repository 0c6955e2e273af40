// The history: a search over the catalogue, and a list that is put in order with mouse or keyboard.

import { ask } from "./api.js";
import { byId, count, el, title } from "./elements.js";

const MOST_FOUND = 8;
const TYPING_MS = 150;

/** Wire the search. chosen(item): told what was chosen. isTaken(item): whether the history holds it. */
export function wireSearch({ chosen, isTaken }) {
  const [input, list, note] = [byId("search"), byId("found"), byId("search-note")];
  let [items, active, timer, asking] = [[], -1, 0, null];
  let shown = ""; // what was sought for the titles that are shown
  let isHasty = false; // Enter was pressed before they came

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
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
    close();
    chosen(item);
    note.textContent = `Added ${item.title}.`;
  };
  const option = (item, place) => {
    const taken = isTaken(item) ? el("span", { class: "quiet" }, "in the history") : null;
    const attributes = { role: "option", id: `found-${place}`, "aria-selected": "false" };
    return el("li", { ...attributes, on: { click: () => choose(place) } }, title(item.title), taken);
  };
  const show = (answer, sought) => {
    items = answer.items;
    shown = sought;
    list.replaceChildren(...items.map(option));
    if (!items.length) {
      isHasty = false;
      close();
      note.textContent = `No title holds “${sought}”.`;
      return;
    }
    if (isHasty) {
      isHasty = false;
      choose(0);
      return;
    }
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    activate(0);
    const more = answer.total > items.length ? `; the first ${items.length} are shown, type more to narrow` : "";
    note.textContent = `${count(answer.total, "title")}${more}.`;
  };
  const search = async () => {
    clearTimeout(timer);
    asking?.abort();
    const sought = input.value.trim();
    if (!sought) {
      close();
      note.textContent = "";
      return;
    }
    asking = new AbortController();
    const waiting = (seconds) => {
      if (seconds !== null) note.textContent = `The server is busy; searching again in ${count(seconds, "second")}.`;
    };
    const query = new URLSearchParams({ search: sought, limit: MOST_FOUND });
    try {
      show(await ask(`v1/items?${query}`, { signal: asking.signal, waiting }), sought);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      isHasty = false;
      close();
      note.textContent = `${problem.title}: ${problem.detail}`;
    }
  };
  const keys = {
    ArrowDown: () => (list.hidden ? search() : activate(active + 1)),
    ArrowUp: () => !list.hidden && activate(active - 1),
    Enter: () => {
      if (!list.hidden && shown === input.value.trim()) choose(active);
      else if ((isHasty = input.value.trim() !== "")) search();
    },
    Escape: () => (list.hidden ? (input.value = "") : close()),
  };
  input.addEventListener("input", () => {
    isHasty = false;
    clearTimeout(timer);
    timer = setTimeout(search, TYPING_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus in the field
}

/**
 * Draw the history. history: items, oldest first. window: how many of the last are read.
 * change(history, words): told the new history and what happened.
 */
export function drawHistory(history, window, change) {
  const list = byId("history");
  const nUnread = Math.max(0, history.length - window);

  const move = (from, to, button) => {
    if (to < 0 || to >= history.length || to === from) return;
    const moved = [...history];
    moved.splice(to, 0, ...moved.splice(from, 1));
    change(moved, `${history[from].title} is now number ${to + 1} of ${history.length}.`);
    focus(to, button);
  };
  const remove = (place) => {
    change(history.filter((_, number) => number !== place), `Removed ${history[place].title}.`);
    if (history.length > 1) focus(Math.min(place, history.length - 2), "remove");
    else byId("search").focus();
  };
  const focus = (place, button) => {
    const row = list.children[place];
    const wanted = row?.querySelector(`[data-act="${button}"]`);
    (wanted && !wanted.disabled ? wanted : row?.querySelector("button:not([disabled])"))?.focus();
  };
  const row = (item, place) => {
    const button = (act, sign, label, click, disabled = false) => {
      const named = { title: label, "aria-label": `${label}: ${item.title}` };
      return el("button", { type: "button", class: "small", "data-act": act, ...named, disabled, on: { click } }, sign);
    };
    const shortcuts = (event) => {
      const act = event.target.dataset?.act ?? "remove";
      if (event.altKey && event.key === "ArrowUp") move(place, place - 1, act);
      else if (event.altKey && event.key === "ArrowDown") move(place, place + 1, act);
      else if (event.key === "Delete") remove(place);
      else return;
      event.preventDefault();
    };
    const unread = place < nUnread;
    const on = { keydown: shortcuts, ...dragging(list, place, move) };
    const age = unread ? el("span", { class: "tag" }, "too old to be read") : null;
    return el(
      "li",
      { class: unread ? "unread" : null, draggable: "true", on },
      el("span", { class: "number", "aria-hidden": "true" }, String(place + 1)),
      el("span", { class: "grow" }, title(item.title), age),
      button("up", "↑", "Move up", () => move(place, place - 1, "up"), place === 0),
      button("down", "↓", "Move down", () => move(place, place + 1, "down"), place === history.length - 1),
      button("remove", "✕", "Remove", () => remove(place)),
    );
  };
  list.replaceChildren(...history.map(row));
  byId("clear").hidden = byId("history-help").hidden = !history.length;
  byId("example").hidden = Boolean(history.length);
}

function dragging(list, place, move) {
  const unmark = () => [...list.children].forEach((row) => row.classList.remove("onto", "dragged"));
  return {
    dragstart: (event) => {
      event.dataTransfer.setData("text/plain", String(place));
      event.dataTransfer.effectAllowed = "move";
      list.dataset.dragged = String(place);
      event.currentTarget.classList.add("dragged");
    },
    dragover: (event) => {
      if (list.dataset.dragged === undefined) return;
      event.preventDefault();
      unmark();
      event.currentTarget.classList.add("onto");
    },
    drop: (event) => {
      event.preventDefault();
      const from = Number(list.dataset.dragged ?? NaN);
      delete list.dataset.dragged;
      unmark();
      if (Number.isInteger(from)) move(from, place, "remove");
    },
    dragend: () => {
      delete list.dataset.dragged;
      unmark();
    },
  };
}
