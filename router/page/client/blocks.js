// Whom this user has blocked. Who has blocked this user is not told.

import { patiently, report } from "./patience.js";

const PAGE = 500;
/** More are not asked for: what is sent to them is refused all the same. */
const PAGES_MAX = 20;

export class Blocks {
  #connection;
  #changed;
  #blocked = new Set();

  constructor({ connection, changed }) {
    this.#connection = connection;
    this.#changed = changed;
  }

  has(userId) {
    return this.#blocked.has(userId);
  }

  apply({ user_id: userId, blocked }) {
    if (blocked) this.#blocked.add(userId);
    else this.#blocked.delete(userId);
    this.#changed();
  }

  /** Rejects with the command's error. */
  async set(userId, blocked) {
    await patiently(() => this.#connection.request(blocked ? "block" : "unblock", { user_id: userId }));
    this.apply({ user_id: userId, blocked });
  }

  async welcomed() {
    const all = new Set();
    try {
      let after;
      for (let pages = 0; pages < PAGES_MAX; pages++) {
        const page = await patiently(() => this.#connection.request("block:list", { after, limit: PAGE }));
        for (const id of page.user_ids) all.add(id);
        if (!page.has_more) break;
        after = page.user_ids.at(-1);
      }
      this.#blocked = all;
      this.#changed();
    } catch (error) {
      report("block:list", error);
    }
  }
}
