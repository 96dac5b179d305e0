/** A picture of the user's own: dropped anywhere on the page, or chosen. */

import { byId } from "./dom.js";
import { send } from "./client.js";
import { dismiss, fail, notice, watchful } from "./notices.js";
import { hear, tell } from "./together.js";

const MEGA = 1e6;

/** Take pictures that are dropped or chosen. */
export function uploads(network, state) {
  const take = (file) => {
    if (!file) return;
    tell({ file });
    upload(file, network, state);
  };
  hear((told) => told.file && upload(told.file, network, state));
  byId("file").addEventListener("change", ({ target }) => {
    take(target.files[0]);
    target.value = ""; // the same file may be chosen again
  });
  let depth = 0; // the page's own elements are entered and left while a file is held over it
  const over = (by) => {
    depth = Math.max(0, depth + by);
    byId("drop").hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => holdsFile(event) && over(1));
  addEventListener("dragleave", (event) => holdsFile(event) && over(-1));
  addEventListener("dragover", (event) => holdsFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    over(-Infinity);
    take(event.dataTransfer.files[0]);
  });
}

const holdsFile = (event) => event.dataTransfer?.types.includes("Files");

async function upload(file, network, state) {
  dismiss();
  const most = network.max_upload_bytes;
  if (file.size > most) {
    const size = `${Math.round(file.size / MEGA)} MB`;
    return notice(`${file.name} is too large: ${size}, and at most ${Math.round(most / MEGA)} MB are taken`);
  }
  try {
    const { upload: token, width, height } = await watchful(send("api/upload", file));
    state.change(() => (state.upload = { token, name: file.name, width, height }));
  } catch (error) {
    fail(error, () => upload(file, network, state));
  }
}
