/** What the page says outside of its numbers: one line that can be dismissed, and the line that is read aloud. */

import { Cancelled, Gone } from "./client.js";
import { byId } from "./dom.js";

const GONE = "The server does not answer: is howdeep explore still running? The numbers are those of before.";

/** Show one line; `retry` offers to try again. */
export function notice(text, retry = null) {
  byId("notice-text").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  byId("notice").hidden = false;
  byId("notice-retry").hidden = retry === null;
  byId("notice-retry").onclick = () => {
    dismiss();
    retry();
  };
}

export function dismiss() {
  byId("notice").hidden = true;
}

/** Show what went wrong; a cancelled request is nothing wrong. */
export function fail(error, retry = null) {
  if (error instanceof Cancelled) return;
  if (error instanceof Gone) notice(GONE, retry);
  else notice(error.message);
}

export function announce(text) {
  byId("live").textContent = text;
}

const SLOW_MS = 300;

/** Show the thin bar while a promise takes longer than one waits without asking. */
export async function watchful(promise) {
  const timer = setTimeout(() => (byId("busy").hidden = false), SLOW_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    byId("busy").hidden = true;
  }
}

byId("notice-close").addEventListener("click", dismiss);
