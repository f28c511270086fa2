// What an edit, a deletion or a reaction makes of the message that it is about. Pure: a message goes in, a new one comes
// out.

const ENVELOPE = ["id", "conversation_id", "seq", "message_no", "kind", "sender_id", "created_at_ms", "temp_id"];
const CIPHER = ["ciphertext", "nonce", "tag", "key_version", "algorithm"];
/** What a message says: an edit takes the place of all of it. */
const CONTENT = ["content", ...CIPHER, "attachments", "mentions", "reply_to"];

/** The kinds of events that are about an earlier message. */
export function isRevision(event) {
  return event.kind === "edit" || event.kind === "delete" || event.kind === "reaction";
}

/** `me`: whose reactions are `mine`. */
export function revise(message, event, me) {
  if (event.kind === "edit") return edited(message, event);
  if (event.kind === "delete") return { ...pick(message, ENVELOPE), deleted_at_ms: event.created_at_ms };
  if (event.kind === "reaction") return reacted(message, event, event.sender_id === me);
  return message;
}

/** An event without what it said: what stays of an edit whose message was deleted. */
export function withoutContent(event) {
  return omit(event, CONTENT);
}

/** The reactions after one more, or one less, in the order in which the server gives them. */
export function changeReactions(reactions, emoji, change, isMine) {
  const before = reactions.find((reaction) => reaction.emoji === emoji) ?? { emoji, count: 0, mine: false };
  const count = before.count + (change === "remove" ? -1 : 1);
  const mine = isMine ? change !== "remove" : before.mine;
  const others = reactions.filter((reaction) => reaction.emoji !== emoji);
  if (count <= 0) return others;
  return [...others, { emoji, count, mine }].sort((a, b) => (a.emoji < b.emoji ? -1 : 1));
}

function edited(message, event) {
  // An edit without content is one whose message was deleted later: the deletion is still to come.
  const content = pick(event, CONTENT);
  if (message.deleted_at_ms || Object.keys(content).length === 0) return message;
  return { ...omit(message, CONTENT), ...content, edited_at_ms: event.created_at_ms };
}

function reacted(message, event, isMine) {
  if (message.deleted_at_ms) return message;
  const reactions = changeReactions(message.reactions ?? [], event.emoji, event.change, isMine);
  return { ...message, reactions };
}

function pick(event, names) {
  return Object.fromEntries(names.filter((name) => event[name] !== undefined).map((name) => [name, event[name]]));
}

function omit(event, names) {
  return Object.fromEntries(Object.entries(event).filter(([name]) => !names.includes(name)));
}
