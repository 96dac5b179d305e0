/** The page: reads the network and connects the parts. What a tab holds is in state.js, requests are in client.js. */

import { actions } from "./actions.js";
import { Answers } from "./answers.js";
import { get, Lane, unique } from "./client.js";
import { byId } from "./dom.js";
import { figures } from "./figures.js";
import { gestures } from "./gestures.js";
import { hints } from "./hints.js";
import { firstImages, Images } from "./images.js";
import { costs } from "./legend.js";
import { fail } from "./notices.js";
import { pulse } from "./pulse.js";
import { reading, sampleOf } from "./reading.js";
import { State } from "./state.js";
import { Steps } from "./steps.js";
import { Strip } from "./strip.js";
import { together } from "./together.js";
import { uploads } from "./upload.js";
import { watched } from "./watched.js";

async function start() {
  try {
    open(await get("api/network"));
  } catch (error) {
    fail(error, start);
  }
}

function open(network) {
  head(network);
  const state = new State(network.units);
  state.watched = firstImages(network.images);
  state.read(location.hash);
  const strip = new Strip(network, state);
  const images = new Images(network, state);
  const [numbers, cards, charts] = [reading(network, state), watched(state), figures()];
  const tab = unique();
  const lanes = { answers: new Lane(tab), saving: new Lane(`${tab}-saving`), costs: new Lane(`${tab}-costs`) };
  let shown = null;
  const show = ({ answer, figures }, address) => {
    if (figures) charts(figures);
    if (JSON.stringify(answer) === shown) return; // the numbers came before the charts
    shown = JSON.stringify(answer);
    numbers(answer);
    if (answer.n < answer.of) return; // those of the first images: the rest is under way
    steps.tell(address, answer.error_percent);
    images.show(answer);
    cards(answer);
    strip.answer = answer;
    strip.describe();
  };
  hints(state);
  gestures(strip, state);
  actions(network, state, lanes);
  uploads(network, state);
  together(state);
  const steps = new Steps(state, tab);
  const answers = new Answers(lanes.answers, state, show);
  answers.request();
  pulse(answers);
  costs(network, strip, lanes.costs);
}

function head(network) {
  document.title = `${network.name}, explored`;
  byId("name").textContent = network.name;
  byId("name").title = network.source;
  byId("about").textContent = `${network.data} · ${sampleOf(network)} · ${network.precision}`;
  document.querySelector("main").hidden = false;
}

start();
