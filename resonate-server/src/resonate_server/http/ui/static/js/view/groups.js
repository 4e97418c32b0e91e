// Groups and their workers, and the buttons beside each worker.

import { fullTime, rough } from "../text/durations.js";
import { cut, shortGroup, shortPid, shorten } from "../text/safe.js";
import { attribute, bdi, byId, el, reconcile, say } from "./dom.js";

export class GroupsView {
  #actions = [];
  #offered = "[]";

  /** `act(action, worker, button)` is called when a button beside a worker is clicked. */
  constructor({ act }) {
    this.act = act;
    this.node = byId("groups");
  }

  /** Offer `actions` as buttons beside workers from now on. */
  offer(actions) {
    this.#actions = actions;
    this.#offered = JSON.stringify(actions);
  }

  show(groups, now) {
    reconcile(this.node, groups, "data-group", (group) => group.name, newGroup, (node, group) => this.#group(node, group, now));
    byId("groups-empty").hidden = groups.length > 0;
  }

  #group(node, group, now) {
    updateGroup(node, group);
    const update = (item, worker) => {
      updateWorker(item, worker, now);
      this.#buttons(item.lastChild, worker);
    };
    reconcile(node.querySelector("ul"), group.workers, "data-worker", (worker) => worker.pid, newWorker, update);
  }

  /** Only connected workers have buttons. If the focused ones disappear, move the focus to the list. */
  #buttons(node, worker) {
    const isThere = worker.state === "connected";
    if (!isThere && node.contains(document.activeElement)) this.node.focus();
    node.hidden = !isThere;
    if (node.offered === this.#offered) return;
    node.offered = this.#offered;
    node.replaceChildren(...this.#actions.filter(({ workers }) => worker.group.startsWith(workers)).map((action) => this.#button(action, worker)));
  }

  #button(action, worker) {
    const label = `${cut(action.label, 24)}: ${shortGroup(worker.group)} ${shortPid(worker.pid)}`;
    const button = el("button", { type: "button", "data-action": action.name, "aria-label": label, title: action.note, onclick: () => this.act(action, worker, button) }, action.label);
    return button;
  }
}

function newGroup() {
  return el("section", { class: "group" }, el("h3", {}, bdi(""), el("span", { class: "waiting" }), el("small", {})), el("ul", {}));
}

function updateGroup(node, group) {
  const here = group.workers.filter((worker) => worker.state === "connected").length;
  say(node.querySelector("h3 bdi"), cut(group.name, 60));
  say(node.querySelector("h3 small"), here === 0 ? "none connected" : `${here} connected`);
  say(node.querySelector(".waiting"), group.waiting ? `${group.waiting} ${group.waiting === 1 ? "task waits" : "tasks wait"}` : "");
  attribute(node, "data-lacking", here === 0 && (group.waiting > 0 || group.workers.length > 0));
}

function newWorker() {
  return el("li", {}, el("span", { class: "dot", "aria-hidden": "true" }), bdi("", { class: "mono" }), el("span", { class: "word" }), el("span", { class: "held" }), el("small", {}), el("div", { class: "acts" }));
}

function updateWorker(item, worker, now) {
  attribute(item, "data-state", worker.state);
  attribute(item, "title", `${shorten(worker.pid, 200)}\nconnected since ${fullTime(worker.since)}\nlast heard from ${fullTime(worker.heard)}`);
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

/** A worker that sends a sign of life once a second is missed after 4 s, and the page is updated every 2 s. */
const HEARD_NOW = 6_000;

const heardWords = (ago) => (ago < HEARD_NOW ? "heard now" : `heard ${rough(ago)} ago`);
