/** The images of the sample: which are wrong now, and up to eight that are watched. */

import { byId, counted, el, mark } from "./dom.js";

const WATCHED = 8;
const WRONG = "✗"; // filled where it is newly so
const SHOWN = 400; // a page of many thousands of pictures is of no use

/** Start with one image of each of the first classes. */
export function firstImages(images, k = 4) {
  const firsts = new Map();
  images.forEach(({ label }, image) => firsts.has(label) || firsts.set(label, image));
  return [...firsts].sort(([one], [two]) => one - two).slice(0, k).map(([, image]) => image);
}

export class Images {
  constructor(network, state) {
    Object.assign(this, { network, state, filter: "all", active: 0, answer: null });
    this.thumbs = network.images.map((_, image) => this.thumb(image));
    this.filters = ["all", "wrong", "newly wrong"].map((name) => this.option(name));
    byId("filter").append(...this.filters);
    byId("thumbs").addEventListener("click", (event) => this.press(event.target.closest(".thumb")));
    byId("thumbs").addEventListener("keydown", (event) => this.key(event));
    state.subscribe(() => this.draw());
    this.list();
  }

  thumb(image) {
    const size = { width: 40, height: 40, loading: "lazy", alt: "", onload: sharpen };
    const picture = el("img", { src: `api/images/${image}.png`, ...size });
    const sign = el("span", { class: "sign" });
    return el("button", { type: "button", class: "thumb", "data-image": image, tabindex: -1 }, picture, sign);
  }

  option(name) {
    const input = el("input", { type: "radio", name: "filter", value: name, checked: name === this.filter });
    input.addEventListener("change", () => {
      this.filter = name;
      this.list();
    });
    const sign = el("span", { class: "sign", "data-verdict": name, "aria-hidden": "true" }, name === "all" ? "" : WRONG);
    return el("label", {}, input, el("span", {}, sign, el("span", {}, name)));
  }

  show(answer) {
    this.answer = answer;
    const counts = [this.network.n, answer.wrong.length, answer.newly_wrong.length];
    this.filters.forEach(({ firstChild: input, lastChild }, at) => {
      lastChild.lastChild.textContent = `${input.value} ${counts[at]}`;
    });
    this.wrong = new Set(answer.wrong);
    this.newly = new Set(answer.newly_wrong);
    this.list();
  }

  /** The images that the filter lets through. */
  listed() {
    const every = this.network.images.map((_, image) => image);
    if (this.filter === "all" || !this.answer) return every;
    return this.filter === "wrong" ? this.answer.wrong : this.answer.newly_wrong;
  }

  list() {
    const listed = this.listed();
    const shown = listed.slice(0, SHOWN);
    const box = byId("thumbs");
    if (!same([...box.children].map((thumb) => Number(thumb.dataset.image)), shown)) {
      const focused = box.contains(document.activeElement);
      box.replaceChildren(...shown.map((image) => this.thumbs[image]));
      if (!shown.includes(this.active)) this.active = shown[0] ?? 0;
      if (focused) (this.thumbs[this.active].isConnected ? this.thumbs[this.active] : this.filters[0].firstChild).focus();
    }
    const rest = listed.length - shown.length;
    byId("thumbs-more").textContent = rest ? `and ${counted(rest, "more image")}` : shown.length ? "" : "none";
    this.draw();
  }

  draw() {
    const watched = new Set(this.state.watched);
    for (const thumb of byId("thumbs").children) {
      const image = Number(thumb.dataset.image);
      const newly = this.newly?.has(image);
      const verdict = newly ? "newly wrong" : this.wrong?.has(image) ? "wrong" : "right";
      mark(thumb, "data-verdict", verdict);
      mark(thumb, "tabindex", image === this.active ? 0 : -1);
      mark(thumb, "aria-pressed", watched.has(image));
      const name = this.network.classes[this.network.images[image].label];
      mark(thumb, "aria-label", `image ${image}, class ${name}, ${verdict}`);
      mark(thumb, "title", `image ${image}: ${name}, ${verdict} now`);
      mark(thumb.lastChild, "data-verdict", verdict);
      thumb.lastChild.textContent = verdict === "right" ? "" : WRONG;
    }
  }

  /** Watch an image or stop to; the ninth takes the place of the first. */
  press(thumb) {
    if (!thumb) return;
    this.active = Number(thumb.dataset.image);
    const { watched } = this.state;
    const rest = watched.filter((image) => image !== this.active);
    const next = rest.length < watched.length ? rest : [...watched, this.active].slice(-WATCHED);
    this.state.change(() => (this.state.watched = next));
  }

  key(event) {
    const row = this.perRow();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const thumbs = [...byId("thumbs").children];
    const at = thumbs.indexOf(this.thumbs[this.active]) + step;
    const next = thumbs[Math.max(0, Math.min(thumbs.length - 1, at))];
    this.active = Number(next.dataset.image);
    this.draw();
    next.focus();
  }

  perRow() {
    const [first, ...rest] = byId("thumbs").children;
    const below = rest.findIndex((thumb) => thumb.offsetTop > first.offsetTop);
    return below < 0 ? 1 : below + 1;
  }
}

const same = (one, two) => one.length === two.length && one.every((value, at) => value === two[at]);

/** Small pictures are shown pixel by pixel, not as a blur. */
export function sharpen({ target }) {
  target.classList.toggle("pixels", target.naturalWidth < 100);
}
