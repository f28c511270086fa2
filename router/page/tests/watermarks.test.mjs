import assert from "node:assert/strict";
import { test } from "node:test";

import { Watermarks } from "../model/watermarks.js";

const said = (commands) => commands.map(({ type, data }) => `${type} ${data.conversation_id} ${data.seq}`);

test("only the highest of many is told, and reading implies delivery", () => {
  const marks = new Watermarks();
  for (const seq of [1, 2, 3]) marks.delivered("A", seq);
  marks.delivered("B", 7);
  marks.read("B", 7);
  assert.deepEqual(said(marks.due(10)), ["dm:delivered A 3", "dm:read B 7"]);
});

test("what was told is not told again, and what was not confirmed is", () => {
  const marks = new Watermarks();
  marks.read("A", 3);
  assert.deepEqual(said(marks.due(10)), ["dm:read A 3"]);
  assert.deepEqual(said(marks.due(10)), ["dm:read A 3"]);
  marks.known("A", { deliveredSeq: 3, readSeq: 3 });
  assert.deepEqual(marks.due(10), []);
  marks.delivered("A", 3);
  assert.deepEqual(marks.due(10), []);
  marks.delivered("A", 4);
  assert.deepEqual(said(marks.due(10)), ["dm:delivered A 4"]);
});

test("where more arrived than was seen, both are told, one after the other", () => {
  const marks = new Watermarks();
  marks.delivered("A", 5);
  marks.read("A", 3);
  assert.deepEqual(said(marks.due(10)), ["dm:delivered A 5"]);
  marks.known("A", { deliveredSeq: 5 });
  assert.deepEqual(said(marks.due(10)), ["dm:read A 3"]);
});

test("no more than the asked number at once", () => {
  const marks = new Watermarks();
  for (const id of "ABCDE") marks.delivered(id, 1);
  assert.equal(marks.due(3).length, 3);
});
