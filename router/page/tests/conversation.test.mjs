import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../model/conversation.js";
import { progressOf, readersOf } from "../model/progress.js";
import { ANA, BRUNO, CONVERSATION, ME, group, message, row, seqs } from "./support/events.mjs";

const conversation = () => new Conversation(CONVERSATION, ME);

test("unread counts messages after what was read, here or elsewhere", () => {
  const it = conversation();
  it.applyRow(row({ last_seq: 12, last_message_no: 10, read_seq: 8, unread: 3 }));
  assert.equal(it.unread, 3);
  it.applyEvent(message(13, { message_no: 11 }));
  assert.equal(it.unread, 4);
  it.applyReceipt({ user_id: ME, delivered_seq: 13, read_seq: 11, read_message_no: 9 });
  assert.equal(it.unread, 2);
  it.applyRow(row({ last_seq: 12, last_message_no: 10, read_seq: 8, unread: 3 }));
  assert.equal(it.unread, 2, "an older row takes nothing back");
  it.readUpTo(message(13, { message_no: 11 }));
  assert.equal(it.unread, 0);
});

test("sending reads everything before", () => {
  const it = conversation();
  it.applyRow(row({ last_seq: 5, last_message_no: 5, unread: 5 }));
  it.applyEvent(message(6, { sender_id: ME }));
  assert.equal(it.unread, 0);
});

test("receipts of others only grow, and a read message was delivered", () => {
  const it = conversation();
  it.applyReceipt({ user_id: ANA, delivered_seq: 4, read_seq: 6, read_message_no: 6 });
  it.applyReceipt({ user_id: BRUNO, delivered_seq: 8, read_seq: 2, read_message_no: 2 });
  assert.deepEqual(it.others, { deliveredSeq: 8, readSeq: 6 });
  assert.deepEqual(
    [6, 8, 9].map((seq) => it.progress(seq)),
    ["read", "delivered", "sent"],
  );
});

test("ticks follow the watermarks", () => {
  const others = { deliveredSeq: 5, readSeq: 3 };
  assert.deepEqual(
    [3, 5, 6].map((seq) => progressOf(seq, others)),
    ["read", "delivered", "sent"],
  );
});

test("readers of a message are those whose watermark is at it, without its sender and without me", () => {
  const member = (id, readSeq, joinedSeq = 1) => ({ user_id: id, read_seq: readSeq, joined_seq: joinedSeq });
  const members = new Map([
    [ME, member(ME, 9)],
    [ANA, member(ANA, 9)],
    [BRUNO, member(BRUNO, 4)],
  ]);
  assert.deepEqual(readersOf(message(4, { sender_id: ME }), members, ME), [ANA, BRUNO]);
  assert.deepEqual(readersOf(message(5, { sender_id: ME }), members, ME), [ANA]);
  assert.deepEqual(readersOf(message(5), members, ME), []);
});

test("the name is the one of the higher seq, whether a row or an event told it", () => {
  const it = conversation();
  it.applyEvent(group(1, "created", { name: "one", members: [] }));
  it.applyRow(row({ last_seq: 3, name: "three" }));
  it.applyEvent(group(2, "renamed", { name: "two" }));
  assert.equal(it.name, "three");
  it.applyEvent(group(4, "renamed", { name: "four" }));
  it.applyRow(row({ last_seq: 3, name: "three" }));
  assert.equal(it.name, "four");
});

test("who is removed is out, and who is added again is in, with another beginning", () => {
  const it = conversation();
  it.applyRow(row({ last_seq: 2, name: "g" }));
  for (const event of [message(1), message(2)]) it.log.add(event);
  it.applyEvent(group(3, "left", { members: [{ user_id: ME, role: "member" }] }));
  assert.equal(it.isMember, false);
  it.applyRow(row({ last_seq: 9, joined_seq: 9, name: "g" }));
  assert.equal(it.isMember, true);
  assert.deepEqual(seqs(it.log.events), [], "what was held does not touch what may be read now");
  it.log.add(message(9));
  assert.equal(it.hasOlder, false);
});

test("members follow the events, roles too, and an owner who leaves has an heir", () => {
  const it = conversation();
  it.applyRow(row({ last_seq: 4 }));
  const member = (id, role) => ({ user_id: id, role, joined_seq: 1, delivered_seq: 0, read_seq: 0 });
  it.setMembers([member(ME, "member"), member(ANA, "owner")], false, 4);
  it.applyEvent(group(5, "joined", { members: [{ user_id: BRUNO, role: "member" }] }));
  assert.equal(it.memberCount, 3);
  it.applyEvent(group(6, "role_changed", { members: [{ user_id: ME, role: "admin" }] }));
  assert.ok(it.mayAs("admin") && !it.mayAs("owner"));
  it.applyEvent(
    group(7, "left", {
      members: [
        { user_id: ANA, role: "member" },
        { user_id: ME, role: "owner" },
      ],
    }),
  );
  assert.equal(it.role, "owner");
  assert.equal(it.isMember, true);
  assert.deepEqual([...it.members.keys()], [ME, BRUNO]);
  assert.equal(it.memberCount, 2);
});
