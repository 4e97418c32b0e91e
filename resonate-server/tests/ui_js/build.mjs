// What tests are made of: events and details as the server sends them, with only what matters said.

export const STATIC = new URL("../../src/resonate_server/http/ui/static/js/", import.meta.url);

/** A detail with promises by id; `created_at` 0 unless said. */
export function detail(promises, events = [], more = {}) {
  const records = Object.entries(promises).map(([id, given]) => ({ ...BLANK, id, ...given }));
  return { id: records[0].id, epoch: "e", seq: events.at(-1)?.seq ?? 0, promises: records, events, known_from: 0, cut: false, ...more };
}

const BLANK = { parent: null, func: null, group: null, timer: false, state: "pending", created_at: 0, settled_at: null, timeout_at: 86_400_000, param: null, value: null, tags: {}, task: null, awaits: [] };

/** Events of chain "foo", numbered and timed by the first member. */
export const events = (...given) => given.map(([at, kind, more], index) => ({ seq: index + 1, at, kind, chain: "foo", ...more }));

/** Nobody was ever away. */
export const everybody = { away: () => [], absent: () => [] };

export const kinds = (segments) => segments.map((segment) => segment.kind);
