// Where messages are written: new ones, answers, and new words for one's own.

import { h, setText } from "./dom.js";
import * as icons from "./icons.js";
import { messageText } from "./words.js";

const CONTENT_BYTES_MAX = 16 * 1024;
/** A text that nobody continues for so long is not being typed. */
const TYPING_PAUSE_MS = 5_000;
const FRESH = { text: "", mode: null };

export class Composer {
  #callbacks;
  #id = null;
  /** Conversation id → `{ text, mode }`. */
  #drafts = new Map();
  /** `null`, or `{ kind: "reply" | "edit", event, who }`. */
  #mode = null;
  #input;
  #error;
  #about;
  #aboutText;
  #typingTimer = null;

  /**
   * Callbacks: `send(text, mode)` returns whether there was room; `typing(isTyping)`; `editLast()`; `resized()`.
   */
  constructor(callbacks) {
    this.#callbacks = callbacks;
    this.#input = h("textarea", {
      rows: 1,
      name: "message",
      placeholder: "Message",
      "aria-label": "Message",
      testid: "composer",
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#key(event),
    });
    this.#error = h("p", { class: "form-error", role: "alert", testid: "composer-error" });
    this.#aboutText = h("span", { class: "about-text" });
    const cancelLabel = { "aria-label": "Cancel", title: "Cancel", testid: "cancel-mode" };
    const cancel = h(
      "button",
      { class: "icon-button", type: "button", ...cancelLabel, onclick: () => this.#cancel() },
      icons.close(),
    );
    this.#about = h("div", { class: "about", hidden: true, testid: "about" }, this.#aboutText, cancel);
    const sendLabel = { "aria-label": "Send", title: "Send", testid: "send" };
    this.element = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.#error,
      this.#about,
      this.#input,
      h("button", { class: "send", type: "submit", ...sendLabel }, icons.send()),
    );
  }

  /** Of another conversation now; what was begun in the one before is kept. */
  show(conversationId) {
    this.#keepDraft();
    this.#id = conversationId;
    if (!conversationId) return;
    const { text, mode } = this.#drafts.get(conversationId) ?? FRESH;
    this.#input.value = text;
    setText(this.#error, "");
    this.#setMode(mode);
  }

  setTitle(title) {
    this.#input.placeholder = `Message ${title}`;
  }

  reply(event, who) {
    if (this.#mode?.kind === "edit") this.#input.value = "";
    this.#setMode({ kind: "reply", event, who });
    this.focus();
  }

  edit(event) {
    this.#input.value = event.content;
    this.#setMode({ kind: "edit", event, who: "" });
    this.focus();
    this.#input.setSelectionRange(event.content.length, event.content.length);
  }

  focus() {
    this.#input.focus({ preventScroll: true });
  }

  resize() {
    this.#input.style.height = "auto";
    const borders = this.#input.offsetHeight - this.#input.clientHeight;
    this.#input.style.height = `${this.#input.scrollHeight + borders}px`;
    this.#callbacks.resized();
  }

  #keepDraft() {
    clearTimeout(this.#typingTimer);
    if (!this.#id) return;
    if (this.#input.value || this.#mode) this.#drafts.set(this.#id, { text: this.#input.value, mode: this.#mode });
    else this.#drafts.delete(this.#id);
  }

  #setMode(mode) {
    this.#mode = mode;
    this.#about.hidden = !mode;
    if (mode) {
      const title = mode.kind === "edit" ? "Edit message" : `Reply to ${mode.who}`;
      this.#aboutText.replaceChildren(h("strong", {}, title), h("span", {}, messageText(mode.event)));
    }
    this.resize();
  }

  #cancel() {
    if (this.#mode?.kind === "edit") this.#input.value = "";
    this.#setMode(null);
    this.focus();
  }

  #typed() {
    this.resize();
    clearTimeout(this.#typingTimer);
    const isTyping = this.#input.value.trim() !== "" && this.#mode?.kind !== "edit";
    this.#callbacks.typing(isTyping);
    if (isTyping) this.#typingTimer = setTimeout(() => this.#callbacks.typing(false), TYPING_PAUSE_MS);
  }

  #key(event) {
    if (event.key === "Escape" && this.#mode) {
      event.preventDefault();
      return this.#cancel();
    }
    if (event.key === "ArrowUp" && !this.#input.value && !this.#mode) {
      event.preventDefault();
      return this.#callbacks.editLast();
    }
    // On a touch keyboard Enter is a new line; there the button sends.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#input.value.trim();
    if (!text) return;
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > CONTENT_BYTES_MAX) {
      const [kilobytes, most] = [Math.ceil(bytes / 1024), CONTENT_BYTES_MAX / 1024];
      setText(this.#error, `This message is too long: ${kilobytes} KB, at most ${most} KB fit.`);
      return;
    }
    clearTimeout(this.#typingTimer);
    if (!this.#callbacks.send(text, this.#mode)) {
      setText(this.#error, "Too many messages are waiting to be sent. Wait for the connection to come back.");
      return;
    }
    setText(this.#error, "");
    this.#input.value = "";
    this.#drafts.delete(this.#id);
    this.#setMode(null);
    this.#input.focus();
  }
}
