// What the page asks of its server.

const kKey = "mobe.key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Set by page.js: asks the user for the key, gives null for none.
let askForKey = async () => null;
export function setAskForKey(ask) {
  askForKey = ask;
}

export const hasKey = () => sessionStorage.getItem(kKey) !== null;

// One question for all requests that wait for it.
let asking = null;
function newKey() {
  asking ??= askForKey(hasKey()).finally(() => (asking = null));
  return asking;
}

async function errorOf(response) {
  const text = await response.text();
  try {
    return new ApiError(response.status, JSON.parse(text).error.message);
  } catch {
    return new ApiError(response.status, response.statusText || "no answer");
  }
}

// fetch with the key, which is asked for when the server wants one. Throws
// ApiError, with status 0 when the server can't be reached.
export async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(kKey);
    const headers = { ...options.headers };
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The server can't be reached");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw await errorOf(response);
    // Another request may have got one meanwhile.
    if (sessionStorage.getItem(kKey) !== key) continue;
    const given = await newKey();
    if (given === null) throw await errorOf(response);
    sessionStorage.setItem(kKey, given);
  }
}

export async function getJson(path) {
  return (await request(path)).json();
}

// The data of server-sent events, as text.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const events = held.split("\n\n");
      held = events.pop();
      for (const event of events) {
        if (event.startsWith("data: ")) yield event.slice(6);
      }
    }
  } finally {
    // Whoever takes no more of them ends the request, too.
    reader.cancel().catch(() => {});
  }
}

// The JSON objects of a streamed answer. Throws ApiError, also for an error
// within the stream and for one that ends too early, and AbortError.
export async function* streamOf(path, body, signal) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  try {
    for await (const data of eventsOf(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.code ?? 500, event.error.message);
      yield event;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError(0, "The connection broke off");
  }
  throw new ApiError(0, "The connection ended before the answer did");
}

// One line for a person.
export function describe(error) {
  switch (error.status) {
    case 0:
      return `${error.message}. Is mobe serve still running?`;
    case 429:
      return `The server has too much to do (429): ${error.message}`;
    case 503:
      return `The server can't answer now (503): ${error.message}`;
    case undefined:
      return `The page failed: ${error.message}`;
    default:
      return `The server refused (${error.status}): ${error.message}`;
  }
}
