// The key that a server may ask for.

import { ask, key } from "./api.js";
import { byId, showProblem } from "./elements.js";
import { whenRefused } from "./jobs.js";

/** What a key can be made of: other signs cannot be sent. */
const KEY = /^[\x21-\x7e]+$/;
/** Whether the server took the key that it refuses now. */
let isTaken = false;

const tell = (words) => (byId("key-note").textContent = words);

/** Wire the form of the key. start(): told when there is another one. */
export function wireKey(start) {
  if (!byId("key-form")) return;
  whenRefused(askForKey);
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = byId("key").value.trim();
    if (!KEY.test(given)) {
      tell("A key is one word of letters, digits and signs without accents; copy it again, whole and without quotes.");
      return;
    }
    key.set(given);
    isTaken = false;
    byId("key").value = "";
    start();
  });
  byId("forget").addEventListener("click", () => {
    key.forget();
    location.reload();
  });
  // A link sends no key.
  byId("description").addEventListener("click", (event) => {
    event.preventDefault();
    saveDescription();
  });
}

function askForKey() {
  byId("key-form").classList.add("wanted");
  const unknown = "The server does not know this key; check it, and enter it again.";
  const withdrawn = "The server takes this key no longer; enter another one. Nothing else is lost.";
  tell(!key.get() ? "This server asks for a key; it is kept in this tab only." : isTaken ? withdrawn : unknown);
  byId("main").inert = true;
  byId("key").focus();
  return true;
}

/** Say that the server has taken the key. */
export function acceptKey() {
  if (!byId("key-form")) return;
  byId("key-form").classList.remove("wanted");
  if (document.activeElement === byId("key")) byId("search").focus();
  isTaken = true;
  if (key.get()) tell("The key is in use; it is kept in this tab only.");
}

async function saveDescription() {
  try {
    const text = JSON.stringify(await ask("openapi.json"), null, 2);
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    Object.assign(document.createElement("a"), { href: address, download: "openapi.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (problem) {
    showProblem(byId("problem"), problem, null);
  }
}
