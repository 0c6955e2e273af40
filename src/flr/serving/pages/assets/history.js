// The history: a list that is put in order with mouse or keyboard.

import { byId, el, title } from "./elements.js";
import { describe, twins } from "./titles.js";

/**
 * Draw the history. history: items, oldest first. window: how many of the last are read.
 * change(history, words): told the new history and what happened.
 */
export function drawHistory(history, window, change) {
  const [list, same] = [byId("history"), twins(history)];
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
    const told = same.has(item.item_id) ? el("span", { class: "by" }, describe(item, true)) : null;
    const age = unread ? el("span", { class: "tag" }, "too old to be read") : null;
    return el(
      "li",
      { class: unread ? "unread" : null, draggable: "true", on },
      el("span", { class: "number", "aria-hidden": "true" }, String(place + 1)),
      el("span", { class: "grow" }, title(item.title), age, told),
      button("up", "↑", "Move up", () => move(place, place - 1, "up"), place === 0),
      button("down", "↓", "Move down", () => move(place, place + 1, "down"), place === history.length - 1),
      button("remove", "✕", "Remove", () => remove(place)),
    );
  };
  list.replaceChildren(...history.map(row));
  byId("clear").hidden = byId("history-help").hidden = !history.length;
  byId("example").hidden = Boolean(history.length);
  byId("undo").hidden = true;
}

function dragging(list, place, move) {
  const unmark = () => [...list.children].forEach((row) => row.classList.remove("onto", "below", "dragged"));
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
      const isDown = Number(list.dataset.dragged) < place;
      event.currentTarget.classList.add(isDown ? "below" : "onto");
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
