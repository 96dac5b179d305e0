/** Cards of the images watched: what the network says of each, and what the baseline said. */

import { byId, el, percent } from "./dom.js";
import { sharpen } from "./images.js";

/** Return what draws the cards of an answer. */
export function watched(state) {
  return (answer) => {
    const cards = answer.watched.map(({ image, label, top }) => {
      const right = top[0]?.name === label;
      const verdict = el("span", { class: right ? "right" : "wrong" }, right ? "✓" : "✗");
      const stop = () => state.change(() => (state.watched = state.watched.filter((other) => other !== image)));
      return card(`api/images/${image}.png`, [verdict, ` is ${label}`], top, `image ${image}`, stop);
    });
    if (answer.upload && state.upload) cards.unshift(ofUpload(state, answer.upload));
    const hint = el("p", { class: "hint" }, "Choose images below, or drop a picture onto the page.");
    draw(byId("watched"), cards.length ? cards : [hint]);
  };
}

function ofUpload(state, top) {
  const { token, name, width, height } = state.upload;
  const title = [el("span", { title: `${name}, ${width}×${height} pixels, as the network sees it` }, "your picture")];
  return card(`api/uploads/${token}.png`, title, top, "your picture", () => state.change(() => (state.upload = null)));
}

function card(source, title, top, name, stop) {
  const picture = el("img", { src: source, width: 56, height: 56, alt: name, onload: sharpen });
  const label = `stop watching ${name}`;
  const close = el("button", { type: "button", class: "link close", "aria-label": label, onclick: stop }, "×");
  const head = el("p", { class: "card-title" }, el("span", {}, ...title), close);
  const rows = top.length ? top.map(row) : [el("p", { class: "hint" }, "no finite scores")];
  return el("article", { class: "card", "data-name": name }, picture, el("div", {}, head, ...rows));
}

/** Class, bar, number; the tick on the bar is the baseline's. */
function row({ name, probability, before }) {
  const words = `${name}: ${percent(100 * probability, 0)}, baseline ${percent(100 * before, 0)}`;
  const bar = el("i", { class: "probability", style: `width: ${100 * probability}%` });
  const tick = el("i", { class: "before", style: `left: ${100 * before}%` });
  return el(
    "div", { class: "class", title: words },
    el("span", { class: "class-name", title: name }, name),
    el("span", { class: "value", "aria-hidden": "true" }, percent(100 * probability, 0)),
    el("span", { class: "meter", role: "img", "aria-label": words }, bar, tick),
  );
}

/** Draw the cards again, and put the focus back to the button that had it. */
function draw(box, cards) {
  const focused = box.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  box.replaceChildren(...cards);
  if (focused) (box.querySelector(`[aria-label="${CSS.escape(focused)}"]`) ?? box.querySelector("button"))?.focus();
}
