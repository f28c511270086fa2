// The first screen: a name is all it takes.

import { h, setText } from "./dom.js";

export class SignInView {
  #input;
  #button;
  #error;

  constructor({ message, signIn }) {
    this.#input = h("input", {
      id: "name",
      name: "name",
      type: "text",
      maxlength: 32,
      autocomplete: "username",
      autocapitalize: "none",
      spellcheck: "false",
      placeholder: "ana",
      required: true,
      "aria-describedby": "login-error",
      testid: "login-name",
    });
    this.#button = h("button", { class: "primary", type: "submit", testid: "login-submit" }, "Sign in");
    this.#error = h("p", { id: "login-error", class: "form-error", role: "alert", testid: "login-error" }, message);
    const form = h(
      "form",
      { class: "sign-in-card", onsubmit: (event) => this.#submit(event, signIn) },
      h("img", { src: "/favicon.svg", alt: "", width: 56, height: 56 }),
      h("h1", {}, "Tertulia"),
      h("p", { class: "quiet" }, "Pick a name to chat as. This is a development sign-in: any name will do."),
      h("label", { for: "name" }, "Your name"),
      this.#input,
      this.#error,
      this.#button,
    );
    this.element = h("main", { class: "sign-in" }, form);
  }

  focus() {
    this.#input.focus();
  }

  async #submit(event, signIn) {
    event.preventDefault();
    this.#button.disabled = true;
    setText(this.#error, "");
    try {
      await signIn(this.#input.value);
    } catch (error) {
      setText(this.#error, error.message);
      this.#button.disabled = false;
      this.#input.focus();
    }
  }
}
