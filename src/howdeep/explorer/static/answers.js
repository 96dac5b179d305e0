/** Keeps the answer up with the state: the latest state wins. */

import { Gone, Refused } from "./client.js";
import { byId } from "./dom.js";
import { dismiss, fail, watchful } from "./notices.js";

const scheme = matchMedia("(prefers-color-scheme: dark)");

export class Answers {
  /**
   * Ask on `lane` about `state` whenever it changes; `show` gets every answer, its numbers before its charts, and the
   * address of the state that it is of.
   */
  constructor(lane, state, show) {
    Object.assign(this, { lane, state, show, frame: null, running: 0, again: false, gone: false });
    state.subscribe(({ dragging }) => this.request(dragging));
    scheme.addEventListener("change", () => this.request());
  }

  /**
   * Ask in the next frame. A change by a click ends the request that runs; while a gate is dragged the request that
   * runs is waited for instead, or a steady drag would never see an answer.
   */
  request(dragging = false) {
    byId("reading").setAttribute("aria-busy", "true");
    if (dragging && this.running) this.again = true;
    else this.frame ??= requestAnimationFrame(() => this.ask());
  }

  async ask() {
    this.frame = null;
    this.again = false;
    this.running += 1;
    const { gates, order, watched, upload, address } = this.state;
    try {
      const body = { gates, order, watched, upload: upload && upload.token, dark: scheme.matches };
      const early = ({ answer }) => answer && this.show({ answer }, address); // the numbers do not wait for the charts
      this.show(await watchful(this.lane.ask("api/answer", body, early)), address);
      if (this.gone) dismiss();
      this.lost(false);
    } catch (error) {
      if (error instanceof Gone) this.lose(error);
      else fail(error);
      if (error instanceof Refused && upload) this.state.change((state) => (state.upload = null)); // or all answers fail
    } finally {
      this.running -= 1;
      if (this.again) this.request();
      else if (!this.running && this.frame === null) byId("reading").setAttribute("aria-busy", "false");
    }
  }

  /** Say that nobody answers, and dim the numbers, which are those of before. */
  lose(error) {
    this.lost(true);
    fail(error, () => this.request());
  }

  lost(gone) {
    this.gone = gone;
    document.querySelector("main").toggleAttribute("data-gone", gone);
  }
}
