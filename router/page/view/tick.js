// The mark that says how far one's own message has come.

import { h } from "./dom.js";
import * as icons from "./icons.js";

const MARKS = {
  pending: { icon: icons.clock, label: "Waiting to be sent" },
  sent: { icon: icons.check, label: "Sent" },
  delivered: { icon: icons.checks, label: "Delivered" },
  read: { icon: icons.checks, label: "Read" },
  failed: { icon: icons.warning, label: "Not sent" },
};

export function tick() {
  return h("span", { class: "tick", role: "img", testid: "tick" });
}

export function setTick(element, state) {
  if (element.dataset.state === state) return;
  const mark = MARKS[state];
  element.dataset.state = state;
  element.setAttribute("aria-label", mark.label);
  element.title = mark.label;
  element.replaceChildren(mark.icon());
}
