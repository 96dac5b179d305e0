/** Charts, drawn by the server. */

import { byId } from "./dom.js";

/** Put the charts of an answer into their places; a chart that did not change stays. */
export function figures() {
  const drawn = new Map();
  return (charts) => {
    for (const [name, text] of Object.entries(charts)) {
      const place = byId(name);
      if (!place || drawn.get(name) === text) continue;
      drawn.set(name, text);
      place.replaceChildren(picture(name, text));
    }
  };
}

/** Read SVG as SVG, never as HTML. */
function picture(name, text) {
  const read = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (read.localName !== "svg") return document.createTextNode("this chart cannot be shown");
  const chart = document.importNode(read, true);
  chart.setAttribute("role", "img");
  const said = [...chart.querySelectorAll(".role-title text")].map((line) => line.textContent);
  chart.setAttribute("aria-label", [byId(`${name}-title`).textContent, ...said].join(": "));
  return chart;
}
