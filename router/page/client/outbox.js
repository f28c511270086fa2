// Commands that make an event and are not acknowledged yet: messages, edits, deletions, reactions, changes of groups.
// They are in localStorage, one key each, so that neither a reload nor a second window of the same user loses them. Each
// keeps its `temp_id` and its payload over every retry: that makes a retry harmless.
//
// Nothing is here that the log shows: what was acknowledged goes when its event comes into view.

import { newUlid } from "../model/ids.js";

const PREFIX = "tertulia.outbox";
export const OUTBOX_MAX = 500;

export class Outbox {
  #prefix;
  #storage;
  /** In the order of making: `{ conversationId, createdAtMs, type, data, state: "pending" | "sent" | "failed", … }`. */
  items = [];

  constructor(userId, storage = localStorage) {
    this.#prefix = `${PREFIX}.${userId}.`;
    this.#storage = storage;
    for (const key of Object.keys(storage)
      .filter((key) => key.startsWith(this.#prefix))
      .sort()) {
      try {
        this.items.push({ type: "dm:send", ...JSON.parse(storage.getItem(key)), key });
      } catch {
        storage.removeItem(key);
      }
    }
  }

  get isFull() {
    return this.items.length >= OUTBOX_MAX;
  }

  of(conversationId) {
    return this.items.filter((item) => item.conversationId === conversationId);
  }

  /** The one to send next: while it is under way, nothing newer of the conversation is. */
  next(conversationId) {
    return this.items.find((item) => item.conversationId === conversationId && item.state === "pending") ?? null;
  }

  /** `fields`: the command's data without `temp_id`. */
  add(conversationId, type, fields) {
    const createdAtMs = Date.now();
    // Ids of one millisecond have no order: the key must.
    const order = String(Math.max(createdAtMs * 1000, this.#lastOrder() + 1)).padStart(17, "0");
    const tempId = newUlid(createdAtMs);
    const data = { ...fields, temp_id: tempId };
    const item = {
      conversationId,
      createdAtMs,
      type,
      data,
      state: "pending",
      key: `${this.#prefix}${order}.${tempId}`,
    };
    this.items.push(item);
    this.#save(item);
    return item;
  }

  /** Refused for good: kept to be shown. */
  fail(item, reason) {
    item.state = "failed";
    item.reason = reason;
    this.#save(item);
  }

  /** What was refused for good is tried as something new, with a `temp_id` of its own. */
  retry(item) {
    this.remove(item.data.temp_id);
    return this.add(item.conversationId, item.type, item.data);
  }

  /** Acknowledged as this `seq`: no longer stored, but shown until the log reaches it. */
  settle(item, seq) {
    item.state = "sent";
    item.seq = seq;
    this.#storage.removeItem(item.key);
  }

  dropSettled(conversationId, upToSeq) {
    const isOver = (item) => item.conversationId === conversationId && item.state === "sent" && item.seq <= upToSeq;
    this.items = this.items.filter((item) => !isOver(item));
  }

  remove(tempId) {
    const index = this.items.findIndex((item) => item.data.temp_id === tempId);
    if (index < 0) return null;
    const [item] = this.items.splice(index, 1);
    this.#storage.removeItem(item.key);
    return item;
  }

  #lastOrder() {
    return Math.max(0, ...this.items.map((item) => Number(item.key.slice(this.#prefix.length).split(".")[0])));
  }

  #save({ key, ...item }) {
    try {
      this.#storage.setItem(key, JSON.stringify(item));
    } catch (error) {
      // Full or forbidden storage costs the safety of a reload, not the message.
      console.warn("the message is kept in memory only:", error.name);
    }
  }
}
