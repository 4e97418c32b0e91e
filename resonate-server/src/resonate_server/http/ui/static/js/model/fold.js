// Many calls of one function below one caller, folded into one row. Pure.

/** Fewer stay as they are. */
const MANY = 4;

/**
 * `rows` with siblings of one service and `name(promise)` in one row each: {folded, members, promise, …}. Below those
 * whose key is in `open` their members follow. What stands below a folded row is folded with it.
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

/** Of each row: its parent, who runs it, and how it is called. */
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
