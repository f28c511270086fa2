// Who is online, of the users that one has a direct conversation with: others do not share it. A session's subscriptions
// end with it, and are few: the latest conversations have them.

import { patiently, report } from "./patience.js";

/** Below the session's limit of 200: one that is opened still finds room. */
const WATCHED_MAX = 150;

export class Presence {
  #connection;
  #changed;
  #states = new Map();
  #subscribed = new Set();

  constructor({ connection, changed }) {
    this.#connection = connection;
    this.#changed = changed;
  }

  /** `{ online, last_seen_ms }`, or `null` where nothing is known. */
  of(userId) {
    return this.#connection.isOnline ? (this.#states.get(userId) ?? null) : null;
  }

  apply(state) {
    this.#states.set(state.user_id, state);
  }

  welcomed() {
    this.#subscribed.clear();
    this.#states.clear();
  }

  /** Watches these users, the most important first, and nobody else. */
  watch(userIds) {
    const wanted = new Set(userIds.slice(0, WATCHED_MAX));
    const fresh = [...wanted].filter((id) => !this.#subscribed.has(id));
    const gone = [...this.#subscribed].filter((id) => !wanted.has(id));
    if (gone.length > 0) this.#unsubscribe(gone);
    if (fresh.length > 0) this.#subscribe(fresh);
  }

  /** Asks again: presence is the first thing to be dropped under load. */
  refresh(userId) {
    if (this.#subscribed.has(userId)) this.#subscribe([userId]);
  }

  async #subscribe(userIds) {
    if (!this.#connection.isOnline) return;
    for (const id of userIds) this.#subscribed.add(id);
    try {
      const { users } = await patiently(() => this.#connection.request("presence:subscribe", { user_ids: userIds }));
      for (const state of users) this.apply(state);
      this.#changed();
    } catch (error) {
      report("presence:subscribe", error);
    }
  }

  async #unsubscribe(userIds) {
    for (const id of userIds) {
      this.#subscribed.delete(id);
      this.#states.delete(id);
    }
    await this.#connection
      .request("presence:unsubscribe", { user_ids: userIds })
      .catch((error) => report("presence", error));
  }
}
