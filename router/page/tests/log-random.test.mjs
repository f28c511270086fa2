// Whatever way events and pages come, in the end the window shows what the server has.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Log } from "../model/log.js";
import { revise } from "../model/revise.js";
import { ANA, ME, deletion, edit, message, reaction } from "./support/events.mjs";

const SEEDS = 300;
const EVENTS = 60;
const EMOJI = ["👍", "😮", "🙏"];

/** Mulberry32: small, and the same everywhere. */
function randomOf(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The events of a conversation as they were sent. */
function conversationOf(random) {
  const events = [];
  const deleted = new Set();
  const reacted = new Set();
  for (let seq = 1; seq <= EVENTS; seq++) {
    const alive = events.filter((it) => it.kind === "message" && !deleted.has(it.seq));
    const target = alive[random(alive.length || 1)];
    const sender = { sender_id: random(2) ? ME : ANA };
    const kind = target ? random(6) : 0;
    if (kind <= 2) events.push(message(seq, sender));
    else if (kind === 3) events.push(edit(seq, target.seq, `edited ${seq}`, { sender_id: target.sender_id }));
    else if (kind === 4 && random(3) === 0) {
      deleted.add(target.seq);
      events.push(deletion(seq, target.seq, sender));
    } else {
      const emoji = EMOJI[random(EMOJI.length)];
      const key = `${target.seq} ${emoji} ${sender.sender_id}`;
      const change = reacted.has(key) ? "remove" : "add";
      if (!reacted.delete(key)) reacted.add(key);
      events.push(reaction(seq, target.seq, emoji, change, sender));
    }
  }
  return events;
}

/** The log as `history` shows it once `asOf` has happened. */
function readAt(events, asOf) {
  const shown = events.slice(0, asOf).map((event) => ({ ...event }));
  for (const event of events.slice(0, asOf)) {
    if (event.kind === "message") continue;
    shown[event.message_seq - 1] = revise(shown[event.message_seq - 1], event, ME);
  }
  for (const event of shown) {
    if (event.kind === "edit" && shown[event.message_seq - 1].deleted_at_ms) delete event.content;
  }
  return shown;
}

test("live events and pages in any order end in the same", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = randomOf(seed);
    const events = conversationOf(random);
    const log = new Log(ME);
    let now = 1 + random(EVENTS);
    const page = (from, to, asOf) => ({ events: readAt(events, asOf).slice(from - 1, to), last_seq: asOf });
    const under = [];
    log.addPage(page(Math.max(1, now - random(10)), now, now));
    while (now < EVENTS || under.length > 0 || log.hasGap || log.firstSeq > 1) {
      const act = random(6);
      if (act <= 1 && now < EVENTS) {
        const event = events[now++];
        // Some pushes overtake each other, some never come, some come twice.
        if (random(4)) under.push(() => log.add({ ...event }));
        if (random(8) === 0) under.push(() => log.add({ ...event }));
      } else if (act === 2 && log.firstSeq > 1) {
        const asked = page(Math.max(1, log.firstSeq - 1 - random(9)), log.firstSeq - 1, now);
        under.push(() => log.addPage(asked));
      } else if (act === 3 && log.lastSeq < now) {
        const asked = page(log.lastSeq + 1, Math.min(now, log.lastSeq + 1 + random(9)), now);
        under.push(() => log.addPage(asked));
      } else if (under.length > 0) {
        const [arrives] = under.splice(random(under.length), 1);
        arrives();
      }
      if (now === EVENTS) log.heardOf(EVENTS);
    }
    const reactionsOf = (event) => (event.reactions?.length ? event.reactions : undefined);
    const plain = (event) => ({ ...event, reactions: reactionsOf(event) });
    assert.deepEqual(log.events.map(plain), readAt(events, EVENTS).map(plain), `seed ${seed}`);
  }
});
