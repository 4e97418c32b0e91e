// The top of the page and what it opens: connection status, theme, help, token, notices.

import { clockTime } from "../text/durations.js";
import { attribute, byId, copy, say } from "./dom.js";

const NOTICE_SHOWN = 8000;

/** `state`: `live`, `connecting` or `stale`; `since`: when the server was last heard from. */
export function showStatus(state, since = 0, why = "") {
  attribute(byId("status"), "data-state", state);
  const words = { live: "Live", connecting: "Connecting", stale: `Stale since ${clockTime(since)}` };
  say(byId("status-text"), words[state]);
  attribute(byId("status"), "title", state === "stale" ? `${why}; what you see is as of ${clockTime(since)}. Trying to connect` : "Connection to the server");
  attribute(document.body, "data-stale", state === "stale");
}

export function notice(text) {
  say(byId("notice-text"), text);
  byId("notice").hidden = false;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => (byId("notice").hidden = true), NOTICE_SHOWN);
}

/** Ask for a token and call `then(token)`. If the dialog is open already, only its text changes. */
export function askForToken(why, then) {
  const dialog = byId("auth");
  say(byId("auth-why"), why);
  byId("auth-form").onsubmit = () => then(byId("token").value.trim());
  if (!dialog.open) dialog.showModal();
}

export function wireTopbar() {
  byId("story").open = matchMedia("(min-width: 761px)").matches; // The first sentence is always visible.
  byId("theme").addEventListener("click", toggleTheme);
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  byId("notice-close").addEventListener("click", () => (byId("notice").hidden = true));
  byId("copy-link").addEventListener("click", (event) => copy(location.href.split("#")[0] + byId("copy-link").dataset.hash, event.currentTarget));
  for (const link of document.querySelectorAll("[data-skip]")) link.addEventListener("click", skip);
  for (const tab of document.querySelectorAll("#tabs button")) tab.addEventListener("click", () => showPane(tab.dataset.pane));
}

/** On a narrow screen only one pane is visible at a time. */
export function showPane(name) {
  document.body.dataset.pane = name;
  for (const tab of document.querySelectorAll("#tabs button")) attribute(tab, "aria-pressed", String(tab.dataset.pane === name));
}

/** A skip link moves the focus, but leaves the URL alone, because it names the chain. */
function skip(event) {
  event.preventDefault();
  showPane(event.currentTarget.dataset.skip);
  const target = byId(event.currentTarget.getAttribute("href").slice(1));
  (target.querySelector("[tabindex='0']") ?? target).focus();
}

function toggleTheme() {
  const root = document.documentElement;
  const chosen = root.dataset.theme;
  const isDark = chosen === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Without storage, the choice lasts until the next load.
  }
}
