// What a conversation looks like, in order: lines between days, messages, lines about the group, and what waits in the
// outbox, as if it had happened already. Pure: the view only draws it.

import { isGroupEvent } from "./conversation.js";
import { changeReactions } from "./revise.js";

/** Messages of one sender this close together form a group. */
const GROUP_MS = 5 * 60_000;

/**
 * `outgoing`: the conversation's items of the outbox; `dayOf(ms)`: a number that is the same for times of one day.
 * Items are of type `day`, `unread`, `line`, `change` (an outgoing change of the group) or `message`.
 */
export function timeline(conversation, outgoing, { me, dayOf }) {
  const later = outgoing.filter(
    (item) => item.type === "dm:edit" || item.type === "dm:delete" || item.type === "dm:react",
  );
  const entries = [];
  for (const event of conversation.log.events) {
    if (event.kind === "message") entries.push(messageItem(event, conversation, later, me));
    else if (isGroupEvent(event)) entries.push({ type: "line", key: event.id, event, atMs: event.created_at_ms });
  }
  for (const item of outgoing) if (!later.includes(item)) entries.push(outgoingItem(item, conversation, me));
  return withSeparators(entries, conversation.unreadFromNo, me, dayOf);
}

/** What the list shows of a conversation: its newest message or line, as an item of the timeline; or `null`. */
export function newestItem(conversation, outgoing, me) {
  const waiting = outgoing.filter((item) => item.type === "dm:send" || item.type === "conversation:create").at(-1);
  if (waiting) return outgoingItem(waiting, conversation, me);
  const event = conversation.log.events.findLast(isShown);
  if (!event) return null;
  if (event.kind === "message") return messageItem(event, conversation, [], me);
  return { type: "line", event, atMs: event.created_at_ms };
}

/** Whether an event has a place of its own; others show by what they change. */
export function isShown(event) {
  return event.kind === "message" || isGroupEvent(event);
}

/** The newest message of one's own that may be edited. */
export function lastEditable(conversation, me) {
  return conversation.log.events.findLast((event) => isEditable(event, me)) ?? null;
}

export function isEditable(event, me) {
  return event.kind === "message" && event.sender_id === me && event.content !== undefined;
}

function messageItem(event, conversation, later, me) {
  const mine = event.sender_id === me;
  const item = {
    type: "message",
    key: mine ? `mine-${event.temp_id}` : event.id,
    event,
    sender: event.sender_id,
    mine,
    text: event.content,
    atMs: event.created_at_ms,
    seq: event.seq,
    state: "sent",
    progress: mine ? conversation.progress(event.seq) : null,
    isDeleted: event.deleted_at_ms !== undefined,
    isEdited: event.edited_at_ms !== undefined,
    isEncrypted: event.ciphertext !== undefined,
    attachments: event.attachments ?? [],
    reactions: event.reactions ?? [],
    quote: quoteOf(event.reply_to, conversation.log),
    failures: [],
  };
  for (const change of later) if (change.data.message_id === event.id) foresee(item, change);
  return item;
}

/** Shows what an outgoing edit, deletion or reaction will make of a message. */
function foresee(item, change) {
  if (change.state === "failed") return item.failures.push(change);
  if (change.type === "dm:react") {
    const { emoji, change: way } = change.data;
    const there = item.reactions.some((reaction) => reaction.emoji === emoji && reaction.mine);
    if (there === (way === "remove")) item.reactions = changeReactions(item.reactions, emoji, way, true);
    return;
  }
  if (change.type === "dm:delete")
    Object.assign(item, { isDeleted: true, reactions: [], quote: null, attachments: [] });
  else Object.assign(item, { text: change.data.content, isEdited: true });
  if (change.state === "pending") item.progress = "pending";
}

function outgoingItem(item, { log }, me) {
  const { data, type, state, createdAtMs: atMs } = item;
  if (type !== "dm:send") return { type: "change", key: data.temp_id, atMs, state, outgoing: item };
  return {
    type: "message",
    key: `mine-${data.temp_id}`,
    event: null,
    sender: me,
    mine: true,
    text: data.content,
    atMs,
    state,
    progress: state,
    isDeleted: false,
    isEdited: false,
    isEncrypted: false,
    attachments: [],
    reactions: [],
    quote: quoteOf(data.reply_to, log),
    failures: state === "failed" ? [item] : [],
  };
}

/** The message that another one answers; without an event where the window does not have it. */
function quoteOf(id, log) {
  if (id === undefined) return null;
  return { id, event: log.find(id) };
}

function withSeparators(entries, unreadFromNo, me, dayOf) {
  const items = [];
  let before = null;
  let unreadShown = unreadFromNo === null;
  for (const entry of entries) {
    const day = dayOf(entry.atMs);
    const isNewDay = !before || dayOf(before.atMs) !== day;
    // A clock may go back: the line is keyed by its place too.
    if (isNewDay) items.push({ type: "day", key: `day-${day}-${entry.key}`, atMs: entry.atMs });
    const isUnread = entry.type === "message" && entry.event && !entry.mine && entry.event.message_no > unreadFromNo;
    const startsUnread = isUnread && !unreadShown;
    if (startsUnread) {
      unreadShown = true;
      items.push({ type: "unread", key: "unread", atMs: entry.atMs });
    }
    const joins = !isNewDay && !startsUnread && joined(before, entry);
    if (joins) before.endsGroup = false;
    before = entry.type === "message" ? { ...entry, startsGroup: !joins, endsGroup: true } : entry;
    items.push(before);
  }
  return items;
}

function joined(before, entry) {
  if (before.type !== "message" || entry.type !== "message" || before.sender !== entry.sender) return false;
  return entry.atMs - before.atMs < GROUP_MS;
}
