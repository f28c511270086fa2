// The client proper: conversations, their logs, sends and their order, and how what was missed is fetched. No DOM.
//
// Rules it keeps (docs/PROTOCOL.md): the log is ordered by `seq` only; an event already held is dropped, a hole is
// filled from `history`; `rev` is taken from `sync` alone; a message keeps its `temp_id` over every retry; of one
// conversation one message is under way at a time, so that a retry cannot overtake a later message.

import { Connection, fullJitterMs } from "./connection.js";
import { directConversationId } from "./ids.js";
import { Log } from "./log.js";
import { Outbox } from "./outbox.js";
import { Names, ReadMarks } from "./memory.js";

const VERSION = "1.0";
const SYNC_PAGE = 200;
const HISTORY_PAGE = 50;
const REPAIR_PAGE = 200;
/** Pushes that overtook each other settle in this time; asking sooner would fetch what is under way. */
const REPAIR_DELAY_MS = 120;
const FETCHES_AT_ONCE = 4;
/** Conversations whose last message is fetched for the list; others show it once opened. */
const PREVIEWS_MAX = 60;
const PROFILES_PER_QUERY = 100;

export class Client {
  #session;
  #callbacks;
  #connection;
  #outbox;
  #names;
  #marks;
  #conversations = new Map();
  #opened = null;
  #rev = 0;
  #syncing = false;
  #syncAgain = false;
  #sending = new Set();
  #fetches = [];
  #fetching = 0;
  #wantedNames = new Set();
  /** Asked on this connection, answered or not: who is unknown now is not asked for again and again. */
  #askedNames = new Set();

  /** `session` is `{ token, user }`. Callbacks: `changed()`, `unauthorized(code)`. */
  constructor(session, callbacks) {
    this.#session = session;
    this.#callbacks = callbacks;
    this.#outbox = new Outbox(session.user.user_id);
    this.#names = new Names(session.user.user_id);
    this.#marks = new ReadMarks(session.user.user_id);
    for (const { conversationId, data } of this.#outbox.items) this.#ensure(conversationId, data.to);
    this.#connection = new Connection({
      hello: () => this.#hello(),
      welcome: (welcome) => this.#welcome(welcome),
      push: (type, data) => this.#push(type, data),
      state: (state, retryAtMs) => {
        this.state = state;
        this.retryAtMs = retryAtMs;
        callbacks.changed();
      },
      unauthorized: (code) => callbacks.unauthorized(code),
    });
  }

  state = "offline";
  retryAtMs = null;

  get user() {
    return this.#session.user;
  }

  get opened() {
    return this.#opened;
  }

  start() {
    this.#connection.start();
  }

  stop() {
    this.#connection.stop();
  }

  /** With a new token for the same user. */
  restart(token) {
    this.#session.token = token;
    this.#connection.start();
  }

  reconnectNow() {
    this.#connection.reconnectNow();
  }

  probe() {
    this.#connection.probe();
  }

  /** The latest first. */
  list() {
    const order = (a, b) => this.#activityMs(b) - this.#activityMs(a) || (a.id < b.id ? -1 : 1);
    return [...this.#conversations.values()].sort(order);
  }

  conversation(id) {
    return this.#conversations.get(id) ?? null;
  }

  outgoing(conversation) {
    return this.#outbox.of(conversation.id);
  }

  /** The last message, sent or not: `{ content, mine, atMs, state }`. */
  preview(conversation) {
    const pending = this.#outbox.of(conversation.id).at(-1);
    if (pending) return { content: pending.data.content, mine: true, atMs: pending.createdAtMs, state: pending.state };
    const { last } = conversation.log;
    if (!last) return null;
    const mine = last.sender_id === this.user.user_id;
    return { content: last.content, mine, atMs: last.created_at_ms, state: "sent" };
  }

  unread(conversation) {
    const { last } = conversation.log;
    if (last) return Math.max(0, last.message_no - conversation.readNo);
    return conversation.readNo === 0 ? (conversation.row?.unread ?? 0) : 0;
  }

  nameOf(userId) {
    if (userId === this.user.user_id) return this.user.name ?? "you";
    const name = this.#names.get(userId);
    if (!name) this.#wantName(userId);
    return name ?? `user …${userId.slice(-4).toLowerCase()}`;
  }

  title(conversation) {
    if (conversation.peerId === this.user.user_id) return "Notes to myself";
    if (conversation.peerId) return this.nameOf(conversation.peerId);
    return `Group …${conversation.id.slice(-4).toLowerCase()}`;
  }

  /** The direct conversation with a user, which need not exist yet. */
  direct({ user_id: userId, name }) {
    if (name) this.#names.set(userId, name);
    const conversation = this.#ensure(directConversationId(this.user.user_id, userId), userId);
    conversation.lastAtMs ||= Date.now();
    return conversation;
  }

  open(conversation) {
    this.#opened = conversation;
    if (conversation) {
      this.markRead();
      this.#fill(conversation);
    }
    this.#callbacks.changed();
  }

  /** What is in view of the user is read. */
  markRead() {
    const last = this.#opened?.log.last;
    if (!last || last.message_no <= this.#opened.readNo) return;
    this.#opened.readNo = last.message_no;
    this.#marks.set(this.#opened.id, last.message_no);
    this.#callbacks.changed();
  }

  /** Returns false where there is no room for another message that cannot be sent. */
  send(conversation, content) {
    if (this.#outbox.isFull) return false;
    const target = conversation.peerId ? { to: conversation.peerId } : { conversation_id: conversation.id };
    this.#outbox.add(conversation.id, target, content);
    this.#callbacks.changed();
    this.#flush(conversation);
    return true;
  }

  retry(conversation, item) {
    this.#outbox.retry(item);
    this.#callbacks.changed();
    this.#flush(conversation);
  }

  discard(item) {
    this.#outbox.remove(item.data.temp_id);
    this.#callbacks.changed();
  }

  /** The page before the oldest event held. */
  async loadOlder(conversation) {
    const { log } = conversation;
    if (conversation.loadingOlder || !log.hasOlder || this.state !== "online") return;
    conversation.loadingOlder = true;
    this.#callbacks.changed();
    try {
      await this.#history(conversation, { before_seq: log.firstSeq, limit: HISTORY_PAGE });
    } catch (error) {
      report("history", error);
    } finally {
      conversation.loadingOlder = false;
      this.#callbacks.changed();
    }
  }

  #activityMs(conversation) {
    return this.preview(conversation)?.atMs ?? conversation.lastAtMs;
  }

  #ensure(id, peerId = null) {
    let conversation = this.#conversations.get(id);
    if (!conversation) {
      const readNo = this.#marks.get(id);
      const idle = { loadingOlder: false, repairing: false };
      conversation = { id, peerId: null, log: new Log(), lastAtMs: 0, row: null, readNo, ...idle };
      this.#conversations.set(id, conversation);
    }
    conversation.peerId ??= peerId;
    return conversation;
  }

  #hello() {
    const client = { platform: "web", version: VERSION };
    return { token: this.#session.token, client, rev: this.#rev || undefined };
  }

  #welcome(welcome) {
    this.#session.user = welcome.user;
    // What was written before the connection went goes out before anything newer.
    for (const { conversationId } of this.#outbox.items) this.#flush(this.#conversations.get(conversationId));
    if (this.#rev !== welcome.rev || this.#rev === 0) this.#sync();
    for (const conversation of this.#conversations.values()) if (conversation.log.hasGap) this.#repair(conversation);
    if (this.#opened) this.#fill(this.#opened);
    this.#fetchPreviews();
    this.#askedNames.clear();
    this.#askNames();
    this.#callbacks.changed();
  }

  #push(type, data) {
    if (type === "dm:new") this.#take(data.message);
    else if (type === "resync") this.#sync();
    this.#callbacks.changed();
  }

  async #sync() {
    if (this.#syncing) {
      this.#syncAgain = true;
      return;
    }
    this.#syncing = true;
    try {
      do {
        this.#syncAgain = false;
        for (let more = true; more; ) {
          const query = { rev: this.#rev, limit: SYNC_PAGE };
          const page = await this.#patiently(() => this.#connection.request("sync", query));
          if (page.reset && this.#rev === 0) throw new Error("the server refuses to sync from 0");
          if (page.reset) this.#forget();
          // The rows are applied before the cursor moves.
          for (const row of page.conversations) this.#applyRow(row);
          this.#rev = page.reset ? 0 : page.rev;
          more = page.reset || page.has_more;
          this.#callbacks.changed();
        }
      } while (this.#syncAgain);
      this.#fetchPreviews();
    } catch (error) {
      report("sync", error);
    } finally {
      this.#syncing = false;
    }
  }

  /** The server knows nothing of our cursor: what we hold is of another life. */
  #forget() {
    for (const conversation of this.#conversations.values()) {
      conversation.row = null;
      conversation.log = new Log();
    }
  }

  #applyRow(row) {
    const conversation = this.#ensure(row.conversation_id, row.peer_id);
    conversation.row = row;
    conversation.lastAtMs = Math.max(conversation.lastAtMs, row.last_at_ms);
    conversation.log.heardOf(row.last_seq);
    if (conversation === this.#opened) {
      if (conversation.log.hasGap) this.#repair(conversation);
      else this.#fill(conversation);
    } else if (conversation.log.hasGap) {
      // Nobody looks at it: its newest event says enough, the rest is fetched when it is opened.
      conversation.log = new Log();
      conversation.log.heardOf(row.last_seq);
    }
    this.#settleUnread(conversation);
  }

  /** A row counts unread messages at its `last_seq`; with that event at hand, the count becomes a position. */
  #settleUnread(conversation) {
    const { log, row } = conversation;
    if (row && log.last?.seq === row.last_seq) {
      conversation.readNo = Math.max(conversation.readNo, log.last.message_no - row.unread);
    }
  }

  #take(event) {
    const conversation = this.#ensure(event.conversation_id);
    if (!conversation.peerId && !conversation.row) {
      // Of the two users of a direct conversation the sender may be the other; if not, the row will tell.
      const direct = directConversationId(event.sender_id, this.user.user_id) === event.conversation_id;
      if (direct && event.sender_id !== this.user.user_id) conversation.peerId = event.sender_id;
      else this.#sync();
    }
    if (!this.#names.get(event.sender_id)) this.#askedNames.delete(event.sender_id);
    this.#absorb(conversation, conversation.log.add(event));
    if (conversation.log.hasGap) this.#repair(conversation);
  }

  /** Events that just came into view. */
  #absorb(conversation, events) {
    for (const event of events) {
      if (event.sender_id !== this.user.user_id) continue;
      this.#outbox.remove(event.temp_id);
      conversation.readNo = Math.max(conversation.readNo, event.message_no);
    }
    this.#outbox.dropSettled(conversation.id, conversation.log.lastSeq);
    this.#settleUnread(conversation);
  }

  async #history(conversation, range) {
    const { log } = conversation;
    const page = await this.#connection.request("history", { conversation_id: conversation.id, ...range });
    if (conversation.log !== log) return page;
    log.heardOf(page.last_seq);
    this.#absorb(conversation, log.addPage(page.events));
    return page;
  }

  /** Fills the hole between what is held and what is known to be there, in order. */
  async #repair(conversation) {
    if (conversation.repairing) return;
    conversation.repairing = true;
    try {
      await sleep(REPAIR_DELAY_MS);
      while (conversation.log.hasGap) {
        const range = { after_seq: conversation.log.lastSeq, limit: REPAIR_PAGE };
        const page = await this.#patiently(() => this.#history(conversation, range));
        this.#callbacks.changed();
        if (page.events.length === 0) break;
      }
    } catch (error) {
      report("repair", error);
    } finally {
      conversation.repairing = false;
    }
  }

  /** A screenful for a conversation that is opened. */
  #fill(conversation) {
    const { log } = conversation;
    if (!log.last) this.#fetchLatest(conversation, HISTORY_PAGE);
    else if (log.events.length < HISTORY_PAGE) this.loadOlder(conversation);
  }

  /** The last message of the conversations at the top of the list. */
  #fetchPreviews() {
    const bare = this.list().slice(0, PREVIEWS_MAX).filter(({ log }) => log.knownSeq > 0 && !log.last);
    for (const conversation of bare) this.#fetchLatest(conversation, 1);
  }

  #fetchLatest(conversation, limit) {
    if (this.state !== "online") return;
    this.#fetches.push(async () => {
      try {
        if (!conversation.log.last) await this.#patiently(() => this.#history(conversation, { limit }));
        const short = conversation.log.events.length < HISTORY_PAGE;
        if (short && conversation === this.#opened) this.loadOlder(conversation);
      } catch (error) {
        // A direct conversation without a message does not exist yet.
        if (error.code !== "not_found") report("history", error);
      }
    });
    this.#pumpFetches();
  }

  #pumpFetches() {
    while (this.#fetching < FETCHES_AT_ONCE && this.#fetches.length > 0) {
      this.#fetching++;
      this.#fetches.shift()().finally(() => {
        this.#fetching--;
        this.#callbacks.changed();
        this.#pumpFetches();
      });
    }
  }

  async #flush(conversation) {
    if (this.#sending.has(conversation.id) || this.state !== "online") return;
    this.#sending.add(conversation.id);
    try {
      const next = () => this.#outbox.of(conversation.id).find((item) => item.state === "pending");
      for (let item; (item = next()); ) await this.#sendOne(item);
    } catch (error) {
      // The connection went: `welcome` flushes again.
      report("send", error);
    } finally {
      this.#sending.delete(conversation.id);
      this.#callbacks.changed();
    }
  }

  async #sendOne(item) {
    try {
      const ack = await this.#patiently(() => this.#connection.request("dm:send", item.data));
      this.#outbox.settle(item, ack.message.seq);
      this.#take(ack.message);
    } catch (error) {
      if (error.retryable !== false) throw error;
      this.#outbox.fail(item, error.message);
    }
    this.#callbacks.changed();
  }

  /** Repeats what failed for a reason that passes, until it works or the connection goes. */
  async #patiently(attempt) {
    for (let attempts = 0; ; attempts++) {
      try {
        return await attempt();
      } catch (error) {
        if (!error.retryable || error.code === "lost") throw error;
        await sleep(error.retryAfterMs ? error.retryAfterMs * (1 + Math.random()) : fullJitterMs(attempts));
      }
    }
  }

  #wantName(userId) {
    if (this.#wantedNames.has(userId) || this.#askedNames.has(userId)) return;
    this.#wantedNames.add(userId);
    queueMicrotask(() => this.#askNames());
  }

  async #askNames() {
    const asked = [...this.#wantedNames].slice(0, PROFILES_PER_QUERY);
    if (asked.length === 0 || this.state !== "online") return;
    for (const id of asked) {
      this.#wantedNames.delete(id);
      this.#askedNames.add(id);
    }
    try {
      const { users } = await this.#patiently(() => this.#connection.request("profile:get", { user_ids: asked }));
      for (const { user_id: id, name } of users) if (name) this.#names.set(id, name);
    } catch (error) {
      report("profile:get", error);
    }
    this.#callbacks.changed();
    this.#askNames();
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function report(what, error) {
  if (error.code !== "lost") console.warn(`${what} failed:`, error.code ?? error.name, error.message);
}
