// One conversation: its bar, its messages, and the composer, or why there is none.

import { lastEditable } from "../model/timeline.js";
import { Composer } from "./composer.js";
import { ConversationBar } from "./conversation-bar.js";
import { h } from "./dom.js";
import * as icons from "./icons.js";
import { MembersDialog } from "./members-dialog.js";
import { Thread } from "./thread.js";

export class ConversationView {
  #client;
  #findUser;
  #conversation = null;
  #bar;
  #thread;
  #composer;
  #notice;
  #panel;
  #placeholder;
  #members = null;

  constructor(client, { back, findUser }) {
    this.#client = client;
    this.#findUser = findUser;
    this.#bar = new ConversationBar(client, { back, openMembers: () => this.#openMembers() });
    this.#thread = new Thread(client, {
      reply: (event) => this.#composer.reply(event, client.nameOf(event.sender_id)),
      edit: (event) => this.#composer.edit(event),
      focus: () => this.#composer.focus(),
    });
    this.#composer = new Composer({
      send: (text, mode) => this.#send(text, mode),
      typing: (isTyping) => client.typing.tell(this.#conversation, isTyping),
      editLast: () => this.#editLast(),
      resized: () => this.#thread.keepAtBottom(),
    });
    this.#notice = h("div", { class: "notice", role: "status", hidden: true, testid: "notice" });
    const parts = [this.#bar.element, this.#thread.element, this.#composer.element, this.#notice];
    this.#panel = h("section", { class: "conversation", hidden: true }, ...parts);
    const hint = h("p", {}, "Choose a conversation, or start one with a name.");
    this.#placeholder = h("section", { class: "nothing-open quiet" }, icons.bubble(), hint);
    this.element = h("main", { class: "conversation-pane" }, this.#panel, this.#placeholder);
  }

  show(conversation) {
    this.#composer.show(conversation?.id ?? null);
    this.#conversation = conversation;
    this.#panel.hidden = !conversation;
    this.#placeholder.hidden = Boolean(conversation);
    if (!conversation) return;
    this.#bar.show(conversation);
    this.#thread.show(conversation);
    this.render();
    this.#composer.resize();
    // Where a keyboard would slide over the page, it waits until it is asked for.
    if (!matchMedia("(pointer: coarse)").matches) this.#composer.focus();
  }

  render() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const title = this.#client.title(conversation);
    this.#bar.render(title);
    this.#composer.setTitle(title);
    this.#renderNotice(conversation, title);
    this.#thread.render();
    this.#members?.render();
  }

  #renderNotice(conversation, title) {
    const isBlocked = conversation.peerId !== null && this.#client.blocks.has(conversation.peerId);
    const reason = isBlocked
      ? `You have blocked ${title}.`
      : conversation.isMember
        ? ""
        : "You are no longer a member of this group.";
    this.#notice.hidden = reason === "";
    this.#composer.element.hidden = reason !== "";
    if (this.#notice.dataset.reason === reason) return;
    this.#notice.dataset.reason = reason;
    const unblock = () =>
      this.#client.setBlocked(conversation.peerId, false).catch((error) => console.warn("unblock:", error.message));
    const button = isBlocked
      ? h("button", { class: "link", type: "button", testid: "unblock", onclick: unblock }, "Unblock")
      : null;
    this.#notice.replaceChildren(h("span", {}, reason), ...(button ? [button] : []));
  }

  #openMembers() {
    const closed = () => (this.#members = null);
    this.#members = new MembersDialog(this.#client, this.#conversation, { findUser: this.#findUser, closed });
  }

  #send(text, mode) {
    const { actions } = this.#client;
    if (mode?.kind === "edit") {
      return text === mode.event.content || actions.edit(this.#conversation, mode.event, text);
    }
    this.#thread.stick();
    return actions.write(this.#conversation, text, mode?.event.id);
  }

  #editLast() {
    const event = lastEditable(this.#conversation, this.#client.user.user_id);
    if (event) this.#composer.edit(event);
  }
}
