// A window over the page: what is behind it waits. Escape closes it, as does a click beside it.

import { h } from "./dom.js";
import * as icons from "./icons.js";

/** Opens it at once; returns the element. `close()` on it closes; it removes itself and then calls `closed`. */
export function openDialog({ title, testid, className = "", closed }, ...content) {
  const dialog = h("dialog", { class: `dialog ${className}`, testid, "aria-label": title });
  const label = { "aria-label": "Close", title: "Close", testid: "dialog-close" };
  const closeButton = h(
    "button",
    { class: "icon-button", type: "button", ...label, onclick: () => dialog.close() },
    icons.close(),
  );
  dialog.append(
    h(
      "div",
      { class: "dialog-body" },
      h("header", { class: "dialog-bar" }, h("h2", {}, title), closeButton),
      ...content,
    ),
  );
  dialog.addEventListener("pointerdown", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before something that cannot be taken back. */
export function confirmed({ title, text, action }, act) {
  const go = () => {
    dialog.close();
    act();
  };
  const dialog = openDialog(
    { title, testid: "confirm" },
    h("p", {}, text),
    h(
      "div",
      { class: "dialog-buttons" },
      h("button", { class: "secondary", type: "button", onclick: () => dialog.close() }, "Cancel"),
      h(
        "button",
        { class: "primary danger", type: "button", autofocus: true, testid: "confirm-yes", onclick: go },
        action,
      ),
    ),
  );
}

/** Whether something lies over the page that Escape should close first. */
export function somethingIsOpen() {
  return document.querySelector("dialog[open], :popover-open") !== null;
}
