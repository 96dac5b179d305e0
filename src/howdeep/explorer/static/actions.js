/** The buttons: random lesions, shuffle, restore, the greedy cut, and saving it. */

import { Cancelled } from "./client.js";
import { command } from "./copy.js";
import { byId, counted, el, howFar } from "./dom.js";
import { fail, notice, announce } from "./notices.js";
import { draw } from "./state.js";

/** Let the buttons work; `lanes` has one for what takes long, and one for what is saved. */
export function actions(network, state, lanes) {
  const long = longWork();
  on("one", () => state.change(() => draw(intact(state), 1).forEach((unit) => state.setGate(unit, null))));
  on("some", () => state.change(() => takeOut(state, number("some-k"))));
  on("shuffle", () => shuffle(state, number("shuffle-k")));
  on("restore", () => state.change(() => state.restore()));
  on("cut", () => cut(state, lanes.answers, long, number("cut-n")));
  on("save", () => save(state, lanes.saving, long));
  const removable = network.units.filter((unit) => unit.removable).length;
  byId("some-k").max = removable;
  byId("some-k").value = Math.max(1, Math.min(3, Math.floor(removable / 3)));
  byId("cut-n").min = network.units.length - removable;
  byId("cut-n").max = network.units.length;
  byId("cut-n").value = Math.max(network.units.length - removable, Math.ceil((2 * network.units.length) / 3));
  for (const [field, button] of [["some-k", "some"], ["shuffle-k", "shuffle"], ["cut-n", "cut"]]) {
    byId(field).addEventListener("keydown", (event) => event.key === "Enter" && byId(button).click());
  }
  const word = () => (byId("shuffle-word").textContent = byId("shuffle-k").valueAsNumber === 1 ? "pair" : "pairs");
  byId("shuffle-k").addEventListener("input", word);
  const refresh = () => {
    byId("one").disabled = intact(state).length === 0;
    whySave(network, state);
  };
  state.subscribe(refresh);
  refresh();
}

const on = (id, listener) => byId(id).addEventListener("click", listener);

/** The number in a field, brought into its limits; the field shows what was taken. */
function number(id) {
  const field = byId(id);
  const wanted = Math.round(field.valueAsNumber) || Number(field.min);
  field.value = Math.min(Number(field.max) || Infinity, Math.max(Number(field.min), wanted));
  return Number(field.value);
}

const intact = (state) => [...state.all("open"), ...state.all("gated")];

/** Exactly k units out, drawn anew: pressed again it shows how much the draw matters. */
function takeOut(state, k) {
  const removable = [...intact(state), ...state.all("out")];
  for (const unit of removable) state.open(unit);
  for (const unit of draw(removable, k)) state.setGate(unit, null);
}

function shuffle(state, k) {
  let exchanged = true;
  state.change(() => {
    for (let pair = 0; pair < k && exchanged; pair++) exchanged = state.exchange();
  });
  if (!exchanged) notice("No two units of this network may change places: all their shapes differ.");
}

async function cut(state, lane, long, units) {
  const ask = (progress) => lane.ask("api/greedy", { units }, progress);
  await long(`Cutting to ${counted(units, "unit")}, one after the other`, lane, ask, ({ gates }) => {
    state.change(() => {
      state.restore();
      gates.forEach((gate, unit) => gate === null && state.setGate(unit, null));
    });
  });
}

/** Why the state cannot be saved as a cut; null where it can. */
function reason(network, state) {
  if (!network.save.possible) return network.save.why;
  if (state.shuffled) return "units stand at other places, restore them first";
  if (state.all("gated").length) return "gates are set, and a cut keeps a unit or takes it out";
  return state.all("out").length ? null : "nothing is taken out";
}

function whySave(network, state) {
  const why = reason(network, state);
  byId("save").disabled = why !== null;
  const left = counted(network.units.length - state.all("out").length, "unit");
  const offer = `Saving writes a run folder of ${left}, as howdeep cut does`;
  byId("save-why").textContent = why ? `This cannot be saved as a cut: ${why}` : offer;
}

async function save(state, lane, long) {
  const { gates, order } = state;
  const ask = (progress) => lane.ask("api/save", { gates, order }, progress);
  await long("Saving this cut", lane, ask, ({ saved }) => showSaved(saved));
}

function showSaved({ run, sentence, command: same, next }) {
  const close = el("button", { type: "button", class: "link", onclick: () => (byId("saved").hidden = true) }, "Dismiss");
  const head = el("p", {}, el("b", {}, `Saved: ${run}`), ` ${sentence} `, close);
  const list = (title, commands) => [el("p", { class: "label" }, title), ...commands.map(command)];
  byId("saved").replaceChildren(head, ...list("The same from the command line", [same]), ...list("What may follow", next));
  byId("saved").hidden = false;
  announce(`Saved as ${run}. ${sentence}`);
}

/**
 * Return what runs work that takes long: one at a time, with progress and a button that cancels it. A click on the strip
 * meanwhile ends a greedy cut too, since the answer comes from the same lane; a save has its own and goes on.
 */
function longWork() {
  let running = null;
  const cancel = () => running?.cancel();
  on("work-cancel", cancel);
  document.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
  const show = (text, progress) => {
    byId("work-text").textContent = text;
    if (progress === undefined) byId("work-bar").removeAttribute("value");
    else byId("work-bar").value = progress;
  };
  return async (title, lane, ask, done) => {
    if (running && running !== lane) return notice("Something that takes long is running: cancel it first, or wait.");
    running = lane;
    const token = (byId("work").dataset.serial = String(Number(byId("work").dataset.serial ?? 0) + 1));
    const mine = () => byId("work").dataset.serial === token;
    byId("work").hidden = false;
    byId("save-why").hidden = true;
    show(title);
    try {
      done(await ask((told) => mine() && show(`${title}: ${told.text ?? howFar(told)}`, told.progress)));
    } catch (error) {
      if (error instanceof Cancelled) announce("Cancelled");
      else fail(error);
    } finally {
      if (mine()) {
        running = null;
        byId("work").hidden = true;
        byId("save-why").hidden = false;
      }
    }
  };
}
