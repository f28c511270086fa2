// Chooses users by name, one after the other.

import { h, setText } from "./dom.js";
import * as icons from "./icons.js";

export class PeopleInput {
  #findUser;
  #input;
  #error;
  #chosen;
  #users = new Map();

  /** `findUser(name)` resolves with `{ user_id, name }`. */
  constructor({ findUser, label, testid }) {
    this.#findUser = findUser;
    this.#input = h("input", {
      type: "text",
      maxlength: 32,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      placeholder: "A name, then Enter",
      "aria-label": label,
      testid,
      onkeydown: (event) => this.#key(event),
    });
    this.#error = h("p", { class: "form-error", role: "alert" });
    this.#chosen = h("ul", { class: "chips", "aria-label": "Chosen" });
    this.element = h("div", { class: "people-input" }, this.#chosen, this.#input, this.#error);
  }

  /** The chosen users' ids, with what stands in the field; `null` where that is nobody. */
  async take() {
    if (this.#input.value.trim() && !(await this.#add())) return null;
    return [...this.#users.keys()];
  }

  clear() {
    this.#users.clear();
    this.#chosen.replaceChildren();
    this.#input.value = "";
  }

  focus() {
    this.#input.focus();
  }

  #key(event) {
    if (event.key === "Backspace" && !this.#input.value) this.#remove([...this.#users.keys()].at(-1));
    if ((event.key !== "Enter" && event.key !== ",") || event.isComposing || !this.#input.value.trim()) return;
    event.preventDefault();
    this.#add();
  }

  async #add() {
    setText(this.#error, "");
    try {
      const user = await this.#findUser(this.#input.value);
      this.#input.value = "";
      if (!this.#users.has(user.user_id)) this.#chosen.append(this.#chip(user));
      this.#users.set(user.user_id, user);
      return true;
    } catch (error) {
      setText(this.#error, error.message);
      return false;
    }
  }

  #chip({ user_id: id, name }) {
    const label = { "aria-label": `Remove ${name}`, title: `Remove ${name}` };
    const remove = h("button", { type: "button", ...label, onclick: () => this.#remove(id) }, icons.close());
    return h("li", { class: "chip", "data-user-id": id }, name, remove);
  }

  #remove(id) {
    this.#users.delete(id);
    this.#chosen.querySelector(`[data-user-id="${id}"]`)?.remove();
    this.#input.focus();
  }
}
