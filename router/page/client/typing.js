// Who is typing where, and telling that oneself is.

/** It is shown for 6 s: said again well before. */
const REPEAT_MS = 3_000;
/** More often it is dropped. */
const PAUSE_MS = 1_000;
const EXPIRES_MAX_MS = 10_000;

export class Typing {
  #connection;
  #changed;
  /** Conversation id → user id → the timer that ends it. */
  #others = new Map();
  /** Conversation id → when it was last said; of what is not over. */
  #said = new Map();
  #lastSaidMs = 0;

  constructor({ connection, changed }) {
    this.#connection = connection;
    this.#changed = changed;
  }

  /** Ids of those who are typing. */
  in(conversationId) {
    return [...(this.#others.get(conversationId)?.keys() ?? [])];
  }

  apply({ conversation_id: conversationId, user_id: userId, typing, expires_in_ms: expiresInMs }) {
    this.ended(conversationId, userId);
    if (!typing) return;
    if (!this.#others.has(conversationId)) this.#others.set(conversationId, new Map());
    const end = () => {
      this.ended(conversationId, userId);
      this.#changed();
    };
    this.#others.get(conversationId).set(userId, setTimeout(end, Math.min(expiresInMs, EXPIRES_MAX_MS)));
  }

  /** A message of a user ends it too. */
  ended(conversationId, userId) {
    const users = this.#others.get(conversationId);
    clearTimeout(users?.get(userId));
    users?.delete(userId);
    if (users?.size === 0) this.#others.delete(conversationId);
  }

  /** The user's text has changed. */
  tell(conversation, isTyping) {
    if (!conversation.exists || !conversation.isMember || conversation.isNotes) return;
    if (conversation.kind === "large_group") return;
    const saidMs = this.#said.get(conversation.id);
    if (isTyping && Date.now() - this.#lastSaidMs < PAUSE_MS) return;
    if (isTyping ? saidMs !== undefined && Date.now() - saidMs < REPEAT_MS : saidMs === undefined) return;
    if (isTyping) this.#said.set(conversation.id, Date.now());
    else this.#said.delete(conversation.id);
    this.#say(conversation.id, isTyping);
  }

  /** A message was sent: it tells by itself. */
  sent(conversation) {
    this.#said.delete(conversation.id);
  }

  #say(conversationId, typing) {
    this.#lastSaidMs = Date.now();
    // Nobody misses one that is lost.
    this.#connection.request("dm:typing", { conversation_id: conversationId, typing }).catch(() => {});
  }
}
