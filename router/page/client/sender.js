// Sends what is in the outbox: of each conversation one command at a time, the oldest first, so that a retry cannot
// overtake what was written later.

import { refusalText } from "../model/refusals.js";
import { patiently, report } from "./patience.js";

export class Sender {
  #connection;
  #outbox;
  #acked;
  #changed;
  #sending = new Set();

  /** `acked(event)`: what was committed. */
  constructor({ connection, outbox, acked, changed }) {
    this.#connection = connection;
    this.#outbox = outbox;
    this.#acked = acked;
    this.#changed = changed;
  }

  /** What was written before the connection went goes out before anything newer. */
  flushAll() {
    for (const id of new Set(this.#outbox.items.map((item) => item.conversationId))) this.flush(id);
  }

  async flush(conversationId) {
    if (this.#sending.has(conversationId) || !this.#connection.isOnline) return;
    this.#sending.add(conversationId);
    try {
      for (let item; (item = this.#outbox.next(conversationId));) await this.#send(item);
    } catch (error) {
      // The connection went: `welcome` flushes again.
      report("send", error);
    } finally {
      this.#sending.delete(conversationId);
      this.#changed();
    }
  }

  async #send(item) {
    try {
      const ack = await patiently(() => this.#connection.request(item.type, item.data));
      this.#outbox.settle(item, ack.message.seq);
      this.#acked(ack.message);
    } catch (error) {
      if (error.retryable !== false) throw error;
      // It is so already: all that was wanted.
      if (error.code === "no_change") this.#outbox.remove(item.data.temp_id);
      else this.#outbox.fail(item, refusalText(error));
    }
    this.#changed();
  }
}
