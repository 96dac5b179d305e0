/** Is the server still there? Asked all the time: numbers of a server that has stopped look as if they were true. */

import { Gone } from "./client.js";

const EVERY = 3000; // milliseconds

export function pulse(answers) {
  const beat = async () => {
    if (document.visibilityState === "visible") {
      const there = await fetch("static/icon.svg", { cache: "no-store" }).then(() => true, () => false);
      if (there && answers.gone) answers.request();
      if (!there && !answers.gone) answers.lose(new Gone());
    }
    setTimeout(beat, EVERY);
  };
  setTimeout(beat, EVERY);
}
