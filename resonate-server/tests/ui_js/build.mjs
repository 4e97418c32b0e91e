// Test data: a chain as the server sends it, with only the members that matter given.

export const STATIC = new URL("../../src/resonate_server/http/ui/static/js/", import.meta.url);

/** A detail with promises by id, in the order of the call tree; `created_at` is 0 unless given. */
export function detail(promises) {
  const depth = (id) => (promises[id]?.parent ? 1 + depth(promises[id].parent) : Number(id !== Object.keys(promises)[0]));
  const records = Object.entries(promises).map(([id, given]) => ({ ...BLANK, id, depth: depth(id), ...given }));
  return { id: records[0].id, promises: records, cut: false, outages: [], story: [] };
}

const BLANK = { role: "promise", parent: null, func: null, group: null, state: "pending", created_at: 0, settled_at: null, timeout_at: 86_400_000, param: null, value: null, tags: {}, task: null, awaits: [], phases: [], follows: false };

export const phase = (kind, from, to, more = {}) => ({ kind, from, to, attempt: 0, pid: null, reason: "", trouble: "", on: [], broken: false, known: true, step: false, ...more });
