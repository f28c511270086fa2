// The line above a conversation: with whom, whether they are there or typing, and what can be done.

import { confirmed } from "./dialog.js";
import { avatar, h, setAvatar, setText } from "./dom.js";
import * as icons from "./icons.js";
import { menuItem, openMenu } from "./menu.js";
import { lastSeen } from "./time.js";
import { typingText } from "./words.js";

export class ConversationBar {
  #client;
  #conversation = null;
  #openMembers;
  #avatar;
  #title;
  #status;
  #more;

  /** `back()` leads to the list; `openMembers()` shows a group's members. */
  constructor(client, { back, openMembers }) {
    this.#client = client;
    this.#openMembers = openMembers;
    this.#avatar = avatar("", "?");
    this.#title = h("h2", { testid: "peer-name" });
    this.#status = h("p", { class: "status", testid: "peer-status" });
    const backLabel = { "aria-label": "Back to the list", testid: "back", onclick: back };
    const moreLabel = {
      "aria-label": "Menu of this conversation",
      title: "Menu",
      "aria-haspopup": "menu",
      testid: "conversation-menu",
    };
    this.#more = h(
      "button",
      { class: "icon-button", type: "button", ...moreLabel, onclick: () => this.#menu() },
      icons.more(),
    );
    this.element = h(
      "header",
      { class: "bar" },
      h("button", { class: "icon-button back", type: "button", ...backLabel }, icons.back()),
      this.#avatar,
      h("div", { class: "titles" }, this.#title, this.#status),
      this.#more,
    );
  }

  show(conversation) {
    this.#conversation = conversation;
  }

  render(title) {
    const conversation = this.#conversation;
    const presence = conversation.peerId ? this.#client.presence.of(conversation.peerId) : null;
    setAvatar(this.#avatar, conversation.peerId ?? conversation.id, title);
    this.#avatar.classList.toggle("online", presence?.online === true);
    setText(this.#title, title);
    const typing = typingText(this.#client.typing.in(conversation.id), conversation, this.#client);
    this.#status.classList.toggle("typing", typing !== "");
    setText(this.#status, typing || statusText(conversation, presence, this.#client));
    this.#more.hidden = conversation.isNotes || (conversation.isGroup && !conversation.isMember);
  }

  #menu() {
    const conversation = this.#conversation;
    if (conversation.isGroup) {
      return openMenu(
        this.#more,
        "Group",
        menuItem("Members", icons.people, this.#openMembers, { testid: "menu-members" }),
        menuItem("Leave the group", icons.signOut, () => this.#leave(), { danger: true, testid: "menu-leave" }),
      );
    }
    const name = this.#client.title(conversation);
    const isBlocked = this.#client.blocks.has(conversation.peerId);
    const item = isBlocked
      ? menuItem(`Unblock ${name}`, icons.block, () => this.#setBlocked(false), { testid: "menu-unblock" })
      : menuItem(`Block ${name}`, icons.block, () => this.#block(name), { danger: true, testid: "menu-block" });
    openMenu(this.#more, name, item);
  }

  #block(name) {
    const text =
      "Neither of you can write to the other here, or see when the other is online. Groups are not concerned.";
    confirmed({ title: `Block ${name}?`, text, action: "Block" }, () => this.#setBlocked(true));
  }

  #setBlocked(blocked) {
    this.#client.setBlocked(this.#conversation.peerId, blocked).catch((error) => console.warn("block:", error.message));
  }

  #leave() {
    const conversation = this.#conversation;
    const title = `Leave “${this.#client.title(conversation)}”?`;
    const text = "You will get nothing more of this group, and can come back only if somebody adds you.";
    confirmed({ title, text, action: "Leave" }, () => this.#client.actions.leave(conversation));
  }
}

function statusText(conversation, presence, client) {
  if (conversation.isGroup) {
    if (!conversation.isMember) return "You are not a member";
    const count = conversation.memberCount;
    return count === null ? "Group" : count === 1 ? "1 member" : `${count.toLocaleString()} members`;
  }
  if (client.blocks.has(conversation.peerId)) return "Blocked";
  if (presence?.online) return "online";
  return presence?.last_seen_ms ? lastSeen(presence.last_seen_ms) : "";
}
