// The page's wiring: data from the server goes into the models, changes go to the views.
// Tests and pictures rely on ids, classes and data attributes: look for one in tests/ui before you rename it.

import { Chain, Names } from "./model/chain.js";
import { ChainList } from "./model/list.js";
import { Roster } from "./model/roster.js";
import * as api from "./net/api.js";
import { Clock, Stream } from "./net/stream.js";
import { addressOf, shorten } from "./text/safe.js";
import { nameOf, sentence, stateWord } from "./text/sentences.js";
import { ActionsView } from "./view/actions.js";
import { ActsView } from "./view/acts.js";
import { DetailView } from "./view/detail.js";
import { attribute, byId, copy, say, sayId, stateIcon } from "./view/dom.js";
import { GroupsView } from "./view/groups.js";
import { ListView } from "./view/list.js";
import { LogView } from "./view/log.js";
import { TimelineView } from "./view/timeline.js";
import { Tools } from "./view/tools.js";
import { askForToken, notice, showPane, showStatus, wireTopbar } from "./view/topbar.js";

const LIST_EVERY = 250;
const TYPING = 250;
/** Minimum time that each chain is shown when following the newest one. */
const DWELL = 2000;
/** Pause before a changing chain is read again; longer for chains, and lists, that are slow to read. */
const REREAD_PAUSE = 100;
const REREAD_SHARE = 4;

class Page {
  clock = new Clock();
  names = new Names();
  roster = new Roster();
  list = new ChainList();
  chain = null;
  wanted = null;
  liveFrom = 0;
  dirty = new Set();
  followedAt = 0;

  constructor() {
    this.listView = new ListView({ choose: (id) => choose(id), more: () => this.older(), now: this.clock.now });
    this.timeline = new TimelineView({
      pick: (row, pinned) => this.pick(row, pinned),
      isLate: (worker, ttl) => this.roster.isLate(worker, ttl),
      isAway: (worker) => this.roster.isAway(worker),
      changed: () => this.tools.update(),
      now: this.clock.now,
    });
    this.tools = new Tools(this.timeline);
    this.acts = new ActsView({ ask: api.ask, now: this.clock.now, done: choose, failed: (error) => this.failed(error) });
    this.detail = new DetailView({
      begin: () => this.timeline.begin,
      nameOfId: (id) => this.timeline.nameOfId(id),
      rows: () => this.timeline.all,
      acts: (promise) => this.acts.buttons(promise),
    });
    this.groups = new GroupsView({ act: (action, worker, button) => this.actOn(action, worker, button) });
    this.log = new LogView();
    this.actions = new ActionsView({ act: (name, fields, button) => this.act(name, fields, button) });
    this.stream = new Stream({
      hello: (message) => this.hello(message),
      event: (event) => this.event(event),
      beat: (message) => this.beat(message),
      lost: (why) => this.lost(why),
      refused: (error) => this.refused(error),
      crowded: (others) => this.crowded(`${others} other windows show this page live; hide or close one`),
    });
  }

  start() {
    showStatus("connecting");
    document.addEventListener("visibilitychange", () => this.attend());
    this.attend();
  }

  /** Only a tab in sight has a stream: browsers open six connections to a server, for all of their tabs together. */
  attend() {
    if (document.hidden) return this.stream.stop();
    if (!this.stream.isStopped || byId("auth").open) return;
    this.lost("This tab was out of sight");
    this.stream.run();
  }

  /** Called on every reconnect: after a restart the actions may have changed, or be available again. */
  async loadActions() {
    try {
      const { actions, trouble } = await api.actions();
      this.actions.show({ trouble, actions: actions.filter(({ workers }) => workers === null) });
      this.groups.offer(actions.filter(({ workers }) => workers !== null));
      this.change("groups");
    } catch (error) {
      this.failed(error);
    }
  }

  // ── events from the stream ──

  hello(message) {
    this.heard(message);
    this.loadActions();
    if (message.resumed) return this.readMissed();
    this.liveFrom = message.seq;
    return this.reload();
  }

  beat(message) {
    this.heard(message);
    this.readMissed();
  }

  /** Ask again for what the server could not answer: no event may follow that would lead to it. */
  readMissed() {
    if (!this.list.loaded && !this.paging) this.reload();
    else this.missed?.();
  }

  async reload() {
    await this.loadList(true);
    this.openWanted();
  }

  heard({ at, groups }) {
    this.clock.heard(at);
    this.roster.heard(groups, at);
    this.change("groups");
    this.heardAt = Date.now();
    this.timeline.awaySince = null;
    showStatus("live");
  }

  lost(why) {
    this.clock.freeze();
    if (!this.heardAt) return;
    this.timeline.awaySince ??= Date.now();
    showStatus("stale", this.heardAt, why);
  }

  crowded(why) {
    this.lost(why);
    notice(why);
  }

  refused(error) {
    showStatus(this.heardAt ? "stale" : "connecting", this.heardAt, error.message);
    if (error.status === 401) return this.askAgain(error.message);
    return this.askAgain(`This token is valid, but it does not permit this: ${error.message}`);
  }

  askAgain(why) {
    this.stream.stop();
    askForToken(why, (token) => {
      api.token.set(token);
      this.stream.run();
    });
  }

  event(event) {
    if (event.kind === "promise.created") this.names.learn(event);
    const text = this.isOldNews(event) ? null : sentence(event, this.names);
    if (text) this.log.add(event, text);
    if (event.seq <= this.liveFrom) return; // An earlier event, which list and chain already include.
    if (event.at > this.clock.now()) this.clock.heard(event.at);
    if (event.kind === "server.missed") this.loadList(true);
    if (this.list.apply(event)) this.change("list");
    this.chainEvent(event);
    if (text) this.log.announce(event, text);
  }

  /** A worker that is gone also falls silent. */
  isOldNews(event) {
    return event.kind === "worker.silent" && this.roster.isGone(event);
  }

  chainEvent(event) {
    if (this.loading || this.chain?.isTouchedBy(event)) this.keepUp();
    if (event.kind !== "promise.created" || event.id !== event.chain) return;
    if (this.wanted === event.id && this.chain?.id !== event.id) this.open(event.id);
    if (this.wanted === null) this.follow(event.id);
  }

  // ── the list ──

  async loadList(first) {
    if (this.paging && !first) return;
    this.paging?.abort();
    const paging = (this.paging = new AbortController());
    const begun = performance.now();
    if (first) this.list.isOutdated = false;
    try {
      let answer = { next: first ? null : this.list.next };
      do { // The server searches a limited number at a time.
        answer = await api.chains(this.list.filter, answer.next, paging.signal);
        if (this.paging !== paging) return;
      } while (answer.next && answer.chains.length === 0);
      for (const record of answer.chains) this.names.learn(record);
      this.list.page(answer, first);
    } catch (error) {
      this.failed(error);
      if (first) this.list.loaded = !error.mayPass;
    } finally {
      if (this.paging === paging) {
        this.paging = null;
        this.renewAt = performance.now() + REREAD_SHARE * (performance.now() - begun);
      }
    }
    this.change("list");
  }

  older() {
    if (this.list.next && !this.paging) this.loadList(false);
  }

  filter(change) {
    Object.assign(this.list.filter, change);
    this.list.clear();
    this.change("list");
    this.loadList(true).then(() => {
      byId("chains").scrollTop = 0;
      if (this.wanted === null && !this.list.isFiltered) this.openWanted(); // Without a filter, another chain may be the newest.
    });
  }

  /** Read the list again if it is outdated, unless the user has scrolled. */
  renewList() {
    const isDue = this.list.isOutdated && performance.now() > this.renewAt;
    if (isDue && !this.paging && byId("chains").scrollTop < 4) this.loadList(true);
  }

  showList() {
    const { items, next } = this.list;
    const none = this.paging ? "Searching …" : this.list.isFiltered ? "No chain fits the filter." : "No chains yet. Every call starts one.";
    this.listView.show(items, `${items.length}${next ? "+" : ""}`, none);
    byId("older").disabled = !next;
  }

  // ── the chosen chain ──

  /** Open the chain that the URL names, or else the newest one. */
  openWanted() {
    this.wanted = routed();
    attribute(byId("follow"), "aria-pressed", String(this.wanted === null));
    const id = this.wanted ?? this.list.items[0]?.id ?? this.chain?.id;
    if (id !== undefined) this.open(id);
    else if (this.list.loaded) this.showThatThereIsNone();
  }

  follow(id) {
    this.newest = id;
    const pause = this.followedAt + DWELL - Date.now();
    this.following ??= setTimeout(() => {
      this.following = null;
      this.followedAt = Date.now();
      if (this.wanted === null) this.open(this.newest);
    }, Math.max(0, pause));
  }

  async open(id) {
    this.listView.mark(id);
    const detail = await this.read(id, () => this.open(id));
    if (!detail) return;
    if (this.chain?.id !== detail.id) this.detail.clear();
    byId("notice").hidden = true;
    this.take(detail);
    this.listView.mark(this.chain.id);
    this.picked = this.timeline.byId.get(id) ?? this.timeline.all[0];
    this.showDetail(this.picked);
  }

  /** The detail of chain `id`; null if it cannot be read, or another one was requested meanwhile. `again` repeats it. */
  async read(id, again) {
    this.loading?.abort();
    const loading = (this.loading = new AbortController());
    this.missed = null;
    try {
      return await api.chain(id, loading.signal);
    } catch (error) {
      if (error.status === 404) this.absent(id);
      else this.failed(error);
      if (error.mayPass) this.missed = again;
      return null;
    } finally {
      if (this.loading === loading) this.loading = null;
    }
  }

  take(detail) {
    const chain = new Chain(detail);
    if (!chain.root) return;
    for (const promise of detail.promises) this.names.learn({ ...promise, timer: promise.role === "timer" });
    this.chain = chain;
    document.body.dataset.chain = "shown";
    this.showTitle();
    this.showTimeline();
  }

  /** The chain has changed: read it again, and once more if it changes meanwhile. */
  async keepUp() {
    this.isBehind = true;
    if (this.keepingUp) return;
    this.keepingUp = true;
    while (this.isBehind) {
      const begun = performance.now();
      if (!this.loading) await this.reread();
      const pause = Math.max(REREAD_PAUSE, REREAD_SHARE * (performance.now() - begun));
      await new Promise((wake) => setTimeout(wake, pause));
    }
    this.keepingUp = false;
  }

  async reread() {
    this.isBehind = false;
    if (!this.chain) return;
    const id = this.chain.id;
    const detail = await this.read(id, () => this.keepUp());
    if (detail && this.chain.id === id) this.take(detail);
  }

  /** A chain that was shown has gone with its database, or was deleted: nothing of it may look alive. */
  absent(id) {
    if (this.chain?.promises.has(id)) this.forget();
    notice(`There is no chain ${shorten(id, 60)}; if it begins, it is shown`);
    this.showThatThereIsNone();
  }

  forget() {
    this.chain = this.picked = this.pointed = null;
    delete document.body.dataset.chain;
    sayId(byId("chain-id"), "");
    say(byId("chain-duration"), "");
    attribute(byId("headline"), "data-tone", "calm");
    this.timeline.clear();
    this.detail.clear();
  }

  showThatThereIsNone() {
    if (this.chain) return;
    say(byId("chain-title"), "No chain yet");
    say(byId("headline-text"), "A call is shown here as soon as it begins.");
  }

  showTitle() {
    const root = this.chain.root;
    const hash = hashOf(root.id);
    say(byId("chain-title"), nameOf(root));
    sayId(byId("chain-id"), shorten(root.id, 200));
    attribute(byId("chain-id"), "title", shorten(root.id, 400));
    attribute(byId("copy-link"), "data-hash", hash);
    attribute(byId("chain-state"), "data-state", root.state);
    byId("chain-state").replaceChildren(stateIcon(root.state), stateWord(root.state));
  }

  showTimeline() {
    if (!this.chain) return;
    this.timeline.show(this.chain);
    if (this.pointed) this.showDetail(this.timeline.byId.get(this.pointed.promise.id) ?? this.picked);
  }

  pick(row, pinned) {
    if (pinned) this.picked = row;
    this.showDetail(row);
  }

  showDetail(row) {
    this.pointed = row;
    if (row) this.detail.show(row);
  }

  unpoint() {
    const picked = this.picked && this.timeline.byId?.get(this.picked.promise.id);
    if (picked) this.showDetail(picked);
  }

  // ── actions ──

  async act(name, fields, button) {
    const begun = await this.click(button, name, { fields });
    if (begun) choose(begun.id);
  }

  /** Keep showing the current chain: the user wants to see the effect on it. */
  async actOn({ name, note }, worker, button) {
    if (this.chain) location.hash = hashOf(this.chain.id);
    const done = await this.click(button, name, { worker: addressOf(worker) });
    if (done && note) notice(note);
  }

  /** The answer to a click, or null if it failed. The button does nothing more until there is one. */
  async click(button, name, what) {
    if (button.ariaDisabled) return null;
    button.ariaDisabled = "true";
    try {
      return await api.act(name, what);
    } catch (error) {
      this.failed(error);
      return null;
    } finally {
      button.ariaDisabled = null;
    }
  }

  failed(error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) this.askAgain(error.message);
    else notice(error.message);
  }

  // ── drawing ──

  /** Redraw `parts` with the next frame; the list less often. */
  change(...parts) {
    for (const part of parts) this.dirty.add(part);
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = null;
    const { dirty } = this;
    if (dirty.delete("groups")) this.groups.show(this.roster.shown(this.clock.now()), this.clock.now());
    if (dirty.delete("list")) this.listLater();
  }

  listLater() {
    this.listTimer ??= setTimeout(() => {
      this.listTimer = null;
      this.renewList();
      this.showList();
    }, Math.max(0, (this.listShownAt ?? 0) + LIST_EVERY - Date.now()));
    this.listShownAt = Date.now();
  }
}

// ── the URL ──

const PREFIX = "#/chain/";
const hashOf = (id) => PREFIX + encodeURIComponent(id.toWellFormed());

function routed() {
  if (!location.hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(location.hash.slice(PREFIX.length)) || null;
  } catch {
    return location.hash.slice(PREFIX.length);
  }
}

function choose(id) {
  showPane("timeline");
  const hash = hashOf(id);
  if (location.hash === hash) page.openWanted();
  else location.hash = hash;
}

// ── the keyboard and the rest of the document ──

function wire(page) {
  let typing = 0;
  byId("filter").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => page.filter({ text: event.target.value }), TYPING);
  });
  byId("state-filter").addEventListener("change", (event) => page.filter({ state: event.target.value }));
  byId("older").addEventListener("click", () => page.older());
  byId("follow").addEventListener("click", () => followNewest(page));
  byId("copy-id").addEventListener("click", (event) => copy(page.chain.root.id, event.currentTarget));
  byId("story-copy").addEventListener("click", (event) => copy(page.chain.story.join(" "), event.currentTarget));
  byId("timeline").addEventListener("pointerleave", () => page.unpoint());
  addEventListener("hashchange", () => (api.takeToken() ? location.reload() : page.openWanted()));
  document.addEventListener("keydown", shortcut);
  setInterval(() => page.change("groups", "list"), 1000);
}

function followNewest(page) {
  if (location.hash && location.hash !== "#/") location.hash = "#/";
  else page.openWanted();
}

function shortcut(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    showPane("chains");
    byId("filter").focus();
  } else if (event.key === "?") byId("help-dialog").showModal();
  else return;
  event.preventDefault();
}

api.takeToken();
const page = new Page();
wireTopbar();
wire(page);
page.start();
document.documentElement.dataset.started = "";
