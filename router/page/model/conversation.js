// One conversation as this client knows it: what its row says, what its events changed since, and its log. Pure.
//
// A row and the events come by different ways and in any order. What both tell (name, membership) is taken from
// whichever speaks of the higher `seq`; what only grows (watermarks) is merged by the maximum.

import { Log } from "./log.js";
import { progressOf } from "./progress.js";

const GROUP_KINDS = ["created", "renamed", "joined", "left", "role_changed"];
const ROLES = { member: 0, admin: 1, owner: 2 };

/** Whether an event is about the group itself: shown as a line, not as a message. */
export function isGroupEvent(event) {
  return GROUP_KINDS.includes(event.kind);
}

export class Conversation {
  #me;
  /** The `seq` as of which name and membership are known. */
  #knownAsOf = 0;
  /** The `seq` as of which `members` is known. */
  #membersAsOf = 0;

  constructor(id, me) {
    this.id = id;
    this.#me = me;
    this.log = new Log(me);
    /** `direct`, `group`, `large_group`; `null` while nothing has told. */
    this.kind = null;
    this.peerId = null;
    this.name = null;
    this.joinedSeq = 1;
    this.leftSeq = null;
    this.lastAtMs = 0;
    /** Whether the server has told of it: a direct conversation begins with its first message. */
    this.exists = false;
    /** `message_no` up to which this user has read, and that of the newest message. */
    this.readNo = 0;
    this.newestNo = 0;
    this.readSeq = 0;
    /** The farthest watermarks of the others. */
    this.others = { deliveredSeq: 0, readSeq: 0 };
    /** Of a group that was looked at: user id → member. `null` while not asked. */
    this.members = null;
    this.memberCount = null;
    this.hasMoreMembers = false;
    this.role = null;
    this.loadingOlder = false;
    this.repairing = false;
    /** Unread messages begin after this `message_no`; `null` where none were when it was opened. */
    this.unreadFromNo = null;
  }

  get isGroup() {
    return this.kind === "group" || this.kind === "large_group";
  }

  get isNotes() {
    return this.peerId === this.#me;
  }

  get isMember() {
    return this.leftSeq === null;
  }

  get unread() {
    return this.isMember ? Math.max(0, this.newestNo - this.readNo) : 0;
  }

  /** Whether there are events before the window that this user may read. */
  get hasOlder() {
    return this.log.firstSeq > Math.max(1, this.joinedSeq);
  }

  mayAs(role) {
    return this.isMember && this.isGroup && ROLES[this.role ?? "member"] >= ROLES[role];
  }

  progress(seq) {
    return progressOf(seq, this.others);
  }

  /** The other side is known to be this user. */
  setPeer(userId) {
    this.peerId = userId;
    this.kind = "direct";
  }

  /** A log of which nothing is held: the rest is fetched when somebody looks. */
  forgetEvents() {
    const { knownSeq } = this.log;
    this.log = new Log(this.#me);
    this.log.heardOf(knownSeq);
    this.members = null;
  }

  /** The server knows nothing of our cursor: what is held is of another life. */
  reset() {
    this.log = new Log(this.#me);
    this.exists = false;
    this.#knownAsOf = this.#membersAsOf = 0;
    this.readNo = this.newestNo = this.readSeq = 0;
    this.others = { deliveredSeq: 0, readSeq: 0 };
    this.members = null;
  }

  applyRow(row) {
    this.exists = true;
    this.kind = row.kind;
    this.peerId = row.peer_id ?? null;
    if (row.joined_seq > this.log.lastSeq + 1) {
      // Out and in again: what is held and what may be read do not touch.
      this.log = new Log(this.#me);
      this.members = null;
    }
    this.joinedSeq = row.joined_seq;
    if (row.last_seq >= this.#knownAsOf) {
      this.#knownAsOf = row.last_seq;
      this.name = row.name ?? null;
      this.leftSeq = row.left_seq ?? null;
    }
    this.lastAtMs = Math.max(this.lastAtMs, row.last_at_ms);
    this.log.heardOf(row.last_seq);
    this.newestNo = Math.max(this.newestNo, row.last_message_no);
    this.readNo = Math.max(this.readNo, row.last_message_no - row.unread);
    this.readSeq = Math.max(this.readSeq, row.read_seq);
    this.#raiseOthers(row.others_delivered_seq, row.others_read_seq);
  }

  /** An event that became the newest of the window. */
  applyEvent(event) {
    this.exists = true;
    this.newestNo = Math.max(this.newestNo, event.message_no);
    if (event.kind === "message") {
      this.lastAtMs = Math.max(this.lastAtMs, event.created_at_ms);
      if (event.sender_id === this.#me) this.readUpTo(event);
      return;
    }
    if (!isGroupEvent(event)) return;
    this.kind ??= "group";
    if (event.became_large) this.kind = "large_group";
    if (event.seq > this.#knownAsOf) this.#applyToGroup(event);
    if (this.members && event.seq > this.#membersAsOf) this.#applyToMembers(event);
  }

  /** A `dm:receipt`. */
  applyReceipt(receipt) {
    if (receipt.user_id === this.#me) {
      this.readNo = Math.max(this.readNo, receipt.read_message_no);
      this.readSeq = Math.max(this.readSeq, receipt.read_seq);
      return;
    }
    this.#raiseOthers(receipt.delivered_seq, receipt.read_seq);
    const member = this.members?.get(receipt.user_id);
    if (!member) return;
    member.delivered_seq = Math.max(member.delivered_seq, receipt.delivered_seq);
    member.read_seq = Math.max(member.read_seq, receipt.read_seq);
  }

  readUpTo(event) {
    this.readNo = Math.max(this.readNo, event.message_no);
    this.readSeq = Math.max(this.readSeq, event.seq);
  }

  /** Members as they were at `asOf` or later. */
  setMembers(members, hasMore, asOf) {
    this.members = new Map(members.map((member) => [member.user_id, member]));
    this.hasMoreMembers = hasMore;
    this.#membersAsOf = asOf;
    this.memberCount ??= members.length;
    this.role = this.members.get(this.#me)?.role ?? this.role;
  }

  #raiseOthers(deliveredSeq = 0, readSeq = 0) {
    this.others.deliveredSeq = Math.max(this.others.deliveredSeq, deliveredSeq, readSeq);
    this.others.readSeq = Math.max(this.others.readSeq, readSeq);
  }

  #applyToGroup(event) {
    this.#knownAsOf = event.seq;
    if (event.kind === "created" || event.kind === "renamed") this.name = event.name;
    const mine = event.members?.find((member) => member.user_id === this.#me);
    if (!mine) return;
    if (event.kind === "created" || event.kind === "joined") this.leftSeq = null;
    if (event.kind === "left" && mine.role !== "owner") this.leftSeq = event.seq;
  }

  #applyToMembers(event) {
    this.#membersAsOf = event.seq;
    for (const { user_id: id, role } of event.members ?? []) {
      const member = this.members.get(id);
      const leaves = event.kind === "left" && role !== "owner";
      if (leaves) {
        if (this.members.delete(id)) this.memberCount--;
      } else if (member) {
        member.role = role;
      } else if (event.kind === "created" || event.kind === "joined") {
        this.members.set(id, { user_id: id, role, joined_seq: event.seq, delivered_seq: 0, read_seq: 0 });
        this.memberCount++;
      }
      if (id === this.#me) this.role = leaves ? null : role;
    }
  }
}
