// A menu beside the button that opened it. Arrow keys move in it; Escape and a click elsewhere close it.

import { h } from "./dom.js";

const MARGIN_PX = 8;

/** `parts`: items and other elements; an item's action runs once the menu is gone. */
export function openMenu(anchor, label, ...parts) {
  const opener = document.activeElement;
  const menu = h(
    "div",
    { class: "menu", role: "menu", popover: "auto", "aria-label": label, testid: "menu", onkeydown: moveFocus },
    ...parts,
  );
  // What is outside of a modal dialog cannot be clicked.
  (anchor.closest("dialog") ?? document.body).append(menu);
  menu.addEventListener("toggle", ({ newState }) => {
    if (newState !== "closed") return;
    const hadFocus = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    if (hadFocus) opener?.focus({ preventScroll: true });
  });
  menu.showPopover();
  place(menu, anchor.getBoundingClientRect());
  menu.querySelector("button, input")?.focus({ preventScroll: true });
  return menu;
}

/** `icon` is a function of `icons.js`. */
export function menuItem(text, icon, action, { danger = false, testid } = {}) {
  const run = (event) => {
    event.currentTarget.closest("[popover]").hidePopover();
    action();
  };
  const properties = { class: danger ? "menu-item danger" : "menu-item", type: "button", role: "menuitem", testid };
  return h("button", { ...properties, onclick: run }, icon(), text);
}

function place(menu, anchor) {
  const { width, height } = menu.getBoundingClientRect();
  const below = anchor.bottom + 4 + height <= innerHeight - MARGIN_PX;
  const top = below ? anchor.bottom + 4 : anchor.top - 4 - height;
  const left = anchor.left + anchor.width / 2 < innerWidth / 2 ? anchor.left : anchor.right - width;
  menu.style.top = `${clamp(top, innerHeight - height)}px`;
  menu.style.left = `${clamp(left, innerWidth - width)}px`;
}

function clamp(value, max) {
  return Math.max(MARGIN_PX, Math.min(value, max - MARGIN_PX));
}

function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step || event.target.tagName === "INPUT") return;
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  event.preventDefault();
  buttons[(at + step + buttons.length) % buttons.length].focus();
}
