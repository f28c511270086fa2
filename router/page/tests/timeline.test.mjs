import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../model/conversation.js";
import { lastEditable, newestItem, timeline } from "../model/timeline.js";
import { ANA, CONVERSATION, ME, MINUTE_MS, deletion, edit, group, message, reaction } from "./support/events.mjs";

const DAY_MS = 24 * 60 * MINUTE_MS;
const options = { me: ME, dayOf: (ms) => Math.floor(ms / DAY_MS) };

function holding(...events) {
  const it = new Conversation(CONVERSATION, ME);
  for (const event of events) it.log.add(event);
  return it;
}

const outgoing = (type, data, fields = {}) => ({
  type,
  state: "pending",
  createdAtMs: 10 * MINUTE_MS,
  data: { conversation_id: CONVERSATION, temp_id: `o-${type}`, ...data },
  ...fields,
});

const types = (items) => items.map((item) => item.type);
const messages = (items) => items.filter((item) => item.type === "message");

test("only messages are bubbles, and what happened to the group is a line", () => {
  const it = holding(
    group(1, "created", { name: "g", members: [] }),
    message(2),
    edit(3, 2, "new"),
    reaction(4, 2, "👍"),
    message(5),
    deletion(6, 5),
  );
  const items = timeline(it, [], options);
  assert.deepEqual(types(items), ["day", "line", "message", "message"]);
  const [first, second] = messages(items);
  assert.equal(first.text, "new");
  assert.ok(first.isEdited && second.isDeleted);
});

test("days and senders part messages; a new day begins with a line", () => {
  const it = holding(
    message(1),
    message(2),
    message(3, { sender_id: ME }),
    message(4, { sender_id: ME, created_at_ms: DAY_MS }),
  );
  const items = timeline(it, [], options);
  assert.deepEqual(types(items), ["day", "message", "message", "message", "day", "message"]);
  assert.deepEqual(
    messages(items).map((item) => [item.startsGroup, item.endsGroup]),
    [
      [true, false],
      [false, true],
      [true, true],
      [true, true],
    ],
  );
});

test("what waits in the outbox is shown as if it had happened", () => {
  const it = holding(message(1, { sender_id: ME }), message(2));
  const items = timeline(
    it,
    [
      outgoing("dm:edit", { message_id: "E1", content: "better" }),
      outgoing("dm:react", { message_id: "E2", emoji: "👍" }),
      outgoing("dm:send", { content: "later", reply_to: "E2" }),
      outgoing("conversation:rename", { name: "n" }),
    ],
    options,
  );
  assert.deepEqual(types(items), ["day", "message", "message", "message", "change"]);
  const [edited, liked, sent] = messages(items);
  assert.deepEqual([edited.text, edited.progress], ["better", "pending"]);
  assert.deepEqual(liked.reactions, [{ emoji: "👍", count: 1, mine: true }]);
  assert.equal(sent.state, "pending");
  assert.equal(sent.quote.event.id, "E2");
});

test("a change that failed is not shown as done, but can be tried again", () => {
  const it = holding(message(1, { sender_id: ME }));
  const failed = outgoing("dm:edit", { message_id: "E1", content: "better" }, { state: "failed", reason: "no" });
  const [item] = messages(timeline(it, [failed], options));
  assert.equal(item.text, "text 1");
  assert.deepEqual(item.failures, [failed]);
});

test("a reaction that has arrived is not counted twice while its item is still there", () => {
  const it = holding(message(1), reaction(2, 1, "👍", "add", { sender_id: ME }));
  const [item] = messages(timeline(it, [outgoing("dm:react", { message_id: "E1", emoji: "👍" })], options));
  assert.equal(item.reactions[0].count, 1);
});

test("unread messages begin with a line, once", () => {
  const it = holding(message(1), message(2), message(3, { sender_id: ME }), message(4));
  it.unreadFromNo = 1;
  assert.deepEqual(types(timeline(it, [], options)), ["day", "message", "unread", "message", "message", "message"]);
});

test("the list shows the newest message or line, never a reaction", () => {
  const it = holding(message(1), message(2), reaction(3, 2, "👍"));
  assert.equal(newestItem(it, [], ME).text, "text 2");
  assert.equal(newestItem(it, [outgoing("dm:send", { content: "mine" })], ME).text, "mine");
  assert.equal(newestItem(holding(group(1, "renamed", { name: "g" })), [], ME).type, "line");
  assert.equal(newestItem(holding(), [], ME), null);
});

test("the last message that can be edited is one's own, and not deleted", () => {
  const own = { sender_id: ME };
  const it = holding(message(1, own), message(2, own), message(3), deletion(4, 2, own));
  assert.equal(lastEditable(it, ME).id, "E1");
  assert.equal(lastEditable(holding(message(1, { sender_id: ANA })), ME), null);
});
