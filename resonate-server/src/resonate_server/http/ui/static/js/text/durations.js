// Times as text. All arguments are in milliseconds.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "340 ms", "1.2 s", "3 min 4 s", "2 h 5 min", "3 d 4 h". */
export function duration(ms) {
  const span = Math.max(0, Math.round(ms));
  if (span < SECOND) return `${span} ms`;
  if (span < MINUTE - 50) return `${(span / SECOND).toFixed(1)} s`;
  return coarse(Math.round(span / SECOND) * SECOND);
}

/** The requested length of a sleep: its deadline was computed a moment before the server stored it. */
export function asked(ms) {
  const near = Math.round(ms / SECOND) * SECOND;
  const whole = Math.abs(ms - near) <= 250 ? near : Math.ceil(ms / SECOND) * SECOND;
  return whole >= SECOND && Math.abs(ms - whole) <= Math.max(250, ms / 50) ? mark(whole) : duration(ms);
}

/** Without tenths, for values that are updated all the time: "7 s", "3 min 4 s". */
export function coarse(ms) {
  const span = Math.max(0, ms);
  if (span < MINUTE) return `${Math.floor(span / SECOND)} s`;
  if (span < HOUR) return pair(span, MINUTE, "min", SECOND, "s");
  if (span < DAY) return pair(span, HOUR, "h", MINUTE, "min");
  return pair(span, DAY, "d", HOUR, "h");
}

/** In the largest unit only: "43 s", "2 min", "3 h". */
export function rough(ms) {
  return coarse(ms).split(" ").slice(0, 2).join(" ");
}

function pair(span, big, bigName, small, smallName) {
  const wholes = Math.floor(span / big);
  const rest = Math.floor((span % big) / small);
  return rest ? `${wholes} ${bigName} ${rest} ${smallName}` : `${wholes} ${bigName}`;
}

/** A mark on the time axis: exact, but as short as possible. */
export function mark(ms) {
  if (ms === 0) return "0";
  if (ms < SECOND) return `${trimmed(ms)} ms`;
  if (ms < MINUTE) return `${trimmed(ms / SECOND)} s`;
  return coarse(ms);
}

const trimmed = (number) => String(Math.round(number * 1000) / 1000);

/** Time of day, "14:03:07". */
export function clockTime(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

/** Local date and time with milliseconds, for titles and details. */
export function fullTime(at) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "out of any calendar";
  const parts = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((n) => String(n).padStart(2, "0"));
  return `${parts.join("-")} ${clockTime(at)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
