// How others see the user: the name, and whether they see when one is online.

import { openDialog } from "./dialog.js";
import { h, setText } from "./dom.js";

const NAME_MAX = 64;

export function openProfileDialog(client) {
  const { user } = client;
  const name = h("input", {
    id: "my-name",
    type: "text",
    maxlength: NAME_MAX,
    required: true,
    autocomplete: "off",
    testid: "profile-name",
  });
  name.value = user.name ?? "";
  const shares = h("input", { type: "checkbox", role: "switch", class: "switch", testid: "profile-presence" });
  shares.checked = user.shares_presence !== false;
  const error = h("p", { class: "form-error", role: "alert" });
  const save = h("button", { class: "primary", type: "submit", testid: "profile-save" }, "Save");
  const submit = async (event) => {
    event.preventDefault();
    const change = { shares_presence: shares.checked };
    if (name.value.trim() && name.value.trim() !== user.name) change.name = name.value.trim();
    save.disabled = true;
    try {
      await client.setProfile(change);
      dialog.close();
    } catch (refused) {
      setText(error, refused.code === "lost" ? "There is no connection. Try again once it is back." : refused.message);
      save.disabled = false;
    }
  };
  const form = h(
    "form",
    { class: "dialog-form", onsubmit: submit },
    h("label", { for: "my-name" }, "Your name"),
    name,
    h("label", { class: "switch-row" }, h("span", {}, "Others see when I am online and typing"), shares),
    error,
    save,
  );
  const dialog = openDialog({ title: "Your profile", testid: "profile-dialog" }, form);
}
