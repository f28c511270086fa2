// The conversation list, and the form that starts a new conversation.

import { avatar, h, reconcile, setAvatar, setText } from "./dom.js";
import * as icons from "./icons.js";
import { tick, setTick } from "./tick.js";
import { shortTime } from "./time.js";
import { previewText, typingText } from "./words.js";

const UNREAD_SHOWN_MAX = 99;

export class ListView {
  #client;
  #open;
  #list;
  #empty;
  #input;
  #error;

  /** `findUser(name)` resolves with a user; `open(conversation)` shows one. */
  constructor(client, { findUser, open }) {
    this.#client = client;
    this.#open = open;
    this.#input = h("input", {
      type: "text",
      name: "peer",
      maxlength: 32,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      placeholder: "Write to… (a name)",
      "aria-label": "Name of the person to write to",
      testid: "new-name",
    });
    this.#error = h("p", { class: "form-error", role: "alert", testid: "new-error" });
    this.#list = h("ul", {
      class: "conversations",
      "aria-label": "Conversations",
      testid: "conversation-list",
      onkeydown: (event) => this.#moveFocus(event),
    });
    this.#empty = h("p", { class: "list-empty quiet" }, "No conversations yet. Write a name above to start one.");
    const startLabel = { "aria-label": "Start conversation", title: "Start conversation", testid: "new-submit" };
    this.element = h(
      "div",
      { class: "list-pane" },
      h(
        "form",
        { class: "new-conversation", onsubmit: (event) => this.#start(event, findUser) },
        this.#input,
        h("button", { class: "icon-button", type: "submit", ...startLabel }, icons.plus()),
        this.#error,
      ),
      this.#empty,
      this.#list,
    );
  }

  render() {
    const conversations = this.#client.list();
    this.#empty.hidden = conversations.length > 0;
    reconcile(
      this.#list,
      conversations,
      (conversation) => conversation.id,
      (conversation) => this.#makeRow(conversation),
      (row, conversation) => this.#updateRow(row, conversation),
    );
  }

  #makeRow(conversation) {
    const parts = {
      avatar: avatar(conversation.peerId ?? conversation.id, "?"),
      group: h("span", { class: "row-kind", role: "img", "aria-label": "Group" }, icons.people()),
      name: h("span", { class: "row-name" }),
      time: h("time", { class: "row-time" }),
      tick: tick(),
      text: h("span", { class: "row-text", testid: "preview" }),
      unread: h("span", { class: "unread", testid: "unread" }),
    };
    const button = h(
      "button",
      { class: "row", type: "button", onclick: () => this.#open(conversation) },
      parts.avatar,
      h("span", { class: "row-top" }, parts.group, parts.name, parts.time),
      h("span", { class: "row-bottom" }, parts.tick, parts.text, parts.unread),
    );
    const row = h("li", { testid: "conversation", "data-conversation-id": conversation.id }, button);
    row.parts = { ...parts, button };
    return row;
  }

  #updateRow(row, conversation) {
    const { parts } = row;
    const { unread } = conversation;
    const title = this.#client.title(conversation);
    const preview = this.#client.preview(conversation);
    const isOpen = conversation === this.#client.opened;
    const isOnline = conversation.peerId !== null && this.#client.presence.of(conversation.peerId)?.online === true;
    const typing = typingText(this.#client.typing.in(conversation.id), conversation, this.#client);
    row.dataset.name = title;
    parts.button.setAttribute("aria-current", String(isOpen));
    setAvatar(parts.avatar, conversation.peerId ?? conversation.id, title);
    parts.avatar.classList.toggle("online", isOnline && !conversation.isNotes);
    parts.group.hidden = !conversation.isGroup;
    setText(parts.name, title);
    const atMs = preview?.atMs ?? conversation.lastAtMs;
    setText(parts.time, atMs ? shortTime(atMs) : "");
    parts.tick.hidden = !preview?.progress || preview.isDeleted || typing !== "";
    if (preview?.progress) setTick(parts.tick, preview.progress);
    setText(parts.text, typing || previewText(preview, conversation, this.#client));
    parts.text.classList.toggle("typing", typing !== "");
    parts.unread.hidden = unread === 0;
    parts.button.classList.toggle("has-unread", unread > 0);
    setText(parts.unread, unread > UNREAD_SHOWN_MAX ? `${UNREAD_SHOWN_MAX}+` : String(unread));
    parts.unread.setAttribute("aria-label", `${unread} unread`);
  }

  async #start(event, findUser) {
    event.preventDefault();
    setText(this.#error, "");
    try {
      const user = await findUser(this.#input.value);
      this.#input.value = "";
      this.#open(this.#client.direct(user));
    } catch (error) {
      setText(this.#error, error.message);
    }
  }

  #moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...this.#list.querySelectorAll("button.row")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
}
