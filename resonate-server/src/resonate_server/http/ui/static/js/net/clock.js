// The server's time. It stops while the server is unreachable, so that nothing appears to progress without evidence.

/** Smaller differences are network jitter; following them would make the cursor tremble. */
const TREMBLE = 80;

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
