// The key that a server may ask for.

import { key } from "./api.js";
import { byId } from "./elements.js";
import { whenRefused } from "./jobs.js";

/** Wire the form of the key. start(): told when there is another one. */
export function wireKey(start) {
  if (!byId("key-form")) return;
  whenRefused(askForKey);
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(byId("key").value.trim());
    byId("key").value = "";
    start();
  });
  byId("forget").addEventListener("click", () => {
    key.forget();
    location.reload();
  });
}

function askForKey(problem) {
  byId("key-form").classList.add("wanted");
  const first = "This server asks for a key; it is kept in this tab only.";
  byId("key-note").textContent = key.get() ? `${problem.detail}.` : first;
  byId("main").inert = true;
  byId("key").focus();
  return true;
}

/** Say that the server has taken the key. */
export function acceptKey() {
  if (!byId("key-form")) return;
  byId("key-form").classList.remove("wanted");
  if (key.get()) byId("key-note").textContent = "The key is in use; it is kept in this tab only.";
}
