// Names of users: remembered by this browser, and asked for once on each connection, for people change them.

import { StoredMap } from "./memory.js";
import { patiently, report } from "./patience.js";

const PROFILES_PER_QUERY = 100;

export class Names {
  #connection;
  #changed;
  #known;
  #wanted = new Set();
  /** Asked on this connection, answered or not: who is unknown now is not asked for again and again. */
  #asked = new Set();

  constructor(userId, { connection, changed }) {
    this.#connection = connection;
    this.#changed = changed;
    this.#known = new StoredMap(`tertulia.names.${userId}`);
  }

  of(userId) {
    this.#want(userId);
    return this.#known.get(userId) ?? `user …${userId.slice(-4).toLowerCase()}`;
  }

  /** A name that was come by in another way: better than none. */
  suggest(userId, name) {
    if (name && !this.#known.get(userId)) this.#known.set(userId, name);
  }

  /** Something came from a user: if nobody knew a name before, now somebody may. */
  heardFrom(userId) {
    if (!this.#known.get(userId)) this.#asked.delete(userId);
  }

  welcomed() {
    for (const id of this.#asked) this.#wanted.add(id);
    this.#asked.clear();
    this.#ask();
  }

  #want(userId) {
    if (this.#wanted.has(userId) || this.#asked.has(userId)) return;
    this.#wanted.add(userId);
    queueMicrotask(() => this.#ask());
  }

  async #ask() {
    const ids = [...this.#wanted].slice(0, PROFILES_PER_QUERY);
    if (ids.length === 0 || !this.#connection.isOnline) return;
    for (const id of ids) {
      this.#wanted.delete(id);
      this.#asked.add(id);
    }
    try {
      const { users } = await patiently(() => this.#connection.request("profile:get", { user_ids: ids }));
      for (const { user_id: id, name } of users) if (name) this.#known.set(id, name);
    } catch (error) {
      report("profile:get", error);
    }
    this.#changed();
    this.#ask();
  }
}
