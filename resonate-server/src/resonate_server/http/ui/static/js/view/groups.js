// Groups and their workers.

import { fullTime, rough } from "../text/durations.js";
import { cut, shortGroup, shortPid, shorten } from "../text/safe.js";
import { attribute, bdi, byId, el, say } from "./dom.js";

export class GroupsView {
  constructor() {
    this.node = byId("groups");
  }

  show(groups, now) {
    reconcile(this.node, groups, "data-group", (group) => group.name, newGroup, (node, group) => updateGroup(node, group, now));
    byId("groups-empty").hidden = groups.length > 0;
  }
}

/** Children of `parent` as `items` say, in their order, keeping what is there. */
function reconcile(parent, items, attributeName, key, create, update) {
  const old = new Map([...parent.children].map((node) => [node.key, node]));
  items.forEach((item, index) => {
    const id = key(item);
    const node = old.get(id) ?? create(item);
    old.delete(id);
    node.key = id;
    attribute(node, attributeName, id);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    update(node, item);
  });
  for (const node of old.values()) node.remove();
}

function newGroup() {
  return el("section", { class: "group" }, el("h3", {}, bdi(""), el("span", { class: "waiting", title: "tasks that wait for a worker" }), el("small", {})), el("ul", {}));
}

function updateGroup(node, group, now) {
  const here = group.workers.filter((worker) => worker.state === "connected").length;
  say(node.querySelector("h3 bdi"), cut(group.name, 60));
  say(node.querySelector("h3 small"), here === 0 ? "none connected" : `${here} connected`);
  say(node.querySelector(".waiting"), group.waiting ? `${group.waiting} waiting` : "");
  attribute(node, "data-empty", here === 0);
  reconcile(node.querySelector("ul"), group.workers, "data-worker", (worker) => worker.pid, newWorker, (item, worker) => updateWorker(item, worker, now));
}

function newWorker() {
  return el("li", {}, el("span", { class: "dot", "aria-hidden": "true" }), bdi("", { class: "mono" }), el("span", { class: "word" }), el("span", { class: "held" }), el("small", {}));
}

function updateWorker(item, worker, now) {
  attribute(item, "data-state", worker.state);
  attribute(item, "title", `${shorten(worker.pid, 200)}\nconnected since ${fullTime(worker.since)}\nlast heard of ${fullTime(worker.heard)}`);
  say(item.querySelector("bdi"), shortPid(worker.pid));
  say(item.querySelector(".word"), WORDS[worker.state](worker, now));
  say(item.querySelector(".held"), worker.held === null || worker.state === "gone" ? "" : `holds ${worker.held}`);
  attribute(item.querySelector(".held"), "data-some", worker.held > 0);
  say(item.querySelector("small"), worker.state === "connected" ? heardWords(now - worker.heard) : "");
  attribute(item, "aria-label", `${shortGroup(worker.group)} ${shortPid(worker.pid)}, ${item.querySelector(".word").textContent}`);
}

const WORDS = {
  connected: (worker, now) => `for ${rough(now - worker.since)}`,
  silent: (worker, now) => `silent ${rough(now - (worker.gone_at ?? worker.heard))}`,
  gone: (worker, now) => `gone ${rough(now - worker.gone_at)} ago`,
};

const heardWords = (ago) => (ago < 1500 ? "heard now" : `heard ${rough(ago)} ago`);
