// How far one's own message has come. Pure.

/**
 * `sent`, `delivered` or `read`: in a direct conversation by the other user; in a group by the farthest of the others,
 * for that is what the inbox tells.
 */
export function progressOf(seq, { deliveredSeq, readSeq }) {
  if (seq <= readSeq) return "read";
  return seq <= deliveredSeq ? "delivered" : "sent";
}

/** Ids of the other members who have read an event, as far as members are known. */
export function readersOf(event, members, me) {
  const others = [...members.values()].filter(({ user_id: id }) => id !== me && id !== event.sender_id);
  return others
    .filter((member) => member.joined_seq <= event.seq && member.read_seq >= event.seq)
    .map((it) => it.user_id);
}
