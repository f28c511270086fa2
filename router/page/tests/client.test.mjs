// The parts that talk, with a connection that answers as it is told.

import assert from "node:assert/strict";
import { test } from "node:test";

import { CommandError } from "../client/connection.js";
import { Inbox } from "../client/inbox.js";
import { Outbox } from "../client/outbox.js";
import { Sender } from "../client/sender.js";
import { ME, message, row } from "./support/events.mjs";
import { Storage } from "./support/storage.mjs";

const refused = (code, retryable, retryAfterMs) =>
  new CommandError({ code, message: code, retryable, retry_after_ms: retryAfterMs });

/** Answers commands from a list, in order; an error is a refusal. Keeps what it was asked. */
function connectionOf(...answers) {
  const asked = [];
  const request = async (type, data) => {
    asked.push({ type, data });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { isOnline: true, asked, request };
}

const ack = (seq) => ({ message: message(seq) });
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

async function flushed(connection, ...commands) {
  const outbox = new Outbox(ME, new Storage());
  for (const [type, data] of commands) outbox.add("A", type, data);
  const acked = [];
  const sender = new Sender({ connection, outbox, acked: (event) => acked.push(event.seq), changed: () => {} });
  await sender.flush("A");
  await settled();
  return { outbox, acked };
}

test("commands of a conversation go out one after the other, and a retry is the same again", async () => {
  const connection = connectionOf(refused("overloaded", true, 1), ack(1), ack(2));
  const { acked } = await flushed(connection, ["dm:send", { content: "one" }], ["dm:react", { emoji: "👍" }]);
  assert.deepEqual(acked, [1, 2]);
  const [first, again, second] = connection.asked;
  assert.deepEqual(first, again);
  assert.equal(second.type, "dm:react");
});

test("what is refused for good is kept to be shown, and does not stop what follows", async () => {
  const connection = connectionOf(refused("blocked", false), ack(1));
  const { outbox, acked } = await flushed(connection, ["dm:send", { content: "one" }], ["dm:send", { content: "two" }]);
  assert.deepEqual(acked, [1]);
  assert.deepEqual(
    outbox.items.map((item) => item.state),
    ["failed", "sent"],
  );
});

test("what is so already is done", async () => {
  const { outbox } = await flushed(connectionOf(refused("no_change", false)), ["dm:delete", { message_id: "E1" }]);
  assert.deepEqual(outbox.items, []);
});

test("when the connection goes, everything stays for the next one", async () => {
  const connection = connectionOf(refused("lost", true));
  const { outbox } = await flushed(connection, ["dm:send", { content: "one" }], ["dm:send", { content: "two" }]);
  assert.deepEqual(
    outbox.items.map((item) => item.state),
    ["pending", "pending"],
  );
  assert.equal(connection.asked.length, 1);
});

const page = (rev, fields = {}) => ({
  conversations: [],
  rev,
  has_more: false,
  reset: false,
  unread_total: 0,
  ...fields,
});

async function synced(welcome, ...answers) {
  const connection = connectionOf(...answers);
  const seen = [];
  const inbox = new Inbox({
    connection,
    row: (it) => seen.push(it.last_seq),
    reset: () => seen.push("reset"),
    page: () => {},
    done: () => seen.push("done"),
  });
  inbox.welcomed(welcome);
  await settled();
  return { inbox, seen, connection };
}

test("sync asks page by page, and from the beginning where its cursor is of another life", async () => {
  const pages = [
    page(5, { conversations: [row({ last_seq: 1 })], has_more: true }),
    page(9, { reset: true }),
    page(3, { unread_total: 4 }),
  ];
  const { inbox, seen, connection } = await synced({ rev: 9, in_large_group: false }, ...pages);
  assert.deepEqual(
    connection.asked.map(({ data }) => data.rev),
    [0, 5, 0],
  );
  assert.deepEqual(seen, [1, "reset", "done"]);
  assert.equal(inbox.rev, 3);
  assert.equal(inbox.unreadTotal, 4);
});

test("an equal rev means nothing was missed, except in large groups", async () => {
  const { inbox, connection } = await synced({ rev: 7, in_large_group: false }, page(7), page(7));
  inbox.welcomed({ rev: 7, in_large_group: false });
  await settled();
  assert.equal(connection.asked.length, 1);
  inbox.welcomed({ rev: 7, in_large_group: true });
  await settled();
  assert.equal(connection.asked.length, 2);
});
