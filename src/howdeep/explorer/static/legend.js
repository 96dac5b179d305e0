/** What the deletion of each unit costs: measured, coloured, and what the colours mean. */

import { MARKS, place, ramp } from "./costs.js";
import { byId, el, fixed, howFar, signed } from "./dom.js";
import { fail } from "./notices.js";
import { Cancelled } from "./client.js";

/** Show the costs of the network, or measure them: at once where there are few units, else when asked to. */
export function costs(network, strip, work) {
  const known = ({ change, costly, n, source }) => {
    strip.setCosts(change);
    byId("finding").textContent = finding(change, costly, n);
    byId("costs").replaceChildren(...scale(n, source));
  };
  const measure = async () => {
    byId("costs").replaceChildren("measuring what each unit costs …");
    try {
      const { deletions } = await work.ask("api/deletions", {}, (told) => {
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

/** Which unit matters, and how many may cost nothing, as far as n images tell, in one sentence. */
function finding(change, costly, n) {
  const units = change.map((points, unit) => ({ points, costly: costly[unit], number: unit + 1 }));
  const able = units.filter(({ points }) => points !== null);
  const [first, ...others] = [...able].sort((one, other) => other.points - one.points);
  if (!first) return "No unit of this network can be taken out.";
  if (first.points <= 0) return "No unit costs anything on these images when it alone is out.";
  const numbers = others.filter((unit) => unit.costly).slice(0, 2).map(({ number }) => number);
  const then = numbers.length ? `, then ${numbers.join(" and ")}` : "";
  const spare = able.filter((unit) => !unit.costly).length;
  const free = `${spare} of ${able.length} may cost nothing, as far as ${n.toLocaleString("en")} images tell`;
  const rest = spare ? free : "all cost something";
  return `Unit ${first.number} costs most (${signed(first.points)} points alone)${then}; ${rest}.`;
}

/** The colour bar with its marks, and what one of the n images is worth. */
function scale(n, source) {
  const marks = MARKS.map((points) => el("span", { style: `left: ${place(points)}%` }, fixed(points, 0)));
  const bar = el("i", { style: `background: linear-gradient(to right, ${ramp})` });
  return [el("span", { class: "ramp" }, bar, ...marks), `points of error when it alone is out (${source}; one image is ${fixed(100 / n)})`];
}
