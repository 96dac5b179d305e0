/** Of two networks side by side each hears what is looked at in the other; alone nobody hears anything. */

const others = () => [...Array(parent.length).keys()].map((at) => parent[at]).filter((frame) => frame !== window);

export const alone = parent === window;

/** Tell the other network. */
export function tell(data) {
  if (!alone) for (const other of others()) other.postMessage(data, location.origin);
}

/** Hear what the other network tells. */
export function hear(listener) {
  addEventListener("message", ({ origin, data }) => origin === location.origin && listener(data));
}

/** Watch the same images as the other network, and tell the page around both the state of this one. */
export function together(state) {
  let { watched, address } = state;
  state.subscribe(({ dragging }) => {
    if (state.watched !== watched) tell({ watched: (watched = state.watched) });
    if (alone || dragging || state.address === address) return;
    parent.postMessage({ address: (address = state.address) }, location.origin);
  });
  hear((told) => {
    if (told.watched) state.change(() => (state.watched = watched = told.watched));
  });
}
