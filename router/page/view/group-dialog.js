// Makes a new group: its name and its first members.

import { openDialog } from "./dialog.js";
import { h, setText } from "./dom.js";
import { PeopleInput } from "./people-input.js";

export const GROUP_NAME_MAX = 64;

/** `created(conversation)` is called with a group that is on its way. */
export function openGroupDialog(client, { findUser, created }) {
  const name = h("input", {
    id: "group-name",
    type: "text",
    maxlength: GROUP_NAME_MAX,
    required: true,
    autocomplete: "off",
    testid: "group-name",
  });
  const people = new PeopleInput({ findUser, label: "Members", testid: "group-member" });
  const error = h("p", { class: "form-error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    const title = name.value.trim();
    const userIds = title ? await people.take() : null;
    if (!userIds) return;
    const group = client.actions.createGroup(
      title,
      userIds.filter((id) => id !== client.user.user_id),
    );
    if (!group) return setText(error, "Too much is waiting to be sent. Wait for the connection to come back.");
    dialog.close();
    created(group);
  };
  const form = h(
    "form",
    { class: "dialog-form", onsubmit: submit },
    h("label", { for: "group-name" }, "Name of the group"),
    name,
    h("span", { class: "label" }, "Members"),
    people.element,
    error,
    h("button", { class: "primary", type: "submit", testid: "group-create" }, "Create group"),
  );
  const dialog = openDialog({ title: "New group", testid: "group-dialog" }, form);
  name.focus();
}
