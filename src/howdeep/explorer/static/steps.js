/**
 * The states of this tab, one after the other: undo and redo are the browser's back and forward; and their errors. Of two
 * networks in one tab each undoes its own, which the browser, that has one history for both, cannot.
 */

import { byId, mark, percent } from "./dom.js";
import { alone } from "./together.js";

const MOST = 60; // states in the line at a time
const WIDTH = 160;
const HEIGHT = 28;
const APART = 12; // pixels between two states at most
const EDGE = 5;
const PAUSE = 1000; // milliseconds up to which two strokes of a key that scales a unit are one step

export class Steps {
  /** `load` tells the entries of this page from those that were in the tab's history before. */
  constructor(state, load) {
    Object.assign(this, { state, load, arriving: false, moving: false, joined: -Infinity });
    history.scrollRestoration = "manual"; // a step does not move the page
    this.begin();
    state.subscribe((change) => this.note(change));
    addEventListener("popstate", (event) => this.arrive(event.state));
    byId("undo").addEventListener("click", () => this.go(-1));
    byId("redo").addEventListener("click", () => this.go(1));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  get here() {
    return { load: this.load, at: this.at };
  }

  begin() {
    this.steps = [{ address: this.state.address, error: null }];
    this.at = this.aim = 0;
    history.replaceState(this.here, "");
    this.draw();
  }

  /** Put a state behind the present one, in the place of those that were undone. */
  add(address) {
    this.steps.splice((this.aim = this.at += 1), Infinity, { address, error: null });
  }

  note({ dragging, joined }) {
    const { address } = this.state;
    if (dragging || this.arriving || address === this.steps[this.at].address) return;
    const now = performance.now();
    const same = joined && now - this.joined < PAUSE;
    this.joined = joined ? now : -Infinity;
    if (same) this.at -= 1;
    this.add(address);
    history[same || !alone ? "replaceState" : "pushState"](this.here, "", address || location.pathname);
    this.moving = false;
    this.draw();
  }

  /** The browser has gone to another state: one of this page, one typed as an address, or one from before it. */
  arrive(entry) {
    this.read();
    if (entry === null) {
      this.add(this.state.address);
      history.replaceState(this.here, "");
    } else if (entry.load === this.load) {
      this.at = entry.at;
      if (!this.moving) this.aim = this.at;
    } else this.begin();
    this.moving = false;
    this.draw();
    this.approach();
  }

  /** Aim at the state so many further, or at the last one there is; strokes of the key do not wait for the browser. */
  go(by) {
    this.aim = Math.max(0, Math.min(this.steps.length - 1, this.aim + by));
    this.approach();
  }

  approach() {
    if (this.moving || this.aim === this.at) return;
    if (alone) {
      this.moving = true;
      history.go(this.aim - this.at);
      return;
    }
    this.at = this.aim;
    history.replaceState(this.here, "", this.steps[this.at].address || location.pathname);
    this.read();
    this.draw();
  }

  /** Take the state of the address. */
  read() {
    this.arriving = true;
    this.state.change((state) => state.read(location.hash));
    Object.assign(this, { arriving: false, joined: -Infinity });
  }

  key(event) {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.matches("input[type=number]")) return;
    if (key === "z") this.go(event.shiftKey ? 1 : -1);
    else if (key === "y") this.go(1);
    else return;
    event.preventDefault();
  }

  /** Take the error of a state, which came with its answer. */
  tell(address, error) {
    for (const step of this.steps) if (step.address === address) step.error = error;
    this.draw();
  }

  draw() {
    const ends = { undo: this.at === 0, redo: this.at === this.steps.length - 1 };
    for (const [id, end] of Object.entries(ends)) mark(byId(id), "aria-disabled", end); // a disabled one loses the focus
    const first = Math.max(0, Math.min(this.at - MOST / 2, this.steps.length - MOST));
    const shown = this.steps.slice(first, first + MOST);
    const known = shown.map(({ error }, place) => ({ place, error })).filter(({ error }) => error !== null);
    byId("history").hidden = known.length < 2;
    if (known.length < 2) return;
    const errors = known.map(({ error }) => error);
    const [most, least] = [Math.max(1, ...errors), Math.min(...errors)];
    const apart = Math.min(APART, (WIDTH - 2 * EDGE) / (shown.length - 1));
    const points = known.map(({ place, error }) => {
      return { place, x: EDGE + place * apart, y: HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * error) / most };
    });
    const now = points.find(({ place }) => place === this.at - first);
    const line = svg("polyline", { points: points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") });
    const dots = points.map((point) => svg("circle", { cx: point.x, cy: point.y, r: point === now ? 4.5 : 2 }));
    const words = `errors of ${this.steps.length} states: ${percent(least)} to ${percent(most)}; this is number ${this.at + 1}`;
    const size = { width: 2 * EDGE + apart * (shown.length - 1), height: HEIGHT, role: "img", "aria-label": words };
    byId("history").replaceChildren(svg("svg", size, line, ...dots));
    byId("history").title = words;
  }
}

function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
