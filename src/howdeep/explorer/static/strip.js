/** The strip: one cell per place, in the look of the unit that stands there. */

import { command } from "./copy.js";
import { colour } from "./costs.js";
import { byId, counted, el, fixed, large, mark, percent, short, signed } from "./dom.js";

const LARGE = 60; // up to so many units the cells are large and carry their numbers
const PITCH = 24; // least width and height of a small cell with its gap: what a finger meets
const GUTTER = 40; // width of a row's label
const ROWS = [100, 50, 40, 20, 10]; // so many small cells in a row: its first number is a round one
const STAGES = 8; // with more shapes than this (dense networks change theirs at every unit) they head no rows

export class Strip {
  constructor(network, state) {
    Object.assign(this, { network, state, root: byId("strip"), active: 0, pointed: null, span: null });
    Object.assign(this, { costs: null, answer: null });
    this.first = network.probe?.first ?? null; // what the first units alone would give, by the last of them
    this.large = network.units.length <= LARGE;
    this.root.classList.add(this.large ? "large" : "small");
    this.cells = network.units.map((_, place) => this.cell(place));
    this.stages = stages(network.units);
    byId("keep").hidden = this.first === null;
    byId("legend-first").hidden = this.first === null || !this.large;
    byId("legend-first").textContent = `error in % if a unit and those before it stay alone (${network.probe?.source})`;
    byId("legend-locked").hidden = network.units.every((unit) => unit.removable);
    new ResizeObserver(() => this.arrange()).observe(this.root);
    this.arrange();
    state.subscribe(() => this.draw());
    this.draw();
  }

  cell(place) {
    const bar = el("span", { class: "bar" }, el("span", { class: "fill" }));
    const number = this.large ? [el("span", { class: "number" })] : [];
    if (this.large && this.first) number.push(el("span", { class: "first" }));
    const limits = { "aria-valuemin": 0, "aria-valuemax": 2, "aria-orientation": "vertical" };
    return el("div", { class: "cell", role: "slider", tabindex: -1, "data-place": place, ...limits }, bar, ...number);
  }

  /** Put the cells into stages, small ones into rows as wide as the strip; they stay the same elements. */
  arrange() {
    const room = Math.floor((this.root.clientWidth - GUTTER) / PITCH);
    const row = this.large ? Infinity : (ROWS.find((cells) => cells <= room) ?? 10);
    this.root.style.setProperty("--pitch", `${Math.floor((this.root.clientWidth - GUTTER) / row)}px`);
    if (row === this.row) return;
    this.row = row;
    const focused = this.root.contains(document.activeElement);
    this.root.replaceChildren(...this.stages.map((stage) => this.stage(stage)));
    if (focused) this.cells[this.active].focus();
  }

  stage({ title, first, end }) {
    const cells = this.cells.slice(first, end);
    const heading = title ? [el("span", { class: "stage-title", title: "output of its units" }, title)] : [];
    const rows = [];
    for (let at = 0; at < cells.length; at += this.row) {
      const label = el("span", { class: "row-label", "aria-hidden": "true" }, String(first + at + 1));
      rows.push(el("div", { class: "row" }, ...(this.large ? [] : [label]), ...cells.slice(at, at + this.row)));
    }
    return el("div", { class: "stage", style: `--cells: ${cells.length}` }, ...heading, ...rows);
  }

  /** Take what each deletion costs; null while it is not known. */
  setCosts(costs) {
    this.costs = costs;
    this.draw();
  }

  draw() {
    for (let place = 0; place < this.cells.length; place++) this.drawCell(place);
    this.describe();
  }

  drawCell(place) {
    const cell = this.cells[place];
    const unit = this.state.order[place];
    const gate = this.state.gates[unit] ?? 0;
    const look = this.state.look(unit);
    mark(cell, "data-state", look);
    mark(cell, "data-unit", unit);
    mark(cell, "data-over", look === "gated" && gate > 1 ? "" : null);
    mark(cell, "data-moved", unit === place ? null : "");
    mark(cell, "data-span", this.inSpan(place) ? "" : null);
    mark(cell, "data-known", this.costs?.[unit] == null ? null : "");
    mark(cell, "style", `--gate: ${Math.min(gate, 1)}; --cost: ${colour(this.costs?.[unit] ?? 0)}`);
    mark(cell, "tabindex", place === this.active ? 0 : -1);
    mark(cell, "title", look === "locked" ? this.why(unit) : null);
    mark(cell, "aria-disabled", look === "locked" ? "true" : null);
    mark(cell, "aria-label", this.label(unit, place, look));
    mark(cell, "aria-valuenow", gate);
    mark(cell, "aria-valuetext", `${LOOKS[look](gate)}${look === "locked" ? "" : `, ${this.deletion(unit)}`}`);
    if (!this.large) return;
    const scaled = look === "gated" ? [" ", el("span", { class: "gate" }, `×${short(gate)}`)] : [];
    cell.children[1].replaceChildren(String(unit + 1), ...scaled);
    if (!this.first) return;
    const { error, chosen } = this.first[unit];
    cell.children[2].textContent = error < 99.95 ? fixed(error) : "100";
    mark(cell, "data-chosen", chosen ? "" : null);
  }

  label(unit, place, look) {
    const { name } = this.network.units[unit];
    const moved = unit === place ? "" : `, at place ${place + 1}`;
    const alone = this.first ? `, ${this.alone(unit)}: ${percent(this.first[unit].error)} error` : "";
    return `${name}${moved}${alone}${look === "locked" ? `, ${this.why(unit)}` : ""}`;
  }

  /** What stays when a unit is the last one, under a new classifier. */
  alone(unit) {
    const units = this.first.length;
    if (unit === units - 1) return `all ${units} units`;
    return `${unit ? `first ${unit + 1} units` : "first unit"} alone${this.first[unit].head ? " with the head" : ""}`;
  }

  why(unit) {
    return this.network.units[unit].why ?? "not removable: what goes in and what comes out differ in shape";
  }

  /** What it costs to take a unit out of the whole network. */
  deletion(unit) {
    const cost = this.costs?.[unit];
    return cost == null ? "cost not measured" : `alone out: ${signed(cost)} points of error`;
  }

  inSpan(place) {
    return this.span !== null && place >= Math.min(...this.span) && place <= Math.max(...this.span);
  }

  /** Say under the strip what the unit is that the pointer is at, or else the keyboard. */
  describe() {
    const place = this.pointed ?? this.active;
    const unit = this.state.order[place];
    const { name, output, macs, ms, removable } = this.network.units[unit];
    const all = this.answer;
    const parts = [
      place === unit ? null : `at place ${place + 1}`,
      LOOKS[this.state.look(unit)](this.state.gates[unit] ?? 0),
      removable ? this.deletion(unit) : this.why(unit).replace(/^not removable: /, ""),
      `output ${output}`,
      all && `${percent((100 * macs) / all.macs_all)} of the MACs`,
      all?.ms_all && ms !== null && `${short(ms)} ms, ${percent((100 * ms) / all.ms_all)} of the latency`,
      this.span && `${counted(Math.abs(this.span[1] - this.span[0]) + 1, "unit")} selected`,
    ];
    byId("unit").replaceChildren(el("b", {}, name), ...parts.filter(Boolean).map((part) => el("span", {}, part)));
    if (this.first) this.describeFirst(unit);
  }

  /** Say what the network would be that ends behind a unit, and by which command. */
  describeFirst(unit) {
    if (unit === this.told) return; // or the button would lose the focus
    this.told = unit;
    const { error, low, high, ms, macs, chosen, command: text } = this.first[unit];
    const parts = [
      `${percent(error)} error (${fixed(low)} to ${fixed(high)})`,
      `${short(ms)} ms`,
      `${large(macs)} MACs`,
      chosen && "recommended by the probe",
    ];
    const told = parts.filter(Boolean).map((part) => el("span", {}, part));
    byId("keep").replaceChildren(el("b", {}, this.alone(unit)), ...told, command(text));
  }

  /** Make a place the one that the keyboard is at. */
  activate(place, { focus = true } = {}) {
    const before = this.active;
    this.active = Math.max(0, Math.min(this.cells.length - 1, place));
    mark(this.cells[before], "tabindex", -1);
    mark(this.cells[this.active], "tabindex", 0);
    if (focus) this.cells[this.active].focus();
    this.pointed = null;
    this.describe();
  }
}

const LOOKS = {
  open: (gate) => (gate === 1 ? "open" : `open, as trained: ${fixed(gate, 2)}`),
  gated: (gate) => `gate ${fixed(gate, 2)}`,
  out: () => "taken out",
  locked: () => "not removable",
};

/** Runs of units with maps of one size, from "channels×height×width". */
function stages(units) {
  const runs = [];
  units.forEach(({ output }, at) => {
    const size = output.split("×").slice(1).join("×") || output;
    if (runs.at(-1)?.size !== size) runs.push({ size, first: at, end: at, title: output });
    runs.at(-1).end = at + 1;
    if (runs.at(-1).title !== output) runs.at(-1).title = `to ${output}`;
  });
  return runs.length <= STAGES ? runs : [{ first: 0, end: units.length, title: "" }];
}
