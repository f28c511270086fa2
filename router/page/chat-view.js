// The second screen: the list and one conversation, side by side or, on a phone, one at a time; and what the connection
// is doing. Which conversation is open is in the address, so that a reload and the back button do what they should.

import { ConversationView } from "./conversation-view.js";
import { avatar, h, setAvatar, setText } from "./dom.js";
import * as icons from "./icons.js";
import { ListView } from "./list-view.js";

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
  #renderQueued = false;
  #countdown;
  #listeners = new AbortController();

  constructor(client, { findUser, signOut }) {
    this.#client = client;
    this.#list = new ListView(client, { findUser, open: (conversation) => this.#go(conversation) });
    this.#conversation = new ConversationView(client, { back: () => (location.hash = "") });
    this.#me = avatar(client.user.user_id, "?");
    this.#myName = h("span", { class: "my-name", testid: "me" });
    this.#connection = h("span", { class: "connection", role: "status", testid: "connection" });
    const label = { "aria-label": "Sign out", title: "Sign out", testid: "sign-out" };
    const out = h(
      "button",
      { class: "icon-button", type: "button", ...label, onclick: () => this.#leave(signOut) },
      icons.signOut(),
    );
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
        h("header", { class: "bar" }, this.#me, h("span", { class: "me" }, this.#myName, this.#connection), out),
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
    const unread = this.#client.list().reduce((sum, conversation) => sum + this.#client.unread(conversation), 0);
    document.title = unread > 0 ? `(${unread}) Tertulia` : "Tertulia";
  }

  #renderConnection() {
    const { state, retryAtMs } = this.#client;
    this.#connection.dataset.state = state;
    setText(this.#connection, STATES[state]);
    this.#banner.hidden = state === "online";
    this.#banner.dataset.state = state;
    this.#retry.hidden = state !== "offline";
    setText(this.#bannerText, state === "connecting" ? "Connecting…" : offlineText(retryAtMs));
  }

  #shown() {
    if (document.visibilityState !== "visible") return;
    this.#client.reconnectNow();
    this.#client.probe();
    this.changed();
  }

  #key(event) {
    if (event.key === "Escape" && this.#client.opened) location.hash = "";
  }
}

function offlineText(retryAtMs) {
  const waitS = Math.ceil(Math.max(0, (retryAtMs ?? 0) - Date.now()) / 1000);
  return `No connection. Your messages are kept${waitS > 0 ? `; trying again in ${waitS} s` : ""}.`;
}
