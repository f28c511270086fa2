import assert from "node:assert/strict";
import { test } from "node:test";

import { Log } from "../model/log.js";
import { ANA, ME, deletion, edit, message, reaction, seqs } from "./support/events.mjs";

const page = (lastSeq, ...events) => ({ events, last_seq: lastSeq });
const contents = (log) => log.events.filter((it) => it.kind === "message").map((it) => it.content);

test("events that overtake each other come out in order, each once", () => {
  const log = new Log(ME);
  log.addPage(page(1, message(1)));
  assert.deepEqual(seqs(log.add(message(3))), []);
  assert.ok(log.hasGap);
  assert.deepEqual(seqs(log.add(message(2))), [2, 3]);
  assert.deepEqual(log.add(message(2)), []);
  assert.ok(!log.hasGap);
  assert.deepEqual(seqs(log.events), [1, 2, 3]);
});

test("a page fills the hole, and what was set aside follows", () => {
  const log = new Log(ME);
  log.add(message(1));
  log.add(message(4));
  assert.deepEqual(seqs(log.addPage(page(4, message(2), message(3)))), [2, 3, 4]);
});

test("earlier pages are not news, and pages that do not touch the window are ignored", () => {
  const log = new Log(ME);
  log.addPage(page(12, message(11), message(12)));
  assert.deepEqual(log.addPage(page(12, message(9), message(10))), []);
  assert.deepEqual(log.addPage(page(12, message(1), message(2))), []);
  assert.deepEqual(log.addPage(page(20, message(15))), []);
  assert.deepEqual(seqs(log.events), [9, 10, 11, 12]);
  assert.equal(log.knownSeq, 20);
});

test("an edit, a reaction and a deletion apply to the message that they are about", () => {
  const log = new Log(ME);
  for (const event of [
    message(1),
    message(2),
    edit(3, 1, "new"),
    reaction(4, 1, "👍"),
    reaction(5, 1, "👍", "add", { sender_id: ME }),
  ]) {
    log.add(event);
  }
  const { content, edited_at_ms: editedAtMs, reactions } = log.find("E1");
  assert.equal(content, "new");
  assert.ok(editedAtMs);
  assert.deepEqual(reactions, [{ emoji: "👍", count: 2, mine: true }]);
  log.add(reaction(6, 1, "👍", "remove"));
  assert.deepEqual(log.find("E1").reactions, [{ emoji: "👍", count: 1, mine: true }]);
  log.add(deletion(7, 1));
  const gone = log.find("E1");
  assert.ok(gone.deleted_at_ms);
  assert.equal(gone.content, undefined);
  assert.equal(gone.reactions, undefined);
  assert.equal(log.find("E3").content, undefined, "the edit's content is forgotten too");
  log.add(reaction(8, 1, "👍"));
  assert.equal(log.find("E1").reactions, undefined);
});

test("an event at or below the page's last_seq is in the page's messages already", () => {
  const log = new Log(ME);
  const liked = message(1, { reactions: [{ emoji: "👍", count: 1, mine: false }] });
  log.addPage(page(3, liked, message(2), reaction(3, 1, "👍")));
  assert.equal(log.find("E1").reactions[0].count, 1);
  log.add(reaction(4, 1, "👍", "add", { sender_id: ME }));
  assert.deepEqual(log.find("E1").reactions, [{ emoji: "👍", count: 2, mine: true }]);
});

test("a page that is newer than the window keeps later events from being applied twice", () => {
  const log = new Log(ME);
  log.addPage(page(5, message(5)));
  // Read when 6 had happened, which this window has not seen yet.
  log.addPage(page(6, message(4, { reactions: [{ emoji: "👍", count: 1, mine: false }] })));
  log.add(reaction(6, 4, "👍"));
  assert.equal(log.find("E4").reactions[0].count, 1);
  log.add(reaction(7, 4, "👍", "remove"));
  assert.deepEqual(log.find("E4").reactions, []);
});

test("a page that is older than the window gets the events that happened since", () => {
  const log = new Log(ME);
  log.addPage(page(5, message(5)));
  log.add(edit(6, 4, "edited"));
  log.add(message(7));
  // Asked before 6 happened, answered after.
  log.addPage(page(5, message(3), message(4)));
  assert.deepEqual(contents(log), ["text 3", "edited", "text 5", "text 7"]);
});

test("an edit whose message was deleted later changes nothing until the deletion comes", () => {
  const log = new Log(ME);
  log.add(message(1));
  log.addPage(page(3, edit(2, 1, undefined), deletion(3, 1)));
  assert.ok(log.find("E1").deleted_at_ms);
});

test("an edit replaces all that a message says", () => {
  const log = new Log(ME);
  log.add(message(1, { attachments: [{ name: "a.jpg" }], reply_to: "E0" }));
  log.add(edit(2, 1, "only text"));
  const { attachments, reply_to: replyTo, content } = log.find("E1");
  assert.deepEqual([attachments, replyTo, content], [undefined, undefined, "only text"]);
});

test("a trimmed window keeps its newest events and can be extended again", () => {
  const log = new Log(ME);
  for (let seq = 1; seq <= 10; seq++) log.add(message(seq));
  log.trim(3);
  assert.deepEqual(seqs(log.events), [8, 9, 10]);
  assert.equal(log.find("E7"), null);
  log.add(reaction(11, 2, "👍", "add", { sender_id: ANA }));
  log.addPage(page(11, message(6), message(7)));
  assert.deepEqual(seqs(log.events), [6, 7, 8, 9, 10, 11]);
  assert.equal(log.find("E6").content, "text 6");
});
