// The stream of events: an endless response with one JSON object per line. It reconnects automatically and resumes after
// the last event; the server says whether that worked.

import { Refused, request } from "./api.js";

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 2000;

/** Number of earlier events to request, for the log. */
const PAST = "1000";

/** The server sends a beat every 2 s. A stream that is silent for this long is dead, whatever the socket says. */
const SILENCE = 12_000;

export class Stream {
  #after = null;
  #epoch = null;
  #pause = FIRST_PAUSE;
  #stopped = false;
  #abort = null;
  #watchdog = 0;

  /** `on`: {hello, event, beat, lost, refused}. */
  constructor(on) {
    this.on = on;
  }

  async run() {
    this.#stopped = false;
    while (!this.#stopped) {
      await this.#once();
      if (this.#stopped) return;
      await new Promise((wake) => setTimeout(wake, this.#pause));
      this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
    }
  }

  stop() {
    this.#stopped = true;
    this.#abort?.abort();
  }

  async #once() {
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
    if (this.#stopped) return;
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      this.#stopped = true;
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
