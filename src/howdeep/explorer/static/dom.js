/** Elements, and numbers as text. Text is set as text everywhere: nothing that comes from data is read as HTML. */

export const byId = (id) => document.getElementById(id);

/** Make an element; attributes that start with "on" are listeners, true and false are present and absent. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** Set an attribute only where it differs: hundreds of cells are drawn at every change. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const MINUS = "\u2212";

export const fixed = (value, digits = 1) => value.toFixed(digits).replace("-", MINUS);

export const percent = (value, digits = 1) => `${fixed(value, digits)}\u00a0%`;

/** A change with its sign; what rounds to nothing has none. */
export function signed(value, digits = 1) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? MINUS : "+") + text;
}

/** Three significant digits, without an exponent below a thousand. */
export const short = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

/** 126e6 → "126 M". */
export function large(value) {
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, sign] = units.find(([size]) => value >= size) ?? [1, ""];
  return `${short(value / size)}${sign && "\u00a0" + sign}`;
}

/** "1 unit", "2 units". */
export const counted = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** How far a long work is: "step 12 of 300, about 9 min". */
export function howFar({ step, of, seconds_left: left }) {
  const time = left < 90 ? `${Math.ceil(left)} s` : `${Math.round(left / 60)} min`;
  return `step ${step.toLocaleString("en")} of ${of.toLocaleString("en")}${step < of ? `, about ${time}` : ""}`;
}
