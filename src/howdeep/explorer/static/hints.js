/** What a newcomer is told: the first gesture, and words that are explained where the pointer or the keyboard is. */

import { byId } from "./dom.js";

const TOLD = "howdeep-first-gesture"; // the browser forgets it with the tab

/** Show the first line until something is changed in this tab; Escape takes an explanation away. */
export function hints(state) {
  const [memory, before] = [ofTab(), state.address];
  byId("hint").hidden = memory?.getItem(TOLD) === "";
  state.subscribe(() => {
    if (state.address === before) return; // an image that is watched is no gesture on a unit
    byId("hint").hidden = true;
    memory?.setItem(TOLD, "");
  });
  for (const term of document.querySelectorAll(".term")) {
    const quiet = (on) => term.toggleAttribute("data-quiet", on);
    for (const kind of ["pointerenter", "focusin"]) term.addEventListener(kind, () => quiet(false));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && quiet(true));
  }
}

function ofTab() {
  try {
    return sessionStorage;
  } catch {
    return null; // a browser that may keep nothing refuses to name it
  }
}
