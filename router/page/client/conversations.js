// All conversations of a user, by id.

import { Conversation } from "../model/conversation.js";

export class Conversations {
  #me;
  #all = new Map();

  constructor(me) {
    this.#me = me;
  }

  get all() {
    return [...this.#all.values()];
  }

  get(id) {
    return this.#all.get(id) ?? null;
  }

  ensure(id) {
    let conversation = this.#all.get(id);
    if (!conversation) this.#all.set(id, (conversation = new Conversation(id, this.#me)));
    return conversation;
  }

  /** One that never came into being. */
  forget(id) {
    this.#all.delete(id);
  }

  get unread() {
    return this.all.reduce((sum, conversation) => sum + conversation.unread, 0);
  }

  /** What is in the outbox tells of conversations too. */
  restore({ conversationId, type, data }) {
    const conversation = this.ensure(conversationId);
    if (data.to) conversation.setPeer(data.to);
    if (type === "conversation:create") Object.assign(conversation, { kind: "group", name: data.name });
  }
}
