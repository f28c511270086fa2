// Messages that are not acknowledged yet. They are in localStorage, one key each, so that neither a reload nor a second
// window of the same user loses them. Each keeps its `temp_id` and its payload over every retry: that makes a retry
// harmless.
//
// Nothing is here that the log shows: an acknowledged message goes when its event comes into view.

import { newUlid } from "./ids.js";

const PREFIX = "tertulia.outbox";
export const OUTBOX_MAX = 500;

export class Outbox {
  #prefix;
  /** In the order of writing: `{ conversationId, createdAtMs, data, state: "pending" | "sent" | "failed", … }`. */
  items = [];

  constructor(userId) {
    this.#prefix = `${PREFIX}.${userId}.`;
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix)).sort()) {
      try {
        this.items.push({ ...JSON.parse(localStorage.getItem(key)), key });
      } catch {
        localStorage.removeItem(key);
      }
    }
  }

  get isFull() {
    return this.items.length >= OUTBOX_MAX;
  }

  of(conversationId) {
    return this.items.filter((item) => item.conversationId === conversationId);
  }

  /** `target` is `{ to }` or `{ conversation_id }`. */
  add(conversationId, target, content) {
    const createdAtMs = Date.now();
    // Ids of one millisecond have no order: the key must.
    const order = String(Math.max(createdAtMs * 1000, this.#lastOrder() + 1)).padStart(17, "0");
    const tempId = newUlid(createdAtMs);
    const data = { ...target, temp_id: tempId, content };
    const item = { conversationId, createdAtMs, data, state: "pending", key: `${this.#prefix}${order}.${tempId}` };
    this.items.push(item);
    this.#save(item);
    return item;
  }

  fail(item, reason) {
    item.state = "failed";
    item.reason = reason;
    this.#save(item);
  }

  retry(item) {
    item.state = "pending";
    delete item.reason;
    this.#save(item);
  }

  /** Acknowledged as this `seq`: no longer stored, but shown until the log reaches it. */
  settle(item, seq) {
    item.state = "sent";
    item.seq = seq;
    localStorage.removeItem(item.key);
  }

  dropSettled(conversationId, upToSeq) {
    const isOver = (item) => item.conversationId === conversationId && item.state === "sent" && item.seq <= upToSeq;
    this.items = this.items.filter((item) => !isOver(item));
  }

  remove(tempId) {
    const index = this.items.findIndex((item) => item.data.temp_id === tempId);
    if (index < 0) return null;
    const [item] = this.items.splice(index, 1);
    localStorage.removeItem(item.key);
    return item;
  }

  #lastOrder() {
    return Math.max(0, ...this.items.map((item) => Number(item.key.slice(this.#prefix.length).split(".")[0])));
  }

  #save({ key, ...item }) {
    try {
      localStorage.setItem(key, JSON.stringify(item));
    } catch (error) {
      // Full or forbidden storage costs the safety of a reload, not the message.
      console.warn("the message is kept in memory only:", error.name);
    }
  }
}
