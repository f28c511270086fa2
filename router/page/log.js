// What is known of one conversation: a window of its log without a hole, and what arrived ahead of it. Pure: no
// socket, no clock.

/** Events kept ahead of a hole; more are dropped, for the repair brings them anyway. */
const AHEAD_MAX = 500;

export class Log {
  /** Contiguous, in order of `seq`. */
  events = [];
  #ahead = new Map();
  /** The highest `seq` heard of, here or not. */
  knownSeq = 0;

  get firstSeq() {
    return this.events.length > 0 ? this.events[0].seq : 0;
  }

  get lastSeq() {
    return this.events.length > 0 ? this.events.at(-1).seq : 0;
  }

  get last() {
    return this.events.at(-1) ?? null;
  }

  /** Whether events between the window and the newest known one are missing. */
  get hasGap() {
    return this.events.length > 0 && this.knownSeq > this.lastSeq;
  }

  get hasOlder() {
    return this.firstSeq > 1;
  }

  heardOf(seq) {
    this.knownSeq = Math.max(this.knownSeq, seq);
  }

  /** A live event: takes it in if it is the next, keeps it if it is ahead. Returns the events that became visible. */
  add(event) {
    this.heardOf(event.seq);
    if (this.events.length === 0 || event.seq === this.lastSeq + 1) {
      this.events.push(event);
      return [event, ...this.#takeAhead()];
    }
    if (event.seq > this.lastSeq && this.#ahead.size < AHEAD_MAX) this.#ahead.set(event.seq, event);
    return [];
  }

  /** A page of history in ascending order, which follows, precedes or replaces the window. */
  addPage(page) {
    if (page.length === 0) return [];
    this.heardOf(page.at(-1).seq);
    const fresh = this.#place(page);
    return [...fresh, ...this.#takeAhead()];
  }

  #place(page) {
    if (this.events.length === 0) {
      this.events = [...page];
      return page;
    }
    if (page[0].seq < this.firstSeq && page.at(-1).seq >= this.firstSeq - 1) {
      const older = page.filter((event) => event.seq < this.firstSeq);
      const newer = page.filter((event) => event.seq > this.lastSeq);
      this.events = [...older, ...this.events, ...newer];
      return [...older, ...newer];
    }
    const newer = page.filter((event) => event.seq > this.lastSeq);
    if (newer.length === 0 || newer[0].seq !== this.lastSeq + 1) return [];
    this.events.push(...newer);
    return newer;
  }

  #takeAhead() {
    const taken = [];
    for (let next; (next = this.#ahead.get(this.lastSeq + 1)); ) {
      this.#ahead.delete(next.seq);
      this.events.push(next);
      taken.push(next);
    }
    for (const seq of this.#ahead.keys()) if (seq <= this.lastSeq) this.#ahead.delete(seq);
    return taken;
  }
}
