// Requests to this server. The token is stored while this tab is open and sent with every request.

const TOKEN = "resonate-token";
const HANDED_OVER = "#token=";
const BASE = new URL("api/", document.baseURI);
/** A request whose answer takes longer is lost: no connection tells of a network that swallows everything. */
const PATIENCE = 30_000;
/** Version of the protocol that `ask` speaks. */
const VERSION = "2026-04-01";

/** A failed request; `status` 0 means that there was no answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get mayPass() {
    return this.status === 0 || this.status >= 500;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  drop: () => sessionStorage.removeItem(TOKEN),
};

/** Store a token passed in the URL, and remove it from the URL and the history. Returns whether there was one. */
export function takeToken() {
  if (!location.hash.startsWith(HANDED_OVER)) return false;
  token.set(location.hash.slice(HANDED_OVER.length));
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

/** The answer to `path` with `query`; throws `Refused`. */
export async function request(path, query = {}, options = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  const response = await send(url, options);
  if (!response.ok) throw new Refused(response.status, await reason(response));
  return response;
}

function send(url, options) {
  const known = token.get();
  const headers = { ...options.headers, ...(known && { Authorization: `Bearer ${known}` }) };
  return fetch(url, { cache: "no-store", ...options, headers });
}

async function reason(response) {
  try {
    const { error, data } = await response.json();
    return error ?? data ?? response.statusText;
  } catch {
    return response.statusText || `status ${response.status}`;
  }
}

/** An answer as JSON, complete in time. What a proxy says in its place, or half of it, is none. */
async function json(path, query, { signal, ...options } = {}) {
  const signals = [AbortSignal.timeout(PATIENCE), signal].filter(Boolean);
  try {
    return await (await request(path, query, { ...options, signal: AbortSignal.any(signals) })).json();
  } catch (error) {
    if (error instanceof Refused || error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer");
  }
}

export const chains = (filter, before, signal) => json("chains", { limit: "50", before, ...filter }, { signal });
export const chain = (id, signal) => json("chain", { id }, { signal });
export const actions = () => json("actions");
const post = (path, data) => json(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) });
export const act = (name, click) => post(`actions/${name}`, click);

/** The data of the server's answer to a protocol request. */
export async function ask(kind, data) {
  const head = { corrId: `page-${Date.now()}-${Math.random()}`, version: VERSION };
  return (await post("../../", { kind, head, data })).data;
}
