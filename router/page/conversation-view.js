// One conversation: its messages, and the composer.

import { avatar, h, reconcile, setAvatar, setText } from "./dom.js";
import * as icons from "./icons.js";
import { tick, setTick } from "./tick.js";
import { clockTime, dayOf, dayTitle, exactTime } from "./time.js";

/** Messages of one sender this close together form a group. */
const GROUP_MS = 5 * 60_000;
const NEAR_BOTTOM_PX = 60;
const NEAR_TOP_PX = 400;
const CONTENT_BYTES_MAX = 16 * 1024;

export class ConversationView {
  #client;
  #conversation = null;
  #drafts = new Map();
  #stickToBottom = true;
  /** The newest `seq` that was in view when the user scrolled up. */
  #seenSeq = 0;
  #avatar;
  #title;
  #messages;
  #list;
  #top;
  #jump;
  #composer;
  #composerError;
  #panel;
  #placeholder;

  constructor(client, { back }) {
    this.#client = client;
    this.#avatar = avatar("", "?");
    this.#title = h("h2", { testid: "peer-name" });
    this.#top = h("p", { class: "log-top quiet" });
    this.#list = h("ol", { class: "messages", role: "log", "aria-label": "Messages", testid: "messages" });
    const scroller = { class: "scroller", tabindex: "0", testid: "scroller", onscroll: () => this.#scrolled() };
    this.#messages = h("div", scroller, this.#top, this.#list);
    this.#jump = h("button", { class: "jump", type: "button", testid: "jump-latest", onclick: () => this.#toBottom() });
    this.#composer = h("textarea", {
      rows: 1,
      name: "message",
      placeholder: "Message",
      "aria-label": "Message",
      testid: "composer",
      oninput: () => this.#resize(),
      onkeydown: (event) => this.#key(event),
    });
    this.#composerError = h("p", { class: "form-error", role: "alert", testid: "composer-error" });
    const backLabel = { "aria-label": "Back to the list", testid: "back", onclick: back };
    const backButton = h("button", { class: "icon-button back", type: "button", ...backLabel }, icons.back());
    const sendLabel = { "aria-label": "Send", title: "Send", testid: "send" };
    this.#panel = h(
      "section",
      { class: "conversation", hidden: true },
      h("header", { class: "bar" }, backButton, this.#avatar, this.#title),
      h("div", { class: "log" }, this.#messages, this.#jump),
      h(
        "form",
        { class: "composer", onsubmit: (event) => this.#submit(event) },
        this.#composerError,
        this.#composer,
        h("button", { class: "send", type: "submit", ...sendLabel }, icons.send()),
      ),
    );
    const hint = h("p", {}, "Choose a conversation, or start one with a name.");
    this.#placeholder = h("section", { class: "nothing-open quiet" }, icons.bubble(), hint);
    this.element = h("main", { class: "conversation-pane" }, this.#panel, this.#placeholder);
  }

  show(conversation) {
    if (this.#conversation) this.#drafts.set(this.#conversation.id, this.#composer.value);
    this.#conversation = conversation;
    this.#panel.hidden = !conversation;
    this.#placeholder.hidden = Boolean(conversation);
    if (!conversation) return;
    this.#list.replaceChildren();
    this.#stickToBottom = true;
    setText(this.#composerError, "");
    this.#composer.value = this.#drafts.get(conversation.id) ?? "";
    this.render();
    this.#resize();
    this.#composer.focus({ preventScroll: true });
  }

  render() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const title = this.#client.title(conversation);
    setAvatar(this.#avatar, conversation.peerId ?? conversation.id, title);
    setText(this.#title, title);
    this.#composer.placeholder = `Message ${title}`;

    const anchor = this.#list.querySelector("li.message");
    const anchorTop = anchor?.offsetTop;
    const items = this.#items(conversation);
    const update = (element, item) => this.#update(element, item);
    reconcile(this.#list, items, (item) => item.key, (item) => this.#make(item), update);
    setText(this.#top, topText(conversation, items.length > 0, this.#client.state));
    if (this.#stickToBottom) this.#messages.scrollTop = this.#messages.scrollHeight;
    else if (anchor?.isConnected) this.#messages.scrollTop += anchor.offsetTop - anchorTop;
    this.#renderJump();
    if (this.#stickToBottom && document.visibilityState === "visible") queueMicrotask(() => this.#client.markRead());
  }

  /** What is shown, in order: lines between days, the log, and what is not in the log yet. */
  #items(conversation) {
    const mine = this.#client.user.user_id;
    const fromLog = conversation.log.events.map((event) => ({
      key: event.sender_id === mine ? `mine-${event.temp_id}` : event.id,
      sender: event.sender_id,
      mine: event.sender_id === mine,
      text: event.content,
      atMs: event.created_at_ms,
      seq: event.seq,
      state: "sent",
    }));
    const fromOutbox = this.#client.outgoing(conversation).map((outgoing) => ({
      key: `mine-${outgoing.data.temp_id}`,
      sender: mine,
      mine: true,
      text: outgoing.data.content,
      atMs: outgoing.createdAtMs,
      state: outgoing.state,
      outgoing,
    }));
    const items = [];
    let before = null;
    for (const message of [...fromLog, ...fromOutbox]) {
      const day = dayOf(message.atMs);
      const newDay = !before || dayOf(before.atMs) !== day;
      // A clock may go back: the line is keyed by its place too.
      if (newDay) items.push({ key: `day-${day}-${message.key}`, day: message.atMs });
      const joins = !newDay && before.sender === message.sender && message.atMs - before.atMs < GROUP_MS;
      if (joins) before.endsGroup = false;
      items.push({ ...message, startsGroup: !joins, endsGroup: true });
      before = items.at(-1);
    }
    return items;
  }

  #make(item) {
    if (item.day !== undefined) return h("li", { class: "day", role: "separator" }, h("span", {}, dayTitle(item.day)));
    const parts = {
      text: h("p", { class: "text", dir: "auto", testid: "message-text" }),
      time: h("time", {}),
      tick: item.mine ? tick() : null,
      failure: item.mine ? h("p", { class: "failure", hidden: true }) : null,
    };
    const bubble = h("div", { class: "bubble" }, parts.text, h("span", { class: "meta" }, parts.time, parts.tick));
    const properties = { class: `message ${item.mine ? "mine" : "theirs"}`, "data-mine": String(item.mine) };
    const element = h("li", { ...properties, testid: "message" }, bubble, parts.failure);
    element.parts = parts;
    return element;
  }

  #update(element, item) {
    const { parts } = element;
    if (!parts) return;
    element.classList.toggle("starts-group", item.startsGroup);
    element.classList.toggle("ends-group", item.endsGroup);
    if (item.seq) element.dataset.seq = item.seq;
    element.dataset.state = item.state;
    setText(parts.text, item.text ?? "Encrypted message");
    parts.text.classList.toggle("quiet", item.text === undefined);
    setText(parts.time, clockTime(item.atMs));
    parts.time.title = exactTime(item.atMs);
    if (!item.mine) return;
    setTick(parts.tick, item.state);
    const failed = item.state === "failed";
    if (failed && parts.failure.hidden) this.#fillFailure(parts.failure, item.outgoing);
    parts.failure.hidden = !failed;
  }

  #fillFailure(element, outgoing) {
    const retry = () => this.#client.retry(this.#conversation, outgoing);
    const discard = () => this.#client.discard(outgoing);
    element.replaceChildren(
      `Not sent: ${outgoing.reason} `,
      h("button", { type: "button", class: "link", onclick: retry }, "Try again"),
      " ",
      h("button", { type: "button", class: "link", onclick: discard }, "Discard"),
    );
  }

  #renderJump() {
    this.#jump.hidden = this.#stickToBottom;
    const { lastSeq } = this.#conversation.log;
    if (this.#stickToBottom) this.#seenSeq = lastSeq;
    const label = lastSeq > this.#seenSeq ? `${lastSeq - this.#seenSeq} new` : "Latest";
    if (this.#jump.textContent !== label) this.#jump.replaceChildren(icons.down(), label);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#messages;
    const wasAtBottom = this.#stickToBottom;
    this.#stickToBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#stickToBottom) this.#client.markRead();
    if (wasAtBottom !== this.#stickToBottom) this.#renderJump();
    if (scrollTop < NEAR_TOP_PX) this.#client.loadOlder(this.#conversation);
  }

  #toBottom() {
    this.#stickToBottom = true;
    this.render();
    this.#composer.focus({ preventScroll: true });
  }

  #key(event) {
    // On a touch keyboard Enter is a new line; there the button sends.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const content = this.#composer.value.trim();
    if (!content) return;
    const bytes = new TextEncoder().encode(content).length;
    if (bytes > CONTENT_BYTES_MAX) {
      const [kilobytes, most] = [Math.ceil(bytes / 1024), CONTENT_BYTES_MAX / 1024];
      setText(this.#composerError, `This message is too long: ${kilobytes} KB, at most ${most} KB fit.`);
      return;
    }
    this.#stickToBottom = true;
    if (!this.#client.send(this.#conversation, content)) {
      setText(this.#composerError, "Too many messages are waiting to be sent. Wait for the connection to come back.");
      return;
    }
    setText(this.#composerError, "");
    this.#composer.value = "";
    this.#drafts.delete(this.#conversation.id);
    this.#resize();
    this.#composer.focus();
  }

  #resize() {
    this.#composer.style.height = "auto";
    const borders = this.#composer.offsetHeight - this.#composer.clientHeight;
    this.#composer.style.height = `${this.#composer.scrollHeight + borders}px`;
    if (this.#stickToBottom) this.#messages.scrollTop = this.#messages.scrollHeight;
  }
}

function topText(conversation, hasMessages, state) {
  if (conversation.loadingOlder) return "Loading earlier messages…";
  if (conversation.log.hasOlder) return "";
  if (hasMessages && conversation.log.last) return "This is where the conversation begins.";
  return !hasMessages && state === "online" ? "No messages yet. Say hello." : "";
}
