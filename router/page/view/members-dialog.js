// A group's name and members: who they are, what they may do, and what one may do about it.

import { confirmed, openDialog } from "./dialog.js";
import { avatar, h, reconcile, setAvatar, setText } from "./dom.js";
import { GROUP_NAME_MAX } from "./group-dialog.js";
import * as icons from "./icons.js";
import { menuItem, openMenu } from "./menu.js";
import { PeopleInput } from "./people-input.js";

const ROLE_ORDER = { owner: 0, admin: 1, member: 2 };

export class MembersDialog {
  #client;
  #conversation;
  #dialog;
  #rename;
  #name;
  #add;
  #count;
  #list;
  #more;
  #leave;

  /** `closed()`: it is gone and need not be rendered any more. */
  constructor(client, conversation, { findUser, closed }) {
    this.#client = client;
    this.#conversation = conversation;
    this.#name = h("input", {
      type: "text",
      maxlength: GROUP_NAME_MAX,
      required: true,
      autocomplete: "off",
      "aria-label": "Name of the group",
      testid: "rename-name",
    });
    this.#name.value = conversation.name ?? "";
    const renameButton = h("button", { class: "secondary", type: "submit", testid: "rename-submit" }, "Rename");
    this.#rename = h(
      "form",
      { class: "inline-form", onsubmit: (event) => this.#renamed(event) },
      this.#name,
      renameButton,
    );
    const people = new PeopleInput({ findUser, label: "People to add", testid: "add-member" });
    const addButton = h("button", { class: "secondary", type: "submit", testid: "add-submit" }, "Add");
    this.#add = h(
      "form",
      { class: "inline-form", onsubmit: (event) => this.#added(event, people) },
      people.element,
      addButton,
    );
    this.#count = h("h3", { testid: "member-count" });
    this.#list = h("ul", { class: "members", "aria-label": "Members" });
    this.#more = h("p", { class: "quiet" });
    this.#leave = h(
      "button",
      { class: "menu-item danger", type: "button", testid: "leave", onclick: () => this.#left() },
      icons.signOut(),
      "Leave the group",
    );
    const options = { title: "Group", testid: "members-dialog", className: "sheet", closed };
    this.#dialog = openDialog(options, this.#rename, this.#add, this.#count, this.#list, this.#more, this.#leave);
    this.render();
  }

  render() {
    const conversation = this.#conversation;
    const isAdmin = conversation.mayAs("admin");
    this.#rename.hidden = this.#add.hidden = !isAdmin;
    this.#leave.hidden = !conversation.isMember;
    const count = conversation.memberCount;
    setText(this.#count, count === null ? "Members" : count === 1 ? "1 member" : `${count.toLocaleString()} members`);
    const members = [...(conversation.members?.values() ?? [])].sort((a, b) => this.#compare(a, b));
    reconcile(
      this.#list,
      members,
      (it) => it.user_id,
      (it) => this.#make(it),
      (element, it) => this.#update(element, it),
    );
    const unlisted = (count ?? 0) - members.length;
    setText(this.#more, conversation.hasMoreMembers && unlisted > 0 ? `and ${unlisted.toLocaleString()} more` : "");
  }

  #compare(a, b) {
    const byRole = ROLE_ORDER[a.role] - ROLE_ORDER[b.role];
    return byRole || this.#client.nameOf(a.user_id).localeCompare(this.#client.nameOf(b.user_id));
  }

  #make({ user_id: id }) {
    const parts = {
      avatar: avatar(id, "?"),
      name: h("span", { class: "member-name", testid: "member-name" }),
      role: h("span", { class: "role" }),
      more: h("button", { class: "icon-button", type: "button", testid: "member-menu" }, icons.more()),
    };
    parts.more.addEventListener("click", () => this.#menu(this.#conversation.members.get(id), parts.more));
    const element = h("li", { class: "member", testid: "member" }, parts.avatar, parts.name, parts.role, parts.more);
    element.parts = parts;
    return element;
  }

  #update({ parts }, member) {
    const { user_id: id, role } = member;
    const name = this.#client.nameOf(id);
    setAvatar(parts.avatar, id, name);
    setText(parts.name, id === this.#client.user.user_id ? `${name} (you)` : name);
    setText(parts.role, role === "member" ? "" : role);
    parts.more.setAttribute("aria-label", `What to do about ${name}`);
    parts.more.classList.toggle("invisible", !this.#mayChange(member));
  }

  #mayChange({ user_id: id, role }) {
    if (id === this.#client.user.user_id) return false;
    return this.#conversation.mayAs("owner") || (this.#conversation.mayAs("admin") && role === "member");
  }

  #menu(member, anchor) {
    const { user_id: id, role } = member;
    const { actions } = this.#client;
    const give = (wanted, text) => () =>
      role === wanted
        ? []
        : [
            menuItem(text, icons.shield, () => actions.setRole(this.#conversation, id, wanted), {
              testid: `role-${wanted}`,
            }),
          ];
    const roles = [give("admin", "Make admin"), give("owner", "Make owner"), give("member", "Make plain member")];
    const items = this.#conversation.mayAs("owner") ? roles.flatMap((items) => items()) : [];
    const remove = () => actions.removeMember(this.#conversation, id);
    items.push(menuItem("Remove from the group", icons.trash, remove, { danger: true, testid: "remove-member" }));
    openMenu(anchor, this.#client.nameOf(id), ...items);
  }

  #renamed(event) {
    event.preventDefault();
    const name = this.#name.value.trim();
    if (name && name !== this.#conversation.name) this.#client.actions.rename(this.#conversation, name);
  }

  async #added(event, people) {
    event.preventDefault();
    const userIds = await people.take();
    if (!userIds || userIds.length === 0) return people.focus();
    people.clear();
    this.#client.actions.addMembers(this.#conversation, userIds);
  }

  #left() {
    const title = `Leave “${this.#client.title(this.#conversation)}”?`;
    const text = "You will get nothing more of this group, and can come back only if somebody adds you.";
    confirmed({ title, text, action: "Leave" }, () => {
      this.#dialog.close();
      this.#client.actions.leave(this.#conversation);
    });
  }
}
