// What arrives: rows and events, whatever way they came, and what they mean to each part.
//
// Rules it keeps (docs/PROTOCOL.md): the log is ordered by `seq` only; an event already held is dropped, a hole is
// filled from `history`; an own event with a pending `temp_id` is as good as its ack; a conversation that nobody knew is
// looked up in `sync`.

import { directConversationId } from "../model/ids.js";

export class Intake {
  #me;
  #parts;

  /** `me`: the user's id; `opened()`: the conversation on screen; the rest are the client's parts. */
  constructor({ me, ...parts }) {
    this.#me = me;
    this.#parts = parts;
  }

  /** A row of the mailbox. */
  row(row) {
    const { conversations, marker, opened } = this.#parts;
    const conversation = conversations.ensure(row.conversation_id);
    conversation.applyRow(row);
    marker.known(row.conversation_id, row.read_seq);
    if (conversation === opened()) this.look(conversation);
    // Nobody looks at it: its newest events say enough, the rest is fetched when it is opened.
    else if (conversation.log.hasGap) conversation.forgetEvents();
  }

  /** A live event: pushed, or acknowledged. */
  take(event) {
    const { conversations, history, names } = this.#parts;
    const conversation = conversations.ensure(event.conversation_id);
    if (!conversation.exists) this.#meet(conversation, event);
    names.heardFrom(event.sender_id);
    this.absorb(conversation, conversation.log.add(event));
    if (conversation.log.hasGap) history.repair(conversation);
  }

  /** Events that became the newest of a window. */
  absorb(conversation, events) {
    const { history, marker, members, opened, outbox, presence, typing } = this.#parts;
    const isNew = !conversation.exists && events.length > 0;
    let arrivedSeq = 0;
    for (const event of events) {
      conversation.applyEvent(event);
      const mine = event.sender_id === this.#me;
      if (mine) outbox.remove(event.temp_id);
      if (event.kind !== "message") continue;
      typing.ended(conversation.id, event.sender_id);
      if (!mine) arrivedSeq = event.seq;
    }
    outbox.dropSettled(conversation.id, conversation.log.lastSeq);
    if (arrivedSeq > conversation.readSeq) marker.delivered(conversation, arrivedSeq);
    if (events.length > 0) history.preview([conversation]);
    if (isNew && conversation === opened()) members.load(conversation);
    if (isNew && conversation.peerId) presence.refresh(conversation.peerId);
  }

  /** Fetches whatever somebody who looks at a conversation needs. */
  look(conversation) {
    const { history, members } = this.#parts;
    if (conversation.log.hasGap) history.repair(conversation);
    else history.fill(conversation);
    members.load(conversation);
  }

  #meet(conversation, event) {
    // Of the two users of a direct conversation the sender may be the other; if not, the row will tell.
    const isDirect = directConversationId(event.sender_id, this.#me) === event.conversation_id;
    if (isDirect && !conversation.peerId) conversation.setPeer(event.sender_id);
    this.#parts.inbox.sync();
  }
}
