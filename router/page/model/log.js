// What is known of one conversation: a window of its log without a hole, and what arrived ahead of it. Pure: no
// socket, no clock.
//
// Messages in it are as all events of the window have left them. A page of history brings messages as they were at its
// `last_seq`; so each message has an `asOf`, and only events above that are applied to it, each once and in order.

import { isRevision, revise, withoutContent } from "./revise.js";

/** Events kept ahead of a hole; more are dropped, for the repair brings them anyway. */
const AHEAD_MAX = 500;

export class Log {
  #me;
  /** Contiguous, in order of `seq`. */
  #events = [];
  /** `asOf[i]`: the `seq` up to which events are in `events[i]`. */
  #asOf = [];
  #ahead = new Map();
  #seqOfId = new Map();
  /** The highest `seq` heard of, here or not. */
  knownSeq = 0;

  /** `me`: the user whose reactions are `mine`. */
  constructor(me) {
    this.#me = me;
  }

  get events() {
    return this.#events;
  }

  get firstSeq() {
    return this.#events.length > 0 ? this.#events[0].seq : 0;
  }

  get lastSeq() {
    return this.#events.length > 0 ? this.#events.at(-1).seq : 0;
  }

  get last() {
    return this.#events.at(-1) ?? null;
  }

  /** Whether events between the window and the newest known one are missing. */
  get hasGap() {
    return this.#events.length > 0 && this.knownSeq > this.lastSeq;
  }

  /** The event of an id, where the window has it. */
  find(id) {
    const seq = this.#seqOfId.get(id);
    return seq === undefined ? null : this.#events[seq - this.firstSeq];
  }

  heardOf(seq) {
    this.knownSeq = Math.max(this.knownSeq, seq);
  }

  /** A live event: takes it in if it is the next, keeps it if it is ahead. Returns the events that became visible. */
  add(event) {
    this.heardOf(event.seq);
    if (this.#events.length === 0 || event.seq === this.lastSeq + 1) {
      this.#append(event, event.seq);
      return [event, ...this.#takeAhead()];
    }
    if (event.seq > this.lastSeq && this.#ahead.size < AHEAD_MAX) this.#ahead.set(event.seq, event);
    return [];
  }

  /**
   * A page of history, which follows, precedes or begins the window; one that does neither is of no use and ignored.
   * Returns the events that became visible at the end of the window; earlier ones are not news.
   */
  addPage({ events, last_seq: asOf }) {
    this.heardOf(asOf);
    if (events.length === 0) return [];
    const isFirst = this.#events.length === 0;
    if (!isFirst && events[0].seq < this.firstSeq) this.#prepend(events, asOf);
    const fresh = [];
    for (const event of events) {
      if (this.#events.length > 0 && event.seq !== this.lastSeq + 1) continue;
      this.#append(event, asOf);
      fresh.push(event);
    }
    return [...fresh, ...this.#takeAhead()];
  }

  /** Forgets the oldest events beyond `count`. */
  trim(count) {
    const surplus = this.#events.length - count;
    if (surplus <= 0) return;
    for (const { id } of this.#events.slice(0, surplus)) this.#seqOfId.delete(id);
    this.#events = this.#events.slice(surplus);
    this.#asOf = this.#asOf.slice(surplus);
  }

  #append(event, asOf) {
    this.#events.push(event);
    this.#asOf.push(asOf);
    this.#seqOfId.set(event.id, event.seq);
    this.#apply(event);
  }

  #prepend(page, asOf) {
    const older = page.filter((event) => event.seq < this.firstSeq);
    if (older.at(-1).seq !== this.firstSeq - 1) return;
    const later = this.#events;
    this.#events = [...older, ...later];
    this.#asOf = [...older.map(() => asOf), ...this.#asOf];
    for (const event of older) this.#seqOfId.set(event.id, event.seq);
    for (const event of later) this.#apply(event);
  }

  /** Lets an event of the window have its effect on an earlier message, unless the message was read after it. */
  #apply(event) {
    if (!isRevision(event)) return;
    if (event.kind === "delete") this.#forgetEdits(event.message_id);
    const index = event.message_seq - this.firstSeq;
    const message = this.#events[index];
    if (!message || message.id !== event.message_id || event.seq <= this.#asOf[index]) return;
    this.#events[index] = revise(message, event, this.#me);
    this.#asOf[index] = event.seq;
  }

  #forgetEdits(messageId) {
    this.#events.forEach((event, index) => {
      if (event.kind === "edit" && event.message_id === messageId) this.#events[index] = withoutContent(event);
    });
  }

  #takeAhead() {
    const taken = [];
    for (let next; (next = this.#ahead.get(this.lastSeq + 1)); ) {
      this.#ahead.delete(next.seq);
      this.#append(next, next.seq);
      taken.push(next);
    }
    for (const seq of this.#ahead.keys()) if (seq <= this.lastSeq) this.#ahead.delete(seq);
    return taken;
  }
}
