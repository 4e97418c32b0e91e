// The server's time. It stands still while the server is not heard of: nothing may seem to go on that nobody knows of.

/** Smaller differences are delays on the way; following them would make the cursor tremble. */
const TREMBLE = 80;

export class Clock {
  #offset = 0;
  #frozenAt = null;

  now = () => this.#frozenAt ?? Date.now() + this.#offset;

  /** The server says that it is `at`. */
  heard(at) {
    const offset = at - Date.now();
    if (this.#frozenAt !== null || Math.abs(offset - this.#offset) > TREMBLE) this.#offset = offset;
    this.#frozenAt = null;
  }

  freeze() {
    this.#frozenAt ??= this.now();
  }
}
