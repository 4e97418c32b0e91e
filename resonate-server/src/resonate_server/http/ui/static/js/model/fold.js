// Folds many calls of one function by one caller into one row. Pure.

/** Fewer calls are not folded. */
const MANY = 4;

/**
 * Fold siblings in `rows` that have the same group and `name(promise)` into one row: {members, promise, …}. If its key is
 * in `open`, its members follow. Rows below a folded row are folded with it.
 */
export function fold(rows, open, name) {
  const keys = keysOf(rows, name);
  const members = new Map();
  for (const row of rows) members.get(keys.get(row))?.push(row) ?? members.set(keys.get(row), [row]);
  const told = new Set();
  const shown = [];
  let hiddenBelow = Infinity;
  for (const row of rows) {
    if (row.depth > hiddenBelow) continue;
    hiddenBelow = Infinity;
    const key = keys.get(row);
    const alike = members.get(key);
    if (alike.length < MANY || row.depth === 0) {
      shown.push(row);
      continue;
    }
    if (!told.has(key)) shown.push(summary(key, alike, name, open.has(key)));
    told.add(key);
    if (open.has(key)) shown.push(row);
    else hiddenBelow = row.depth;
  }
  return shown;
}

/** The key of each row: its parent, its group and its name. */
function keysOf(rows, name) {
  return new Map(rows.map((row) => [row, [row.promise.parent, row.group, name(row.promise)].join("\u0000")]));
}

function summary(key, members, name, isOpen) {
  const promises = members.map((row) => row.promise);
  const settled = promises.every((promise) => promise.settledAt !== null);
  const promise = {
    ...promises[0],
    id: `fold\u0000${key}`,
    role: "fold",
    func: name(promises[0]),
    timer: false,
    state: worst(promises),
    createdAt: Math.min(...promises.map((each) => each.createdAt)),
    settledAt: settled ? Math.max(...promises.map((each) => each.settledAt)) : null,
    task: null,
    awaits: [],
    value: null,
  };
  return { ...members[0], promise, members, isOpen, key, phases: [] };
}

const FROM_BAD = ["rejected", "rejected_timedout", "rejected_canceled", "pending", "resolved"];

const worst = (promises) => FROM_BAD.find((state) => promises.some((promise) => promise.state === state));
