// The rows of a chain: its promises in the order of the call tree, each with its depth. Pure.

import { isCall } from "./chain.js";

/** Rows of `chain`: parents before children, siblings by age. `group`: the group that runs it; for a step, its caller's. */
export function rowsOf(chain) {
  const children = childrenOf(chain);
  const rows = [];
  const seen = new Set();
  const stack = [{ promise: chain.root, depth: 0, group: null, more: [] }];
  while (stack.length) {
    const { promise, depth, group, more } = stack.pop();
    if (!promise || seen.has(promise.id)) continue;
    seen.add(promise.id);
    const owner = isCall(promise) ? promise.group : group;
    rows.push({ promise, phases: promise.phases, depth, group: owner, more });
    const below = children.get(promise.id) ?? [];
    for (let index = below.length - 1; index >= 0; index -= 1) {
      stack.push({ promise: below[index], depth: depth + 1, group: owner, more: [...more.slice(-7), index < below.length - 1] });
    }
  }
  return rows;
}

/** The origin of the failure of `row`: the first row below it that failed with the same value. */
export function originOf(row, rows) {
  const begin = rows.indexOf(row);
  const next = rows.findIndex((other, index) => index > begin && other.depth <= row.depth);
  const below = rows.slice(begin, next < 0 ? rows.length : next);
  const text = row.promise.value?.text;
  const same = below.filter(({ promise }) => promise.state === "rejected" && promise.value?.text === text);
  return same.reduce((first, other) => (other.promise.settledAt < first.promise.settledAt || other.depth > first.depth ? other : first), row);
}

/** Children by parent. A promise whose parent is missing (cut, or in another chain) goes below the root. */
function childrenOf(chain) {
  const root = chain.root;
  const children = new Map();
  for (const promise of [...chain.promises.values()].sort(byAge)) {
    if (promise === root) continue;
    const parent = isBelow(chain, promise) ? promise.parent : root.id;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(promise);
  }
  return children;
}

/** Whether the parents of `promise` lead to the root: malicious ones may form a cycle. */
function isBelow(chain, promise) {
  const passed = new Set();
  for (let at = promise; at && !passed.has(at.id); at = chain.promises.get(at.parent)) {
    if (at === chain.root) return true;
    passed.add(at.id);
  }
  return false;
}

const natural = new Intl.Collator("en", { numeric: true });
const byAge = (a, b) => a.createdAt - b.createdAt || natural.compare(a.id, b.id);
