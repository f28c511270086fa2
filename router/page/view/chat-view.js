// The second screen: the list and one conversation, side by side or, on a phone, one at a time; and what the connection
// is doing. Which conversation is open is in the address, so that a reload and the back button do what they should.

import { ConversationView } from "./conversation-view.js";
import { somethingIsOpen } from "./dialog.js";
import { avatar, h, setAvatar, setText } from "./dom.js";
import { openGroupDialog } from "./group-dialog.js";
import * as icons from "./icons.js";
import { ListView } from "./list-view.js";
import { openProfileDialog } from "./profile-dialog.js";

const COUNTDOWN_MS = 500;
const STATES = { online: "Online", connecting: "Connecting…", offline: "Offline" };

export class ChatView {
  #client;
  #list;
  #conversation;
  #wantedId = null;
  #me;
  #myName;
  #connection;
  #banner;
  #bannerText;
  #retry;
  #isOutdated = false;
  #renderQueued = false;
  #countdown;
  #listeners = new AbortController();

  constructor(client, { findUser, signOut }) {
    this.#client = client;
    // Whoever is looked for by name has one from then on.
    const find = async (name) => {
      const user = await findUser(name);
      client.met(user);
      return user;
    };
    const go = (conversation) => this.#go(conversation);
    this.#list = new ListView(client, { findUser: find, open: go });
    this.#conversation = new ConversationView(client, { back: () => (location.hash = ""), findUser: find });
    this.#me = avatar(client.user.user_id, "?");
    this.#myName = h("span", { class: "my-name", testid: "me" });
    this.#connection = h("span", { class: "connection", role: "status", testid: "connection" });
    const profile = {
      "aria-label": "Your profile",
      title: "Your profile",
      testid: "profile",
      onclick: () => openProfileDialog(client),
    };
    const me = h("span", { class: "me" }, this.#myName, this.#connection);
    const avatarButton = h("button", { class: "profile-button", type: "button", ...profile }, this.#me);
    const bar = [
      avatarButton,
      me,
      iconButton("New group", "new-group", icons.people, () =>
        openGroupDialog(client, { findUser: find, created: go }),
      ),
      iconButton("Sign out", "sign-out", icons.signOut, () => this.#leave(signOut)),
    ];
    this.#bannerText = h("span", {});
    this.#retry = h("button", { class: "link", type: "button", onclick: () => client.reconnectNow() }, "Try now");
    const banner = { class: "banner", role: "status", testid: "banner", hidden: true };
    this.#banner = h("div", banner, this.#bannerText, this.#retry);
    this.element = h(
      "div",
      { class: "chat", testid: "chat" },
      this.#banner,
      h(
        "nav",
        { class: "side", "aria-label": "Conversations" },
        h("header", { class: "bar" }, ...bar),
        this.#list.element,
      ),
      this.#conversation.element,
    );
    const { signal } = this.#listeners;
    addEventListener("hashchange", () => this.#route(), { signal });
    addEventListener("online", () => client.reconnectNow(), { signal });
    // Neither event is to be believed by itself: a probe finds out.
    addEventListener("offline", () => client.probe(), { signal });
    document.addEventListener("visibilitychange", () => this.#shown(), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#countdown = setInterval(() => this.#renderConnection(), COUNTDOWN_MS);
    this.#route();
  }

  /** Renders once for all changes of one turn. */
  changed() {
    if (this.#renderQueued) return;
    this.#renderQueued = true;
    queueMicrotask(() => {
      this.#renderQueued = false;
      this.#render();
    });
  }

  /** A conversation that came to nothing is not there to be looked at. */
  discarded(conversationId) {
    if (this.#client.opened?.id === conversationId) location.hash = "";
  }

  /** The cluster takes no page as old as this one: only a reload helps. What was written is kept. */
  outdated() {
    this.#isOutdated = true;
    this.changed();
  }

  close() {
    this.#listeners.abort();
    clearInterval(this.#countdown);
  }

  #leave(signOut) {
    history.replaceState(null, "", location.pathname);
    signOut();
  }

  #go(conversation) {
    const hash = `#/${conversation.id}`;
    if (location.hash === hash) this.#open(conversation);
    else location.hash = hash;
  }

  #route() {
    this.#wantedId = /^#\/([0-9A-Z]{26})$/.exec(location.hash)?.[1] ?? null;
    if (!this.#wantedId) this.#open(null);
    else this.changed();
  }

  #open(conversation) {
    this.#wantedId = null;
    this.element.classList.toggle("has-open", Boolean(conversation));
    this.#client.open(conversation);
    this.#conversation.show(conversation);
  }

  #render() {
    if (this.#wantedId) {
      // After a reload the conversation is known only once the list has come.
      const conversation = this.#client.conversation(this.#wantedId);
      if (conversation) this.#open(conversation);
    }
    const name = this.#client.user.name ?? "you";
    setAvatar(this.#me, this.#client.user.user_id, name);
    setText(this.#myName, name);
    this.#renderConnection();
    this.#list.render();
    this.#conversation.render();
    const unread = this.#client.unreadTotal;
    document.title = unread > 0 ? `(${unread}) Tertulia` : "Tertulia";
  }

  #renderConnection() {
    const { state, retryAtMs } = this.#client;
    this.#connection.dataset.state = state;
    setText(this.#connection, STATES[state]);
    this.#banner.hidden = state === "online";
    this.#banner.dataset.state = state;
    this.#retry.hidden = state !== "offline" || this.#isOutdated;
    const offline = this.#isOutdated ? "This page is too old: please reload it." : offlineText(retryAtMs);
    setText(this.#bannerText, state === "connecting" ? "Connecting…" : offline);
  }

  #shown() {
    if (document.visibilityState !== "visible") return;
    this.#client.reconnectNow();
    this.#client.probe();
    this.changed();
  }

  #key(event) {
    if (event.key !== "Escape" || event.defaultPrevented || somethingIsOpen()) return;
    if (this.#client.opened) location.hash = "";
  }
}

function iconButton(label, testid, icon, onclick) {
  return h(
    "button",
    { class: "icon-button", type: "button", "aria-label": label, title: label, testid, onclick },
    icon(),
  );
}

function offlineText(retryAtMs) {
  const waitS = Math.ceil(Math.max(0, (retryAtMs ?? 0) - Date.now()) / 1000);
  return `No connection. Your messages are kept${waitS > 0 ? `; trying again in ${waitS} s` : ""}.`;
}
