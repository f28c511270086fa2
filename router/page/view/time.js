// Times as people read them, in their own language and zone.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const fullDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY_MS = 86_400_000;

/** Local days since some day, to compare by. */
export function dayOf(ms) {
  const day = new Date(ms);
  return Math.floor((ms - day.getTimezoneOffset() * 60_000) / DAY_MS);
}

export const clockTime = (ms) => clock.format(ms);
export const exactTime = (ms) => exact.format(ms);

/** For the list: a time today, a weekday this week, a date before. */
export function shortTime(ms, nowMs = Date.now()) {
  const age = dayOf(nowMs) - dayOf(ms);
  if (age <= 0) return clock.format(ms);
  if (age === 1) return "Yesterday";
  return age < 7 ? weekday.format(ms) : date.format(ms);
}

/** For the line between two days. */
export function dayTitle(ms, nowMs = Date.now()) {
  const age = dayOf(nowMs) - dayOf(ms);
  if (age <= 0) return "Today";
  if (age === 1) return "Yesterday";
  return age < 7 ? weekday.format(ms) : fullDate.format(ms);
}

/** For who is not online. */
export function lastSeen(ms, nowMs = Date.now()) {
  const age = dayOf(nowMs) - dayOf(ms);
  if (age <= 0) return `last seen at ${clock.format(ms)}`;
  if (age === 1) return `last seen yesterday at ${clock.format(ms)}`;
  return `last seen on ${age < 7 ? weekday.format(ms) : date.format(ms)}`;
}
