// The actions that the page offers, which its server reads from elsewhere: forms to send and commands to copy.

import { byId, copy, el, say } from "./dom.js";

/** For each type, the attributes of its input, and the value to send: none if it is empty. Other types are omitted. */
const TYPES = new Map([
  ["number", {
    attributes: ({ min, max, default: value }) => ({ type: "number", step: "any", inputmode: "decimal", min, max, value: Number.isFinite(value) ? value : null }),
    sent: (input) => (input.value ? input.valueAsNumber : undefined),
  }],
  ["text", {
    attributes: ({ default: value }) => ({ type: "text", maxlength: "500", value }),
    sent: (input) => input.value || undefined,
  }],
]);

export class ActionsView {
  #act;
  #shown = "[]";

  /** `act(name, fields, button)` is called when a form is submitted. */
  constructor({ act }) {
    this.#act = act;
  }

  /** Show the actions. Keep what was typed in as long as they are the same. */
  show({ actions, trouble }) {
    byId("actions-trouble").hidden = !trouble;
    say(byId("actions-trouble"), trouble && `No actions: ${trouble}`);
    byId("actions-trouble").title = byId("actions-trouble").textContent;
    byId("actions").removeAttribute("aria-busy");
    const key = JSON.stringify(actions);
    if (key === this.#shown) return;
    this.#shown = key;
    byId("actions").replaceChildren(...actions.flatMap((action) => (action.commands.length ? commands(action) : this.#form(action))));
  }

  #form({ name, label, fields }) {
    const button = el("button", { type: "submit", class: "main", id: `action-${name}`, title: label }, label);
    const known = fields.filter(({ type }) => TYPES.has(type));
    const inputs = known.map((field) => el("input", { ...TYPES.get(field.type).attributes(field), name: field.name, id: `field-${name}-${field.name}` }));
    const onsubmit = (event) => {
      event.preventDefault();
      this.#act(name, Object.fromEntries(known.map(({ name, type }, index) => [name, TYPES.get(type).sent(inputs[index])])), button);
    };
    return el("form", { onsubmit }, known.map(({ label, unit }, index) => el("label", {}, el("span", {}, label), inputs[index], el("span", { "aria-hidden": "true" }, unit))), button);
  }
}

/** A button and the popover that it opens. */
function commands({ name, label, commands, note }) {
  const list = el("div", { popover: true, class: "commands", id: `commands-${name}` },
    el("h2", {}, label),
    note && el("p", {}, note),
    el("p", {}, "Run these in a terminal:"),
    el("ul", {}, commands.map(command)));
  return [el("button", { type: "button", id: `action-${name}`, popovertarget: list.id, title: label }, label), list];
}

function command({ label, text }) {
  const button = el("button", { type: "button", class: "quiet", "aria-label": `Copy: ${text}`, onclick: () => copy(text, button) }, el("span", { class: "label" }, "Copy"));
  return el("li", {}, el("span", {}, label), el("code", {}, text), button);
}
