// The stream of events: an endless response with one JSON object per line. It reconnects automatically and resumes after
// the last event; the server says whether that worked. And the server's time, which its messages tell.

import { Refused, request } from "./api.js";

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 2000;

/** Number of earlier events to request, for the log. */
const PAST = "1000";

/** Streams of one browser. It opens six connections to a server, for all of its windows together. */
const PLACES = ["stream 1", "stream 2", "stream 3", "stream 4", "stream 5"];

/** The server sends a beat every 2 s. A stream that is silent for this long is dead, whatever the socket says. */
const SILENCE = 12_000;

export class Stream {
  #after = null;
  #epoch = null;
  #pause = FIRST_PAUSE;
  /** The loop that reconnects; null when stopped. An earlier one that still pauses must not go on beside it. */
  #running = null;
  #abort = null;
  #watchdog = 0;

  /** `on`: {hello, event, beat, lost, refused, crowded}. */
  constructor(on) {
    this.on = on;
  }

  get isStopped() {
    return this.#running === null;
  }

  async run() {
    const own = (this.#running = {});
    while (this.#running === own) {
      await this.#once(own);
      if (this.#running !== own) return;
      await new Promise((wake) => setTimeout(wake, this.#pause));
      this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
    }
  }

  stop() {
    this.#running = null;
    this.#abort?.abort();
  }

  /** Without locks, as over plain HTTP from another machine, windows do not know of each other. */
  async #once(own) {
    if (!navigator.locks) return this.#receive();
    for (const place of PLACES) {
      const receive = (lock) => lock && this.#running === own && this.#receive().then(() => true);
      if (await navigator.locks.request(place, { ifAvailable: true }, receive)) return undefined;
      if (this.#running !== own) return undefined;
    }
    return this.on.crowded(PLACES.length);
  }

  async #receive() {
    this.#abort = new AbortController();
    try {
      this.#watch();
      const response = await request("events", { after: this.#after, past: PAST }, { signal: this.#abort.signal });
      await this.#read(response.body);
      this.on.lost("the server ended the stream");
    } catch (error) {
      this.#failed(error);
    } finally {
      clearTimeout(this.#watchdog);
    }
  }

  #failed(error) {
    if (!this.#running) return;
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      this.#running = null;
      this.on.refused(error);
    } else this.on.lost(error instanceof Refused ? error.message : "the connection broke");
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#abort.abort(), SILENCE);
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.#watch();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) this.#take(JSON.parse(line));
    }
  }

  #take(message) {
    if (message.kind === "hello") return this.#greet(message);
    if (message.kind === "beat") return this.on.beat(message);
    this.#after = `${this.#epoch}:${message.seq}`;
    return this.on.event(message);
  }

  #greet(message) {
    this.#pause = FIRST_PAUSE;
    this.#epoch = message.epoch;
    if (!message.resumed) this.#after = `${message.epoch}:${message.seq}`;
    this.on.hello(message);
  }
}

/** Smaller differences are network jitter; following them would make the cursor tremble. */
const TREMBLE = 80;

/** It stops while the server is unreachable, so that nothing appears to progress without evidence. */
export class Clock {
  #offset = 0;
  #frozenAt = null;

  now = () => this.#frozenAt ?? Date.now() + this.#offset;

  /** The server's time is `at`. */
  heard(at) {
    const offset = at - Date.now();
    if (this.#frozenAt !== null || Math.abs(offset - this.#offset) > TREMBLE) this.#offset = offset;
    this.#frozenAt = null;
  }

  freeze() {
    this.#frozenAt ??= this.now();
  }
}
