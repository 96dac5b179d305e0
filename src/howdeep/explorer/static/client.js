/** Requests to the server: one line of JSON after another, the last one is the answer. */

/** A name that nobody else has; randomUUID is there over HTTPS and on this machine only. */
export const unique = () => crypto.getRandomValues(new Uint8Array(8)).join("-");

/** The server refused, and says why in one line. */
export class Refused extends Error {}

/** Nobody answers: the server was stopped. */
export class Gone extends Error {}

/** A newer request, or the user, ended this one. */
export class Cancelled extends Error {}

/** POST `body` (an object as JSON, a Blob as it is) and return the last line; earlier ones go to `onProgress`. */
export async function send(path, body, { signal, onProgress = () => {} } = {}) {
  const raw = body instanceof Blob;
  const type = raw ? "application/octet-stream" : "application/json";
  try {
    const content = raw ? body : JSON.stringify(body);
    const options = { method: "POST", headers: { "Content-Type": type }, body: content, signal };
    return await lastLine(await fetch(path, options), onProgress);
  } catch (error) {
    if (signal?.aborted || error instanceof Cancelled) throw new Cancelled();
    if (error instanceof Refused) throw error;
    throw new Gone();
  }
}

/** GET JSON. */
export async function get(path) {
  try {
    return await lastLine(await fetch(path), () => {});
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Gone();
  }
}

async function lastLine(response, onProgress) {
  let last = null;
  for await (const line of lines(response)) {
    const told = parse(line, response);
    if (told.error !== undefined) throw new Refused(told.error);
    if (told.cancelled) throw new Cancelled();
    if (told.progress !== undefined) onProgress(told);
    else last = told;
  }
  if (!response.ok) throw new Refused(`the server answers ${response.status} ${response.statusText}`);
  if (last === null) throw new Gone();
  return last;
}

function parse(line, response) {
  try {
    return JSON.parse(line);
  } catch {
    throw new Refused(`the server answers ${response.status} with something that is not JSON`);
  }
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const pieces = (rest + (value ?? "")).split("\n");
    rest = done ? "" : pieces.pop();
    yield* pieces.filter((piece) => piece.trim());
    if (done) return;
  }
}

/**
 * One request at a time under one name: a new one ends the one before. The server does the same by the name, so that
 * what is no longer waited for is not computed either. Each kind of work that may run beside the others has a lane.
 */
export class Lane {
  constructor(name) {
    this.name = name;
    this.controller = null;
  }

  async ask(path, body, onProgress) {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    try {
      return await send(path, { tab: this.name, ...body }, { signal: controller.signal, onProgress });
    } finally {
      if (this.controller === controller) this.controller = null;
    }
  }

  /** End what runs, here and on the server. */
  cancel() {
    if (!this.controller) return;
    this.controller.abort();
    send("api/cancel", { tab: this.name }).catch(() => {});
  }
}
