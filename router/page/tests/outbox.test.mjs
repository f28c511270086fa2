import assert from "node:assert/strict";
import { test } from "node:test";

import { OUTBOX_MAX, Outbox } from "../client/outbox.js";
import { mentionsIn } from "../model/mentions.js";
import { ANA, BRUNO, ME } from "./support/events.mjs";
import { Storage } from "./support/storage.mjs";

test("what was not acknowledged survives a reload, in order, with its temp_id and its payload", () => {
  const storage = new Storage();
  const first = new Outbox(ME, storage);
  first.add("A", "dm:send", { conversation_id: "A", content: "one" });
  first.add("B", "dm:react", { conversation_id: "B", emoji: "👍" });
  first.add("A", "dm:delete", { conversation_id: "A", message_id: "E1" });
  const again = new Outbox(ME, storage);
  assert.deepEqual(again.items, first.items);
  assert.equal(again.next("A").data.content, "one");
  assert.deepEqual(new Outbox(ANA, storage).items, [], "another user's is another one");
});

test("of a conversation the oldest pending one is next; what failed stands in nobody's way", () => {
  const outbox = new Outbox(ME, new Storage());
  const one = outbox.add("A", "dm:send", { content: "one" });
  const two = outbox.add("A", "dm:send", { content: "two" });
  assert.equal(outbox.next("A"), one);
  outbox.fail(one, "no");
  assert.equal(outbox.next("A"), two);
  const retried = outbox.retry(one);
  assert.notEqual(retried.data.temp_id, one.data.temp_id);
  assert.deepEqual(outbox.items, [two, retried]);
});

test("what was acknowledged stays until the log shows it, and is not stored", () => {
  const storage = new Storage();
  const outbox = new Outbox(ME, storage);
  const item = outbox.add("A", "dm:send", { content: "one" });
  outbox.settle(item, 5);
  assert.equal(outbox.next("A"), null);
  assert.deepEqual(new Outbox(ME, storage).items, []);
  outbox.dropSettled("A", 4);
  assert.deepEqual(outbox.of("A"), [item]);
  outbox.dropSettled("A", 5);
  assert.deepEqual(outbox.items, []);
});

test("it has an end", () => {
  const outbox = new Outbox(ME, new Storage());
  for (let i = 0; i < OUTBOX_MAX; i++) outbox.add("A", "dm:send", { content: "x" });
  assert.ok(outbox.isFull);
});

test("whole names after an @ are mentions", () => {
  const members = new Map([
    [ANA, {}],
    [BRUNO, {}],
  ]);
  const nameOf = (id) => ({ [ANA]: "ana", [BRUNO]: "bruno" })[id];
  assert.deepEqual(mentionsIn("¿vienes, @Ana?", members, nameOf), [ANA]);
  assert.deepEqual(mentionsIn("@bruno y @ana", members, nameOf), [ANA, BRUNO]);
  assert.deepEqual(mentionsIn("@anabel, bruno@example", members, nameOf), []);
  assert.deepEqual(mentionsIn("@ana", null, nameOf), []);
});
