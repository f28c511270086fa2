// The messages of one conversation: what is drawn, where it is scrolled to, and moving in it by keys.

import { timeline } from "../model/timeline.js";
import { h, reconcile, setText } from "./dom.js";
import * as icons from "./icons.js";
import { failureLine, makeMessage, updateMessage } from "./message-item.js";
import { dayOf, dayTitle } from "./time.js";
import { changeText, lineText } from "./words.js";

const NEAR_BOTTOM_PX = 60;
const NEAR_TOP_PX = 400;
/** How far back a quoted message is looked for. */
const SEARCH_PAGES_MAX = 10;
const FLASH_MS = 1_600;

export class Thread {
  #client;
  #compose;
  #conversation = null;
  #stickToBottom = true;
  /** Messages there were, by number, when the user scrolled up. */
  #seenNo = 0;
  #scroller;
  #list;
  #top;
  #jump;

  /** `compose`: `{ reply(event), edit(event), focus() }`. */
  constructor(client, compose) {
    this.#client = client;
    this.#compose = compose;
    this.#top = h("p", { class: "log-top quiet" });
    const list = { class: "messages", role: "log", "aria-label": "Messages", testid: "messages" };
    this.#list = h("ol", { ...list, onkeydown: (event) => this.#key(event) });
    const scroller = { class: "scroller", tabindex: -1, testid: "scroller", onscroll: () => this.#scrolled() };
    this.#scroller = h("div", scroller, this.#top, this.#list);
    this.#jump = h("button", { class: "jump", type: "button", testid: "jump-latest", onclick: () => this.#toLatest() });
    this.element = h("div", { class: "log" }, this.#scroller, this.#jump);
  }

  show(conversation) {
    this.#conversation = conversation;
    this.#list.replaceChildren();
    this.#stickToBottom = true;
  }

  render() {
    const anchor = this.#list.querySelector("li.message");
    const anchorTop = anchor?.offsetTop;
    const outgoing = this.#client.outgoing(this.#conversation);
    const items = timeline(this.#conversation, outgoing, { me: this.#client.user.user_id, dayOf });
    const context = this.#context();
    const update = (element, item) => this.#update(element, item, context);
    reconcile(
      this.#list,
      items,
      (item) => item.key,
      (item) => this.#make(item, context),
      update,
    );
    this.#moveTabStop();
    setText(this.#top, topText(this.#conversation, items.length > 0, this.#client.state));
    if (this.#stickToBottom) this.keepAtBottom();
    else if (anchor?.isConnected) this.#scroller.scrollTop += anchor.offsetTop - anchorTop;
    this.#renderJump();
    if (this.#stickToBottom && document.visibilityState === "visible") queueMicrotask(() => this.#client.markRead());
  }

  /** The height around it has changed. */
  keepAtBottom() {
    if (this.#stickToBottom) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** From now on the newest message is in view. */
  stick() {
    this.#stickToBottom = true;
  }

  #context() {
    const { reply, edit } = this.#compose;
    return { client: this.#client, conversation: this.#conversation, reply, edit, goTo: (id) => this.#goTo(id) };
  }

  #make(item, context) {
    if (item.type === "message") return makeMessage(item, context);
    const line = (name, text, role) => h("li", { class: name, role, testid: name }, h("span", {}, text));
    if (item.type === "day") return line("day", dayTitle(item.atMs), "separator");
    if (item.type === "unread") return line("unread-line", "New messages", "separator");
    return line("event", "", "note");
  }

  #update(element, item, context) {
    if (item.type === "message") updateMessage(element, item, context);
    else if (item.type === "line") setText(element.firstChild, lineText(item.event, this.#client));
    else if (item.type === "change") this.#updateChange(element, item);
  }

  #updateChange(element, { state, outgoing }) {
    element.dataset.state = state;
    setText(element.firstChild, changeText(outgoing, this.#client));
    if (state !== "failed") element.querySelector(".failure")?.remove();
    else if (!element.querySelector(".failure")) element.append(failureLine(outgoing, this.#client));
  }

  #renderJump() {
    this.#jump.hidden = this.#stickToBottom;
    const { newestNo } = this.#conversation;
    if (this.#stickToBottom) this.#seenNo = newestNo;
    const label = newestNo > this.#seenNo ? `${newestNo - this.#seenNo} new` : "Latest";
    if (this.#jump.textContent !== label) this.#jump.replaceChildren(icons.down(), label);
  }

  #scrolled() {
    if (!this.#conversation) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const wasAtBottom = this.#stickToBottom;
    this.#stickToBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#stickToBottom && document.visibilityState === "visible") this.#client.markRead();
    if (wasAtBottom !== this.#stickToBottom) this.#renderJump();
    if (scrollTop < NEAR_TOP_PX) this.#client.loadOlder(this.#conversation);
  }

  #toLatest() {
    this.stick();
    this.render();
    this.#compose.focus();
  }

  /** Shows the message of an id, where it is not too far back. */
  async #goTo(id) {
    const conversation = this.#conversation;
    this.#stickToBottom = false;
    for (let pages = 0; !conversation.log.find(id) && conversation.hasOlder && pages < SEARCH_PAGES_MAX; pages++) {
      await this.#client.loadOlder(conversation);
    }
    if (conversation !== this.#conversation) return;
    this.render();
    const element = this.#list.querySelector(`[data-id="${CSS.escape(id)}"]`);
    element?.scrollIntoView({ block: "center" });
    element?.focus({ preventScroll: true });
    element?.classList.add("flash");
    setTimeout(() => element?.classList.remove("flash"), FLASH_MS);
  }

  /** One message is in the order of the Tab key: the one that was focused last, else the newest. */
  #moveTabStop() {
    if (this.#list.contains(document.activeElement)) return;
    this.#focusable(this.#messages().at(-1));
  }

  #focusable(message) {
    for (const other of this.#list.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    if (message) message.tabIndex = 0;
  }

  #messages() {
    return [...this.#list.querySelectorAll("li.message")];
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      event.preventDefault();
      this.#compose.focus();
    }
    if (!step || !event.target.matches("li.message")) return;
    event.preventDefault();
    const messages = this.#messages();
    const next = messages[messages.indexOf(event.target) + step];
    if (!next) return step > 0 ? this.#compose.focus() : undefined;
    this.#focusable(next);
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
}

function topText(conversation, hasItems, state) {
  if (conversation.loadingOlder) return "Loading earlier messages…";
  if (!conversation.isMember && !hasItems) return "What was said here is no longer yours to read.";
  if (conversation.hasOlder) return "";
  if (hasItems && conversation.log.last) {
    return conversation.joinedSeq > 1 ? "This is where you joined." : "This is where the conversation begins.";
  }
  return !hasItems && state === "online" ? "No messages yet. Say hello." : "";
}
