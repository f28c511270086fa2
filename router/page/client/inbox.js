// Keeps the rows of the mailbox: asks `sync` for what changed, page by page. `rev` is taken from its pages alone, after
// their rows: what is not received is not skipped.

import { patiently, report } from "./patience.js";

const PAGE = 200;

export class Inbox {
  #connection;
  #callbacks;
  #rev = 0;
  #syncing = false;
  #again = false;
  /** Unread messages over all conversations, as the last page said. */
  unreadTotal = 0;
  /** Whether all rows are here. */
  isComplete = false;

  /** Callbacks: `row(row)`, `reset()`: forget all rows, `page()` after each, `done()` after the last. */
  constructor({ connection, ...callbacks }) {
    this.#connection = connection;
    this.#callbacks = callbacks;
  }

  /** For `hello`: absent on a first start. */
  get rev() {
    return this.#rev || undefined;
  }

  welcomed({ rev, in_large_group: inLargeGroup }) {
    // Messages of large groups do not move `rev`: equal says nothing about them.
    if (this.#rev !== rev || this.#rev === 0 || inLargeGroup) this.sync();
  }

  async sync() {
    this.#again = this.#syncing;
    if (this.#syncing) return;
    this.#syncing = true;
    try {
      do {
        this.#again = false;
        await this.#allPages();
      } while (this.#again);
      this.isComplete = true;
      this.#callbacks.done();
    } catch (error) {
      report("sync", error);
    } finally {
      this.#syncing = false;
    }
  }

  async #allPages() {
    for (let more = true; more; ) {
      const query = { rev: this.#rev, limit: PAGE };
      const page = await patiently(() => this.#connection.request("sync", query));
      if (page.reset) {
        if (query.rev === 0) throw new Error("the server refuses to sync from 0");
        this.#callbacks.reset();
        this.#rev = 0;
        continue;
      }
      for (const row of page.conversations) this.#callbacks.row(row);
      this.#rev = page.rev;
      this.unreadTotal = page.unread_total;
      more = page.has_more;
      this.#callbacks.page();
    }
  }
}
