// The focus stays where it was when what holds it is drawn anew.

const FOCUSABLE = "button:not(:disabled), input:not(:disabled), select, summary, a[href], [tabindex='0']";
const nameOf = (one) => one.id || one.getAttribute("aria-label") || one.textContent || one.value;

/** Redraw a place. What had the focus in it gets it back; if it is gone, what comes after it, or the fallback. */
export function keepingFocus(place, redraw, fallback = place) {
  const all = () => [...place.querySelectorAll(FOCUSABLE)];
  const before = all();
  const at = before.indexOf(document.activeElement);
  const names = before.map(nameOf);
  redraw();
  if (at < 0 || document.activeElement === before[at]) return;
  const after = all();
  const named = new Map(after.map((one) => [nameOf(one), one]).reverse());
  const wanted = names.slice(at).find((name) => named.has(name));
  (named.get(wanted) ?? after[Math.min(at, after.length - 1)] ?? fallback).focus({ preventScroll: true });
}
