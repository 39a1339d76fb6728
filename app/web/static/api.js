// The public API, and nothing else: calls, watching what changes, and sending files with progress.

import { askKey, storedKey } from "./key.js";

/** A refusal, in the API's words. */
export class ApiError extends Error {
  constructor(status, error, requestId, retryAfter) {
    super(error.message);
    Object.assign(this, { status, code: error.code, param: error.param, details: error.details ?? [] });
    Object.assign(this, { requestId, retryAfter });
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

const TOO_MANY = 429;
const UNAUTHORIZED = 401;

/** A path with a query; what is null or empty is left out, and lists stand several times. */
export function path(base, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") params.append(name, one);
  }
  const text = params.toString();
  return text ? `${base}?${text}` : base;
}

/** A name in a path; slashes in names of datasets stay. */
export const part = (name) => name.split("/").map(encodeURIComponent).join("/");

export const get = async (address, options) => (await send("GET", address, options)).data;
export const post = async (address, json, options) => (await send("POST", address, { json, ...options })).data;
export const remove = async (address) => (await send("DELETE", address)).data;

/**
 * One call: `{status, data, tag, headers}`. Where a key is missing or wrong, the reader is asked for one, and
 * the call made again. `tag` is the ETag of what is here already: 304 has no data.
 */
export async function send(method, address, { json, body, headers = {}, signal, tag, as = "json" } = {}) {
  for (;;) {
    const key = storedKey();
    const response = await reach(address, {
      method,
      signal,
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...(tag ? { "If-None-Match": tag } : {}),
        ...headers,
      },
    });
    if (response.status === UNAUTHORIZED) {
      await askKey((await refusal(response)).message, key);
      continue;
    }
    if (response.status === TOO_MANY) {
      await pause(1000 * Number(response.headers.get("Retry-After") ?? 1), signal);
      continue;
    }
    if (response.status === 304) return { status: 304, tag };
    if (!response.ok) throw await refusal(response);
    const found = response.status === 204 ? null : await response[as]();
    return { status: response.status, data: found, tag: response.headers.get("ETag"), headers: response.headers };
  }
}

async function reach(address, options) {
  try {
    // The tag is ours to send: the browser's own store would answer 200 in the place of 304.
    return await fetch(address, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
}

async function refusal(response) {
  const id = response.headers.get("X-Request-ID");
  const after = response.headers.get("Retry-After");
  let error;
  try {
    ({ error } = await response.json());
  } catch {
    error = { message: `The server answered ${response.status} without a reason.`, code: "unknown", param: null };
  }
  return new ApiError(response.status, error, id, after);
}

/** Waits; ends early with an AbortError. */
export function pause(milliseconds, signal) {
  return new Promise((done, fail) => {
    const stop = () => {
      clearTimeout(timer);
      fail(new DOMException("stopped", "AbortError"));
    };
    if (signal?.aborted) return fail(new DOMException("stopped", "AbortError"));
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Waits until somebody looks at the page. */
function looked() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

/**
 * Asks again and again, and tells what is new: an answer that has not changed costs a 304 and tells nothing.
 * A server that does not answer is asked on until it does. `told` may be asynchronous, and returns false when
 * it has seen enough. Refusals are thrown, but for a server that is busy or starting.
 */
export async function watch(address, told, { every = 1000, signal } = {}) {
  let tag = null;
  for (let silent = 0; ; ) {
    try {
      const answer = await send("GET", address, { tag, signal });
      connection(true);
      silent = 0;
      // The tag is kept once the answer was told whole: what broke on the way is told again.
      if (answer.status !== 304) {
        if ((await told(answer.data)) === false) return;
        tag = answer.tag;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Unreachable) && !(error.status >= 500)) throw error;
      connection(false);
      silent += 1;
    }
    try {
      await pause(Math.min(every * 2 ** Math.min(silent, 3), 5000), signal);
    } catch {
      return;
    }
    await looked();
  }
}

let connected = true;

function connection(there) {
  if (there === connected) return;
  connected = there;
  document.dispatchEvent(new CustomEvent("thaw:connection", { detail: there }));
}

/** All pages of a list. */
export async function all(address, query = {}, most = Infinity) {
  const found = [];
  let after = query.after ?? null;
  for (;;) {
    const page = await get(path(address, { ...query, after }));
    found.push(...page.data);
    if (!page.has_more || found.length >= most) return found;
    after = page.last_id;
  }
}

/** Sends a file with PUT; `progress` is told the share that has been sent. */
export function upload(address, file, progress, signal) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest(); // fetch does not say how much has been sent
    request.open("PUT", address);
    if (storedKey()) request.setRequestHeader("Authorization", `Bearer ${storedKey()}`);
    request.setRequestHeader("Content-Type", "application/zip");
    request.upload.addEventListener("progress", (event) => progress(event.loaded / event.total));
    request.addEventListener("error", () => fail(new Unreachable()));
    request.addEventListener("abort", () => fail(new DOMException("stopped", "AbortError")));
    request.addEventListener("load", async () => {
      const { status } = request;
      if (status >= 200 && status < 300) return done(JSON.parse(request.responseText));
      const error = await refusal(new Response(request.responseText, { status }));
      if (status !== UNAUTHORIZED) return fail(error);
      await askKey(error.message, storedKey());
      upload(address, file, progress, signal).then(done, fail);
    });
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

/**
 * Saves a file, under the name that the server gives it, else under `name`. With a key it is fetched with it: a
 * link cannot carry one.
 */
export async function save(address, name, { method = "GET", json } = {}) {
  const { data, headers } = await send(method, address, { json, as: "blob" });
  const said = /filename="([^"]+)"/.exec(headers.get("Content-Disposition") ?? "");
  const blob = URL.createObjectURL(data);
  const link = document.createElement("a");
  Object.assign(link, { href: blob, download: said?.[1] ?? name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(blob), 60_000);
}

let asked = null;

/** Who the server takes the reader for: `{scope, owner, key, expires_at}`. */
export function caller() {
  asked ??= get("/v1/caller").catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

/** Whether the key allows more than looking. */
export async function maySubmit() {
  return (await caller()).scope !== "read";
}
