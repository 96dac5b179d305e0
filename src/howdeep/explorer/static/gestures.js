/** Pointer and keyboard on the strip. */

const MOVED = 4; // pixels after which a press is a drag
const TRAVEL = 90; // pixels of drag from gate 0 to gate 1
const SNAP = 0.05; // gates are set in steps of this
const STEP = 0.1; // and by the keyboard in steps of this

/** Let pointer and keyboard work on a strip. */
export function gestures(strip, state) {
  pointer(strip, state);
  strip.root.addEventListener("keydown", (event) => keys(strip, state, event));
  strip.root.addEventListener("focusin", (event) => {
    const place = placeOf(event); // screen readers move the focus by themselves
    if (place !== null && place !== strip.active) strip.activate(place, { focus: false });
  });
}

const stepped = (gate, step) => Math.max(0, Math.min(2, Number((Math.round(gate / step) * step).toFixed(2))));

function pointer(strip, state) {
  const { root } = strip;
  let press = null;
  const point = (place) => {
    if (place === null || place === strip.pointed) return; // what is told of a unit stays, so that it can be copied
    strip.pointed = place;
    strip.describe();
  };
  root.addEventListener("pointerdown", (event) => {
    const place = placeOf(event);
    if (place === null || event.button !== 0) return;
    event.preventDefault();
    const unit = state.order[place];
    const anchor = strip.active;
    strip.span = null;
    strip.activate(place);
    if (event.shiftKey) return setRange(strip, state, anchor, place);
    press = { unit, y: event.clientY, gate: state.gates[unit], dragged: false };
    event.target.setPointerCapture(event.pointerId);
  });
  root.addEventListener("pointermove", (event) => {
    if (!press) return point(placeOf(event));
    const up = press.y - event.clientY;
    if (!press.dragged && Math.abs(up) < MOVED) return;
    press.dragged = true;
    const gate = stepped((press.gate ?? 0) + up / TRAVEL, SNAP);
    state.change(() => state.setGate(press.unit, near(gate, state.own[press.unit])), { dragging: true });
  });
  const end = (kept) => () => {
    if (!press) return;
    const { unit, dragged, gate } = press;
    press = null;
    if (!kept) state.change(() => state.setGate(unit, gate));
    else state.change(() => (dragged ? null : toggle(state, [unit])));
  };
  root.addEventListener("pointerup", end(true));
  root.addEventListener("pointercancel", end(false));
}

/** Let a gate click into what its unit was trained with. */
const near = (gate, own) => (Math.abs(gate - own) < SNAP / 2 ? own : gate);

function placeOf(event) {
  const cell = event.target.closest?.(".cell");
  return cell ? Number(cell.dataset.place) : null;
}

/** Bring all units between two places into the state of the first: the one that was clicked before. */
function setRange(strip, state, from, to) {
  const first = state.order[from];
  const look = state.look(first);
  const set = (unit) => {
    if (look === "gated") state.setGate(unit, state.gates[first]);
    else if (look === "out") state.setGate(unit, null);
    else state.open(unit);
  };
  state.change(() => between(from, to).forEach((place) => set(state.order[place])));
}

function between(from, to) {
  const [low, high] = from < to ? [from, to] : [to, from];
  return Array.from({ length: high - low + 1 }, (_, step) => low + step);
}

/** Take units out if any of them is in, or else put them back. */
function toggle(state, units) {
  const removable = units.filter((unit) => state.units[unit].removable);
  const anyIn = removable.some((unit) => state.gates[unit] !== null);
  for (const unit of removable) {
    if (anyIn) state.setGate(unit, null);
    else state.open(unit);
  }
}

function keys(strip, state, event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const row = Number.isFinite(strip.row) ? strip.row : 10;
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -row, PageDown: row, Home: -Infinity, End: Infinity };
  const key = event.key;
  if (key in moves) move(strip, moves[key], event.shiftKey);
  else if (key === "ArrowUp" || key === "ArrowDown") nudge(strip, state, key === "ArrowUp" ? STEP : -STEP);
  else if (key === " " || key === "Enter") state.change(() => toggle(state, chosen(strip, state)));
  else if (key === "Escape" && strip.span) select(strip, null);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** The units that a key acts on: those of the range, or the one in focus. */
function chosen(strip, state) {
  const [from, to] = strip.span ?? [strip.active, strip.active];
  return between(from, to).map((place) => state.order[place]);
}

function move(strip, by, extend) {
  const from = strip.active;
  strip.activate(from + by);
  select(strip, extend ? [strip.span?.[0] ?? from, strip.active] : null);
}

function select(strip, span) {
  if (span === null && strip.span === null) return;
  strip.span = span;
  strip.draw();
}

function nudge(strip, state, by) {
  state.change(() => {
    for (const unit of chosen(strip, state)) {
      const gate = stepped((state.gates[unit] ?? 0) + by, STEP);
      const from = state.gates[unit] ?? 0;
      const own = state.own[unit];
      const passes = (from - own) * (gate - own) < 0; // an own gate of 0.74 is not a multiple of the step
      state.setGate(unit, passes ? own : near(gate, own));
    }
  }, { joined: true });
}
