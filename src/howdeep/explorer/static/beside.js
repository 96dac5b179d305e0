/** Two networks side by side: each is a page of its own in a frame; here stand how they differ, and both states. */

import { get } from "./client.js";
import { byId, el } from "./dom.js";
import { fail } from "./notices.js";

async function start() {
  try {
    show(await get("api/beside"));
  } catch (error) {
    fail(error, start);
  }
}

function show({ names, finding }) {
  document.title = `${names.join(" and ")}, explored`;
  byId("finding").textContent = finding;
  const addresses = new URLSearchParams(location.hash.slice(1));
  const source = (number) => `${number}/${addresses.get(number) ?? ""}`;
  const frames = names.map((name, at) => el("iframe", { src: source(at + 1), title: name }));
  byId("frames").replaceChildren(...frames);
  addEventListener("message", ({ origin, source, data }) => {
    if (origin !== location.origin || data.address === undefined) return;
    addresses.set(1 + frames.findIndex((frame) => frame.contentWindow === source), data.address);
    history.replaceState(null, "", `#${addresses}`);
  });
}

start();
