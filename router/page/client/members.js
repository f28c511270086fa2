// Members of a group that somebody looks at. From then on its events keep them current.

import { patiently, report } from "./patience.js";

const PAGE = 500;
/** More are not shown: a page is no place to read a hundred thousand names. */
const PAGES_MAX = 2;

export class Members {
  #connection;
  #changed;
  #asking = new Set();

  constructor({ connection, changed }) {
    this.#connection = connection;
    this.#changed = changed;
  }

  async load(conversation) {
    const isWanted = conversation.isGroup && conversation.exists && conversation.isMember && !conversation.members;
    if (!isWanted || this.#asking.has(conversation.id) || !this.#connection.isOnline) return;
    this.#asking.add(conversation.id);
    try {
      // Events after this are applied again: it does no harm.
      const asOf = conversation.log.lastSeq;
      const query = { conversation_id: conversation.id };
      const group = await patiently(() => this.#connection.request("conversation:get", query));
      const { members, hasMore } = await this.#pages(query);
      conversation.memberCount = hasMore ? group.members : members.length;
      conversation.role = group.role;
      conversation.setMembers(members, hasMore, asOf);
    } catch (error) {
      if (error.code !== "not_found") report("conversation:members", error);
    } finally {
      this.#asking.delete(conversation.id);
      this.#changed();
    }
  }

  async #pages(query) {
    const members = [];
    for (let pages = 0; pages < PAGES_MAX; pages++) {
      const after = members.at(-1)?.user_id;
      const page = await patiently(() =>
        this.#connection.request("conversation:members", { ...query, after, limit: PAGE }),
      );
      members.push(...page.members);
      if (!page.has_more) return { members, hasMore: false };
    }
    return { members, hasMore: true };
  }
}
