/** Commands with a button that copies them. */

import { el } from "./dom.js";
import { announce } from "./notices.js";

export function command(text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // over HTTP from another machine a browser lets no page copy
      button.textContent = "Selected";
    }
    announce(button.textContent);
  });
  return el("span", { class: "command" }, code, button);
}
