// Tells the server what arrived and what was seen, a few times a second at most.

import { Watermarks } from "../model/watermarks.js";
import { report } from "./patience.js";

const INTERVAL_MS = 400;
const COMMANDS_AT_ONCE = 4;
const RETRY_MS = 2_000;

export class Marker {
  #connection;
  #marks = new Watermarks();
  #timer = null;

  constructor({ connection }) {
    this.#connection = connection;
  }

  /** Something of another's arrived here. */
  delivered(conversation, seq) {
    // Nobody is told of it in a large group.
    if (!conversation.isMember || conversation.isNotes || conversation.kind === "large_group") return;
    this.#marks.delivered(conversation.id, seq);
    this.#arm(INTERVAL_MS);
  }

  read(conversation, seq) {
    if (!conversation.isMember) return;
    this.#marks.read(conversation.id, seq);
    this.#arm(INTERVAL_MS);
  }

  known(conversationId, readSeq) {
    this.#marks.known(conversationId, { readSeq });
  }

  welcomed() {
    this.#arm(INTERVAL_MS);
  }

  #arm(delayMs) {
    this.#timer ??= setTimeout(() => this.#flush(), delayMs);
  }

  async #flush() {
    // Without a connection it waits: `welcomed` begins anew.
    const commands = this.#connection.isOnline ? this.#marks.due(COMMANDS_AT_ONCE) : [];
    const results = await Promise.all(commands.map((command) => this.#tell(command)));
    this.#timer = null;
    if (commands.length > 0) this.#arm(results.every(Boolean) ? INTERVAL_MS : RETRY_MS);
  }

  async #tell({ type, data }) {
    try {
      const marked = await this.#connection.request(type, data);
      this.#marks.known(data.conversation_id, { deliveredSeq: marked.delivered_seq, readSeq: marked.read_seq });
      return true;
    } catch (error) {
      if (error.retryable) return false;
      this.#marks.forget(data.conversation_id);
      if (error.code !== "not_found") report(type, error);
      return true;
    }
  }
}
