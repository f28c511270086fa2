import assert from "node:assert/strict";
import { test } from "node:test";

import { groupText } from "../model/group-text.js";
import { ANA, BRUNO, ME, group } from "./support/events.mjs";

const nameOf = (id) => ({ [ANA]: "Ana", [BRUNO]: "Bruno" })[id] ?? "somebody";
const text = (kind, sender, fields) => groupText(group(1, kind, { sender_id: sender, ...fields }), { me: ME, nameOf });
const members = (...roles) => ({ members: roles.map(([id, role = "member"]) => ({ user_id: id, role })) });

test("what happened to a group is a sentence", () => {
  const first = members([ANA, "owner"], [BRUNO], [ME]);
  assert.equal(text("created", ANA, { name: "Books", ...first }), "Ana created the group “Books” with Bruno and you");
  assert.equal(text("created", ME, { name: "Books", ...members([ME, "owner"]) }), "You created the group “Books”");
  assert.equal(text("renamed", BRUNO, { name: "Films" }), "Bruno named the group “Films”");
  assert.equal(text("joined", ANA, members([BRUNO])), "Ana added Bruno");
  assert.equal(text("left", BRUNO, members([BRUNO])), "Bruno left");
  assert.equal(text("left", ANA, members([ME])), "Ana removed you");
  assert.equal(text("left", ANA, members([ANA], [ME, "owner"])), "Ana left. You are the owner now");
  assert.equal(text("role_changed", ANA, members([BRUNO, "admin"])), "Ana made Bruno an admin");
  assert.equal(text("joined", "0".repeat(26), members([BRUNO])), "Tertulia added Bruno");
});

test("many names become a number", () => {
  const many = ["A", "B", "C", "D", "E"].map((id) => [id]);
  assert.equal(text("joined", ANA, members(...many)), "Ana added somebody, somebody, somebody and 2 others");
});
