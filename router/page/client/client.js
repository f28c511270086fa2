// The client proper: its parts, what the views ask of them, and which push is whose. No DOM.

import { directConversationId } from "../model/ids.js";
import { newestItem } from "../model/timeline.js";
import { Actions } from "./actions.js";
import { Blocks } from "./blocks.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { History } from "./history.js";
import { Inbox } from "./inbox.js";
import { Intake } from "./intake.js";
import { Marker } from "./marker.js";
import { Members } from "./members.js";
import { Names } from "./names.js";
import { Outbox } from "./outbox.js";
import { patiently } from "./patience.js";
import { Presence } from "./presence.js";
import { Sender } from "./sender.js";
import { Typing } from "./typing.js";

const VERSION = "1.1";
/** Events that stay in memory of a conversation that nobody looks at. */
const IDLE_EVENTS_MAX = 200;

export class Client {
  #session;
  #callbacks;
  #connection;
  #conversations;
  #outbox;
  #sender;
  #history;
  #inbox;
  #intake;
  #marker;
  #members;
  #names;
  #opened = null;

  state = "offline";
  retryAtMs = null;

  /** `session` is `{ token, user }`. Callbacks: `changed()`, `refused(code)`, `discarded(conversationId)`. */
  constructor(session, callbacks) {
    this.#session = session;
    this.#callbacks = callbacks;
    const me = session.user.user_id;
    const connection = new Connection({
      hello: () => ({ token: session.token, client: { platform: "web", version: VERSION }, rev: this.#inbox.rev }),
      welcome: (welcome) => this.#welcome(welcome),
      push: (type, data) => this.#push(type, data),
      state: (state, retryAtMs) => this.#setState(state, retryAtMs),
      refused: (code) => callbacks.refused(code),
    });
    const changed = () => callbacks.changed();
    this.#connection = connection;
    this.#conversations = new Conversations(me);
    this.#outbox = new Outbox(me);
    for (const item of this.#outbox.items) this.#conversations.restore(item);
    this.#names = new Names(me, { connection, changed });
    this.#marker = new Marker({ connection });
    this.#members = new Members({ connection, changed });
    this.presence = new Presence({ connection, changed });
    this.blocks = new Blocks({ connection, changed });
    this.typing = new Typing({ connection, changed });
    this.#sender = new Sender({
      connection,
      outbox: this.#outbox,
      acked: (event) => this.#intake.take(event),
      changed,
    });
    this.#history = new History({
      connection,
      absorb: (conversation, events) => this.#intake.absorb(conversation, events),
      changed,
      isOpened: (conversation) => conversation === this.#opened,
    });
    this.#inbox = new Inbox({
      connection,
      row: (row) => this.#intake.row(row),
      reset: () => this.#conversations.all.forEach((conversation) => conversation.reset()),
      page: changed,
      done: () => this.#synced(),
    });
    this.#intake = new Intake({
      me,
      conversations: this.#conversations,
      outbox: this.#outbox,
      history: this.#history,
      inbox: this.#inbox,
      marker: this.#marker,
      members: this.#members,
      names: this.#names,
      presence: this.presence,
      typing: this.typing,
      opened: () => this.#opened,
    });
    this.actions = new Actions({
      outbox: this.#outbox,
      ensure: (id) => this.#conversations.ensure(id),
      nameOf: (id) => this.nameOf(id),
      added: (conversation) => this.#added(conversation),
    });
  }

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
    const timed = this.#conversations.all.map((conversation) => [this.#activityMs(conversation), conversation]);
    timed.sort(([a, one], [b, other]) => b - a || (one.id < other.id ? -1 : 1));
    return timed.map(([, conversation]) => conversation);
  }

  conversation(id) {
    return this.#conversations.get(id);
  }

  /** Items of the outbox, the oldest first. */
  outgoing(conversation) {
    return this.#outbox.of(conversation.id);
  }

  /** The newest message or line, sent or not, as an item of the timeline. */
  preview(conversation) {
    return newestItem(conversation, this.outgoing(conversation), this.user.user_id);
  }

  /** The server's sum until all rows are here; from then on it is kept here. */
  get unreadTotal() {
    return this.#inbox.isComplete ? this.#conversations.unread : this.#inbox.unreadTotal;
  }

  nameOf(userId) {
    return userId === this.user.user_id ? (this.user.name ?? "you") : this.#names.of(userId);
  }

  title(conversation) {
    if (conversation.isNotes) return "Notes to myself";
    if (conversation.peerId) return this.nameOf(conversation.peerId);
    return conversation.name ?? `Group …${conversation.id.slice(-4).toLowerCase()}`;
  }

  /** A user by the name that they were found by. */
  met({ user_id: userId, name }) {
    this.#names.suggest(userId, name);
  }

  /** The direct conversation with a user, which need not exist yet. */
  direct(user) {
    this.met(user);
    const conversation = this.#conversations.ensure(directConversationId(this.user.user_id, user.user_id));
    conversation.setPeer(user.user_id);
    conversation.lastAtMs ||= Date.now();
    return conversation;
  }

  open(conversation) {
    if (this.#opened && this.#opened !== conversation) {
      this.typing.tell(this.#opened, false);
      this.#opened.unreadFromNo = null;
      this.#opened.log.trim(IDLE_EVENTS_MAX);
    }
    this.#opened = conversation;
    if (conversation) {
      conversation.unreadFromNo = conversation.unread > 0 ? conversation.readNo : null;
      this.#history.fill(conversation);
      this.#members.load(conversation);
      this.#watchPresence();
      if (conversation.peerId) this.presence.refresh(conversation.peerId);
    }
    this.#callbacks.changed();
  }

  /** What is in view of the user is read. */
  markRead() {
    const conversation = this.#opened;
    const last = conversation?.log.last;
    // What is known to be there and is not held yet is unread all the same, and this cannot change it.
    if (!last || last.message_no <= conversation.readNo) return;
    conversation.readUpTo(last);
    this.#marker.read(conversation, last.seq);
    this.#callbacks.changed();
  }

  loadOlder(conversation) {
    return this.#history.loadOlder(conversation);
  }

  retry(item) {
    this.#outbox.retry(item);
    this.#added(this.#conversations.get(item.conversationId));
  }

  discard(item) {
    this.#outbox.remove(item.data.temp_id);
    const { conversationId } = item;
    if (item.type === "conversation:create") {
      // A group that does not come into being takes with it what was to be said there.
      for (const { data } of this.#outbox.of(conversationId)) this.#outbox.remove(data.temp_id);
      this.#conversations.forget(conversationId);
      this.#callbacks.discarded?.(conversationId);
    }
    this.#callbacks.changed();
  }

  /** `change`: `name`, `shares_presence`. Rejects with the command's error. */
  async setProfile(change) {
    this.#session.user = await patiently(() => this.#connection.request("profile:set", change));
    this.#callbacks.changed();
  }

  async setBlocked(userId, blocked) {
    await this.blocks.set(userId, blocked);
    this.presence.refresh(userId);
  }

  #activityMs(conversation) {
    return this.preview(conversation)?.atMs ?? conversation.lastAtMs;
  }

  #setState(state, retryAtMs) {
    this.state = state;
    this.retryAtMs = retryAtMs;
    this.#callbacks.changed();
  }

  #added(conversation) {
    this.typing.sent(conversation);
    this.#sender.flush(conversation.id);
    this.#callbacks.changed();
  }

  #welcome(welcome) {
    this.#session.user = welcome.user;
    this.#sender.flushAll();
    this.#inbox.welcomed(welcome);
    for (const conversation of this.#conversations.all) if (conversation.log.hasGap) this.#history.repair(conversation);
    if (this.#opened) this.#intake.look(this.#opened);
    this.#history.preview(this.list());
    this.presence.welcomed();
    this.#watchPresence();
    this.blocks.welcomed();
    this.#marker.welcomed();
    this.#names.welcomed();
    this.#callbacks.changed();
  }

  #push(type, data) {
    if (type === "dm:new") this.#intake.take(data.message);
    else if (data.event) this.#intake.take(data.event);
    else if (type === "dm:receipt") this.#conversations.get(data.conversation_id)?.applyReceipt(data);
    else if (type === "dm:typing") this.typing.apply(data);
    else if (type === "presence") this.presence.apply(data);
    else if (type === "profile:changed") this.#session.user = data;
    else if (type === "block:changed") this.blocks.apply(data);
    else if (type === "resync") this.#inbox.sync();
    this.#callbacks.changed();
  }

  #synced() {
    this.#history.preview(this.list());
    this.#watchPresence();
    this.#callbacks.changed();
  }

  #watchPresence() {
    const { user_id: me } = this.user;
    const listed = this.#opened ? [this.#opened, ...this.list()] : this.list();
    const peers = listed.map((conversation) => conversation.peerId).filter((id) => id && id !== me);
    if (this.state === "online") this.presence.watch(peers);
  }
}
