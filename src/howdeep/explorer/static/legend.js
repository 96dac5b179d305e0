/** What the deletion of each unit costs: measured, coloured, and what the colours mean. */

import { byId, el, fixed, howFar } from "./dom.js";
import { fail } from "./notices.js";
import { Cancelled } from "./client.js";

/** Show the costs of the network, or measure them: at once where there are few units, else when asked to. */
export function costs(network, strip, work) {
  const known = ({ change, source }) => {
    strip.setCosts(change);
    byId("costs").replaceChildren(...scale(strip.most, source));
  };
  const measure = async () => {
    byId("costs").replaceChildren("measuring what each unit costs …");
    try {
      const { deletions } = await work.ask("/api/deletions", {}, (told) => {
        byId("costs").replaceChildren(`measuring what each unit costs: ${howFar(told)}`);
      });
      known(deletions);
    } catch (error) {
      offer();
      if (!(error instanceof Cancelled)) fail(error, measure);
    }
  };
  const offer = () => {
    const button = el("button", { type: "button", id: "measure", onclick: measure }, "Measure what each unit costs");
    byId("costs").replaceChildren(button);
  };
  if (network.deletions) known(network.deletions);
  else if (network.measures_itself) measure();
  else offer();
}

/** A colour bar with three marks; positions follow the square root, as the cells do. */
function scale(most, source) {
  const marks = [0, most / 4, most].map((value) => {
    return el("span", { style: `left: ${100 * Math.sqrt(value / most)}%` }, value ? fixed(value) : "0");
  });
  return [el("span", { class: "ramp" }, el("i"), ...marks), `points of error when it alone is out (${source})`];
}
