/** What a tab holds: gates, order, images watched. The server keeps none of it. */

export class State {
  constructor(units) {
    this.units = units;
    this.own = units.map((unit) => unit.own);
    this.gates = [...this.own];
    this.order = units.map((_, place) => place);
    this.watched = [];
    this.upload = null;
    this.listeners = [];
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  /** Edit, then tell everybody: `dragging` says that more is about to come, `joined` that it is one of several. */
  change(edit, { dragging = false, joined = false } = {}) {
    edit(this);
    for (const listener of this.listeners) listener({ dragging, joined });
  }

  /** Set the gate of a unit: 0 and null take it out; a unit that is not removable stays as it is. */
  setGate(unit, gate) {
    if (this.units[unit].removable) this.gates[unit] = gate ? Math.min(2, gate) : null;
  }

  open(unit) {
    this.setGate(unit, this.own[unit]);
  }

  restore() {
    this.gates = [...this.own];
    this.order = this.units.map((_, place) => place);
  }

  /** "locked", "out", "open" (as trained) or "gated". */
  look(unit) {
    if (!this.units[unit].removable) return "locked";
    if (this.gates[unit] === null) return "out";
    return this.gates[unit] === this.own[unit] ? "open" : "gated";
  }

  /** Units that look like this, by index. */
  all(look) {
    return this.units.map((_, unit) => unit).filter((unit) => this.look(unit) === look);
  }

  get shuffled() {
    return this.order.some((unit, place) => unit !== place);
  }

  /** Exchange two random units that may change places; false where there are none. */
  exchange() {
    const groups = new Map();
    this.order.forEach((unit, place) => {
      const { like } = this.units[unit];
      if (like !== null && like !== undefined) groups.set(like, [...(groups.get(like) ?? []), place]);
    });
    const pairs = [...groups.values()].filter((places) => places.length > 1);
    if (!pairs.length) return false;
    const [one, two] = draw(pairs[weighted(pairs.map((places) => (places.length * (places.length - 1)) / 2))], 2);
    [this.order[one], this.order[two]] = [this.order[two], this.order[one]];
    return true;
  }

  /** All of it as part of the address, so that a state can be reloaded, passed on and gone back to. */
  get address() {
    const out = this.all("out").map((unit) => unit + 1);
    const gate = this.all("gated").map((unit) => `${unit + 1}:${this.gates[unit]}`);
    const moved = this.order.flatMap((unit, place) => (unit === place ? [] : [`${place + 1}:${unit + 1}`]));
    const parts = Object.entries({ out, gate, moved }).filter(([, entries]) => entries.length);
    return parts.length ? `#${parts.map(([name, entries]) => `${name}=${entries.join(",")}`).join("&")}` : "";
  }

  /** Take a state from an address; what does not exist, or may not be, is left aside. */
  read(address) {
    const parts = new URLSearchParams(address.slice(1));
    const entries = (name) => parts.get(name)?.split(",").map((entry) => entry.split(":").map(Number)) ?? [];
    this.restore();
    for (const [number] of entries("out")) if (this.units[number - 1]) this.setGate(number - 1, null);
    for (const [number, gate] of entries("gate")) if (this.units[number - 1] && gate > 0) this.setGate(number - 1, gate);
    const order = [...this.order];
    for (const [place, unit] of entries("moved")) if (this.units[place - 1]) order[place - 1] = unit - 1;
    if (new Set(order).size === order.length && order.every((unit, place) => this.fits(unit, place))) this.order = order;
  }

  /** May a unit stand at a place? */
  fits(unit, place) {
    const [one, other] = [this.units[unit]?.like, this.units[place].like];
    return unit === place || (one !== null && one !== undefined && one === other);
  }
}

/** k of the items, at random. */
export function draw(items, k) {
  const left = [...items];
  for (let i = 0; i < Math.min(k, left.length); i++) {
    const j = i + Math.floor(Math.random() * (left.length - i));
    [left[i], left[j]] = [left[j], left[i]];
  }
  return left.slice(0, k);
}

/** An index, drawn by weight: every pair of every group is as likely as any other. */
function weighted(weights) {
  let rest = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
  const place = weights.findIndex((weight) => (rest -= weight) < 0);
  return Math.max(place, 0);
}
