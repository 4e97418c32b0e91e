// What a user can do with a promise: cancel it, settle it by hand, call the same function again. Each needs confirmation,
// and is an ordinary protocol request that the server checks like any other.

import { isCall } from "../model/chain.js";
import { shorten } from "../text/safe.js";
import { nameOf, stateWord } from "../text/sentences.js";
import { byId, el } from "./dom.js";

const LINEAGE = ["resonate:origin", "resonate:branch", "resonate:parent"];
const NEVER = Number.MAX_SAFE_INTEGER;

const isPending = (promise) => promise.state === "pending";
/** Whether only someone outside can settle it. */
const isAwaited = (promise) => promise.role === "promise" && isPending(promise);

const ACTS = [
  {
    name: "approve",
    label: "Approve",
    fits: isAwaited,
    text: "Its caller continues with this value.",
    field: { label: "Value, as JSON or as text", value: () => "true" },
    act: (ask, { id }, text) => settle(ask, id, "resolved", payload(jsonOr(text))),
  },
  {
    name: "reject",
    label: "Reject",
    fits: isAwaited,
    text: "Its caller gets an error with this message.",
    field: { label: "Message", value: () => "rejected by a person" },
    act: (ask, { id }, text) => settle(ask, id, "rejected", error(text)),
  },
  {
    name: "cancel",
    label: "Cancel call",
    fits: (promise) => isCall(promise) && isPending(promise),
    text: "Its caller gets an error, and the result of work still running is discarded. Calls it has made continue.",
    act: (ask, { id }) => settle(ask, id, "rejected_canceled", error("cancelled by a person")),
  },
  {
    name: "again",
    label: "Call again",
    fits: isCall,
    text: "The same function is called with the same arguments, under a new id.",
    field: { label: "New id", value: ({ id }) => `${id.replaceAll(":", "-").slice(0, 4000)}-${Math.random().toString(16).slice(2, 6)}` },
    act: callAgain,
  },
];

export class ActsView {
  /** `ask(kind, data)` sends a request; `now()`: the server's time; `done(id)` shows the new call; `failed(error)` reports. */
  constructor({ ask, now, done, failed }) {
    Object.assign(this, { ask, now, done, failed });
    this.form = el("form", { method: "dialog" });
    this.dialog = el("dialog", { id: "act", "aria-labelledby": "act-title" }, this.form);
    this.dialog.addEventListener("close", () => document.activeElement === document.body && byId("detail").focus());
    document.body.append(this.dialog);
  }

  /** The buttons for `promise`, or null if there are none. */
  buttons(promise) {
    const acts = ACTS.filter(({ fits }) => fits(promise));
    if (!acts.length) return null;
    const button = (act) => el("button", { type: "button", "data-act": act.name, "aria-haspopup": "dialog", onclick: () => this.#open(act, promise) }, act.label);
    return el("div", { class: "acts", role: "group", "aria-label": `Act on ${nameOf(promise)}` }, acts.map(button));
  }

  #open(act, promise) {
    const input = act.field && el("input", { id: "act-field", type: "text", maxlength: "4096", required: true, autocomplete: "off", spellcheck: "false", value: act.field.value(promise) });
    this.form.onsubmit = (event) => {
      if (event.submitter?.value !== "no") this.#do(act, promise, input?.value);
    };
    this.form.replaceChildren(
      el("h2", { id: "act-title" }, `${act.label}: ${nameOf(promise)}?`),
      el("bdi", { class: "mono id" }, shorten(promise.id, 200)),
      el("p", {}, act.text),
      ...(input ? [el("label", { for: input.id }, act.field.label), input] : []),
      el("div", { class: "acts" },
        el("button", { type: "submit", class: "main", id: "act-do" }, act.label),
        el("button", { type: "submit", value: "no", formnovalidate: true }, "Go back")),
    );
    this.dialog.showModal();
  }

  async #do(act, promise, text) {
    try {
      const id = await act.act(this.ask, promise, text, this.now);
      if (typeof id === "string") this.done(id);
    } catch (error) {
      this.failed(error);
    }
  }
}

/** Throws if someone else has settled the promise first. */
async function settle(ask, id, state, value) {
  const { promise } = await ask("promise.settle", { id, state, value });
  if (promise.state !== state) throw new Error(`Too late: it is already ${stateWord(promise.state)}`);
}

/** Call the function again as the root of a new tree, with the same timeout. Returns `newId`; throws if it exists. */
async function callAgain(ask, { id }, newId, now) {
  const { promise } = await ask("promise.get", { id });
  const { "resonate:delay": _, "resonate:prefix": __, ...tags } = promise.tags;
  for (const name of LINEAGE) if (name in tags) tags[name] = newId;
  const timeoutAt = Math.min(NEVER, Math.round(now() + promise.timeoutAt - promise.createdAt));
  const made = await ask("promise.create", { id: newId, timeoutAt, param: promise.param, tags });
  if (made.promise.timeoutAt !== timeoutAt) throw new Error(`The promise ${shorten(newId, 60)} already exists; choose another id`);
  return newId;
}

function jsonOr(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** An error as SDKs write it. */
const error = (message) => payload({ __type: "error", message });

/** A value as SDKs write it: JSON in base64. */
function payload(value) {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  return { data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}
