// What an item of the timeline says in a word or two: for the list, for a quote, for a screen reader.

import { groupText, names } from "../model/group-text.js";

const PREVIEW_CHARACTERS_MAX = 160;

/** The text of a message's item or event, on one line. */
export function messageText(message) {
  if (message.isDeleted || message.deleted_at_ms) return "Message deleted";
  if (message.isEncrypted || message.ciphertext) return "Encrypted message";
  const text = message.text ?? message.content;
  if (text) return text.replace(/\s+/g, " ").slice(0, PREVIEW_CHARACTERS_MAX);
  const [attachment] = message.attachments ?? [];
  return attachment ? `File: ${attachment.name}` : "";
}

/** For the list. */
export function previewText(item, conversation, client) {
  if (!item) return "";
  if (item.type === "line") return lineText(item.event, client);
  if (item.type === "change") return changeText(item.outgoing, client);
  const sender = conversation.isGroup && !item.mine ? `${client.nameOf(item.sender)}: ` : "";
  return sender + messageText(item);
}

/** Of what happened to a group. */
export function lineText(event, client) {
  return groupText(event, { me: client.user.user_id, nameOf: (id) => client.nameOf(id) });
}

/** Of a change of a group that is on its way. */
export function changeText({ type, data }, client) {
  const who = () => names(data.user_ids ?? [data.user_id], client.user.user_id, (id) => client.nameOf(id));
  switch (type) {
    case "conversation:create":
      return `Creating the group “${data.name}”…`;
    case "conversation:rename":
      return `Naming the group “${data.name}”…`;
    case "conversation:add":
      return `Adding ${who()}…`;
    case "conversation:remove":
      return `Removing ${who()}…`;
    case "conversation:role":
      return `Changing the role of ${who()}…`;
    case "conversation:leave":
      return "Leaving the group…";
    default:
      return "Sending…";
  }
}

export function typingText(userIds, conversation, client) {
  if (userIds.length === 0) return "";
  if (!conversation.isGroup) return "typing…";
  const who = names(userIds, client.user.user_id, (id) => client.nameOf(id));
  return `${who} ${userIds.length > 1 ? "are" : "is"} typing…`;
}
