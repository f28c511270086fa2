// What is still to be told of what arrived and what was seen: per conversation the highest `seq` of each, so that many
// messages cost one command. Pure: who sends, and when, is elsewhere.

export class Watermarks {
  /** Conversation id → `{ deliveredSeq, readSeq }`: wanted, and told. */
  #wanted = new Map();
  #told = new Map();

  delivered(conversationId, seq) {
    const mark = entry(this.#wanted, conversationId);
    mark.deliveredSeq = Math.max(mark.deliveredSeq, seq);
  }

  read(conversationId, seq) {
    const mark = entry(this.#wanted, conversationId);
    mark.readSeq = Math.max(mark.readSeq, seq);
  }

  /** The server knows of these already. */
  known(conversationId, { deliveredSeq = 0, readSeq = 0 }) {
    const mark = entry(this.#told, conversationId);
    mark.readSeq = Math.max(mark.readSeq, readSeq);
    mark.deliveredSeq = Math.max(mark.deliveredSeq, deliveredSeq, readSeq);
  }

  /** Up to `count` commands that tell what is not told yet, as `{ type, data }`. Reading implies delivery. */
  due(count) {
    const commands = [];
    for (const [conversationId, { deliveredSeq, readSeq }] of this.#wanted) {
      if (commands.length === count) break;
      const told = entry(this.#told, conversationId);
      const mark = (type, seq) => commands.push({ type, data: { conversation_id: conversationId, seq } });
      if (readSeq > told.readSeq && readSeq >= deliveredSeq) mark("dm:read", readSeq);
      else if (deliveredSeq > told.deliveredSeq) mark("dm:delivered", deliveredSeq);
      else if (readSeq > told.readSeq) mark("dm:read", readSeq);
      else this.#wanted.delete(conversationId);
    }
    return commands;
  }

  /** The conversation is not ours to mark. */
  forget(conversationId) {
    this.#wanted.delete(conversationId);
  }
}

function entry(map, conversationId) {
  let mark = map.get(conversationId);
  if (!mark) map.set(conversationId, (mark = { deliveredSeq: 0, readSeq: 0 }));
  return mark;
}
