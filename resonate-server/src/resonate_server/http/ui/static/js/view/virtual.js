// Rows of equal height in a scroller. Only visible rows exist, so 100,000 rows cost no more than 30.

const BEYOND = 6;

export class Virtual {
  #elements = new Map();
  #items = [];

  /** `scroller` holds `canvas`; `key(item)`, `create(item)`, `update(element, item, index)`; `--row` is the height. */
  constructor({ scroller, canvas, key, create, update, near }) {
    Object.assign(this, { scroller, canvas, key, create, update, near });
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
    this.measure();
  }

  /** Measure the row height again: it may have changed. */
  measure() {
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 44;
    this.draw();
  }

  set items(items) {
    this.#items = items;
    this.draw();
  }

  get range() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / this.height) - BEYOND);
    const last = Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / this.height) + BEYOND;
    return [first, Math.min(this.#items.length, last)];
  }

  draw() {
    this.canvas.style.height = `${this.#items.length * this.height}px`;
    const [first, last] = this.range;
    const shown = new Set();
    for (let index = first; index < last; index += 1) shown.add(this.#place(index));
    for (const [key, element] of this.#elements) if (!shown.has(key)) this.#drop(key, element);
    if (last > 0 && last >= this.#items.length - BEYOND) this.near?.();
  }

  #drop(key, element) {
    element.remove();
    this.#elements.delete(key);
  }

  #place(index) {
    const item = this.#items[index];
    const key = this.key(item);
    let element = this.#elements.get(key);
    if (!element) {
      element = this.create(item);
      this.#elements.set(key, element);
      this.canvas.append(element);
    }
    element.style.transform = `translateY(${index * this.height}px)`;
    this.update(element, item, index);
    return key;
  }

  element(key) {
    return this.#elements.get(key) ?? null;
  }

  get elements() {
    return this.#elements.values();
  }

  /** Scroll the row into view, moving as little as possible. */
  reveal(index) {
    const top = index * this.height;
    const bottom = top + this.height + this.canvas.offsetTop;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.scroller.scrollTop = bottom - clientHeight;
    this.draw();
  }
}
