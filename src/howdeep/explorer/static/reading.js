/** The answer in numbers: error, change, what is left. */

import { byId, counted, el, fixed, large, percent, short, signed } from "./dom.js";
import { announce } from "./notices.js";

const SPLITS = { val: "validation", train: "training", test: "test" };

export const sampleOf = (network) => counted(network.n, `${SPLITS[network.split] ?? network.split} image`);

/** Return what draws an answer. */
export function reading(network, state) {
  const guessing = 100 * (1 - 1 / network.classes.length);
  byId("scale-end").textContent = `guessing ${percent(guessing, 0)}`;
  return (answer) => {
    const verdict = judge(answer, state);
    const first = answer.n < answer.of ? `the first ${answer.n} of ` : "";
    byId("error-label").textContent = `error on ${first}${sampleOf(network)}`;
    byId("error").textContent = percent(answer.error_percent);
    byId("interval").textContent = `95\u00a0%: ${fixed(answer.low)} to ${percent(answer.high)}`;
    drawChange(answer, verdict);
    drawSure(answer, verdict);
    drawScale(answer, guessing);
    drawTiles(answer, state);
    const open = `${answer.units - answer.closed} of ${counted(answer.units, "unit")} open`;
    if (!first) announce(`Error ${percent(answer.error_percent)}, ${verdict.head}, ${open}`);
  };
}

/** Is the network worse? Words and a sign; the colour only repeats them. */
function judge(answer, state) {
  const untouched = !state.shuffled && state.all("out").length + state.all("gated").length === 0;
  const points = `${signed(answer.change)} points`;
  const reach = `(${signed(answer.change_low)} to ${signed(answer.change_high)})`;
  if (untouched) return { name: "same", head: "the baseline network", reach: "" };
  if (answer.change_low > 0) return { name: "worse", head: `▲ ${points}: worse`, reach };
  if (answer.change_high < 0) return { name: "better", head: `▼ ${points}: better`, reach };
  return { name: "same", head: `≈ ${points}: no clear change`, reach };
}

function drawChange(answer, verdict) {
  const parts = [el("b", {}, verdict.head)];
  if (verdict.reach) parts.push(" ", el("span", {}, verdict.reach));
  const broken = `${counted(answer.not_finite, "image")} without finite scores`;
  if (answer.not_finite) parts.push(" ", el("span", { class: "broken" }, broken));
  byId("change").replaceChildren(...parts);
  byId("change").dataset.verdict = verdict.name;
}

/** The probability of the right class, and the loss: they move where no image changes sides. */
function drawSure({ probability, loss }, { reach }) {
  byId("sure").hidden = !probability;
  if (!probability) return;
  const { value, change, change_low: low, change_high: high } = probability;
  const parts = [el("b", {}, percent(100 * value))];
  if (reach) parts.push(`, ${signed(100 * change)}`);
  if (reach && low !== null) parts.push(` (${signed(100 * low)} to ${signed(100 * high)})`);
  byId("sure-now").replaceChildren(...parts, `, loss ${short(loss.value)}`);
}

/** A line from 0 to 100 % on which guessing ends: where the error is, its interval, and the baseline's. */
function drawScale(answer, guessing) {
  const at = (value) => `${Math.min(100, (100 * value) / guessing)}%`;
  byId("scale-now").style.left = at(answer.error_percent);
  byId("scale-whole").style.left = at(answer.error_percent - answer.change);
  byId("scale-range").style.left = at(answer.low);
  byId("scale-range").style.right = `calc(100% - ${at(answer.high)})`;
  byId("scale-key").style.left = at(answer.error_percent - answer.change);
  byId("scale-key").toggleAttribute("data-left", answer.error_percent - answer.change > guessing / 2);
  byId("scale-key").textContent = `baseline ${percent(answer.error_percent - answer.change)}`;
}

function drawTiles(answer, state) {
  tile("units", String(answer.units - answer.closed), `of ${answer.units}`, others(answer, state));
  tile("macs", percent((100 * answer.macs) / answer.macs_all), "", `${large(answer.macs)} of ${large(answer.macs_all)}`);
  tile("ms", percent((100 * answer.ms) / answer.ms_all), "", `${short(answer.ms)} of ${short(answer.ms_all)} ms`);
  const { total, of, log2, shortest, longest, mean } = answer.paths;
  const range = `lengths ${shortest}–${longest}, mean ${fixed(mean, mean < 100 ? 1 : 0)}`;
  const lengths = shortest === longest ? `length ${shortest}` : range;
  tile("paths", power(log2, total), "", lengths);
  byId("tile-paths").append(el("small", {}, " of ", power(log2Of(of), of)));
  byId("tile-paths").title = `${total} of ${of}`;
}

function others(answer, state) {
  const gated = state.all("gated").length;
  const order = state.shuffled && `τ ${fixed(answer.kendall_tau ?? 1, 2)}`;
  const parts = [gated && `${counted(gated, "gate")} set`, order];
  return parts.filter(Boolean).join(", ") || (answer.closed ? `${answer.closed} taken out` : "");
}

function tile(name, value, unit, more) {
  byId(`tile-${name}`).replaceChildren(value, unit && el("small", {}, ` ${unit}`));
  byId(`tile-${name}-more`).textContent = more;
}

/** The logarithm of a whole number as it is written: thousands of units have more paths than a number holds. */
function log2Of(written) {
  const digits = written.replaceAll(",", "");
  return Math.log2(Number(digits.slice(0, 15))) + Math.max(0, digits.length - 15) * Math.log2(10);
}

/** Up to four digits as they are, more as a power of two. */
function power(log2, written) {
  if (written.length <= 5) return el("span", {}, written);
  const exponent = Math.abs(log2 - Math.round(log2)) < 0.05 ? String(Math.round(log2)) : fixed(log2);
  return el("span", {}, "2", el("sup", {}, exponent));
}
