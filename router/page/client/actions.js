// What a user does to a conversation, as commands for the outbox. Each returns whether there was room for it.

import { newUlid } from "../model/ids.js";
import { mentionsIn } from "../model/mentions.js";

export class Actions {
  #outbox;
  #ensure;
  #nameOf;
  #added;

  /** `ensure(id)` makes a conversation known; `added(conversation)`: something new is in the outbox. */
  constructor({ outbox, ensure, nameOf, added }) {
    this.#outbox = outbox;
    this.#ensure = ensure;
    this.#nameOf = nameOf;
    this.#added = added;
  }

  /** `replyTo`: the id of the message that this answers, or `null`. */
  write(conversation, content, replyTo = null) {
    // A direct conversation comes into being with its first message.
    const target = conversation.peerId ? { to: conversation.peerId } : { conversation_id: conversation.id };
    const data = { ...target, content };
    if (replyTo) data.reply_to = replyTo;
    Object.assign(data, this.#mentionsIn(conversation, content));
    return this.#add(conversation, "dm:send", data);
  }

  /** New text; what else the message says stays, and so is said again. */
  edit(conversation, message, content) {
    const { reply_to, attachments } = message;
    const kept = Object.fromEntries(Object.entries({ reply_to, attachments }).filter(([, value]) => value !== undefined));
    const mentions = this.#mentionsIn(conversation, content);
    return this.#about(conversation, message, "dm:edit", { content, ...kept, ...mentions });
  }

  erase(conversation, message) {
    return this.#about(conversation, message, "dm:delete", {});
  }

  /** `change`: `add` or `remove`. */
  react(conversation, message, emoji, change) {
    return this.#about(conversation, message, "dm:react", { emoji, change });
  }

  /** Returns the conversation, or `null` where there is no room. It can be written to at once: sends wait for it. */
  createGroup(name, userIds) {
    if (this.#outbox.isFull) return null;
    const conversation = this.#ensure(newUlid());
    Object.assign(conversation, { kind: "group", name, lastAtMs: Date.now() });
    this.#add(conversation, "conversation:create", { conversation_id: conversation.id, name, user_ids: userIds });
    return conversation;
  }

  rename(conversation, name) {
    return this.#change(conversation, "conversation:rename", { name });
  }

  addMembers(conversation, userIds) {
    return this.#change(conversation, "conversation:add", { user_ids: userIds });
  }

  removeMember(conversation, userId) {
    return this.#change(conversation, "conversation:remove", { user_ids: [userId] });
  }

  /** `role`: `member`, `admin` or `owner`. */
  setRole(conversation, userId, role) {
    return this.#change(conversation, "conversation:role", { user_id: userId, role });
  }

  leave(conversation) {
    return this.#change(conversation, "conversation:leave", {});
  }

  #mentionsIn(conversation, content) {
    const mentions = conversation.isGroup ? mentionsIn(content, conversation.members, this.#nameOf) : [];
    return mentions.length > 0 ? { mentions } : {};
  }

  #about(conversation, message, type, data) {
    return this.#change(conversation, type, { message_id: message.id, ...data });
  }

  #change(conversation, type, data) {
    return this.#add(conversation, type, { conversation_id: conversation.id, ...data });
  }

  #add(conversation, type, data) {
    if (this.#outbox.isFull) return false;
    this.#outbox.add(conversation.id, type, data);
    this.#added(conversation);
    return true;
  }
}
