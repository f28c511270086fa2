// One message as it is drawn: its bubble, what it answers, its reactions, and what went wrong with it.

import { h, hueOf, setText } from "./dom.js";
import * as icons from "./icons.js";
import { openMessageMenu, openReactionMenu, toggleReaction } from "./message-menu.js";
import { setTick, tick } from "./tick.js";
import { clockTime, exactTime } from "./time.js";
import { messageText } from "./words.js";

const FAILURES = { "dm:edit": "Not changed", "dm:delete": "Not deleted", "dm:react": "No reaction sent" };

/** `thread`: `{ client, conversation, reply(event), edit(event), goTo(eventId) }` of where it stands. */
export function makeMessage(item, thread) {
  const parts = {
    sender: h("span", { class: "sender" }),
    quote: h("button", { class: "quote", type: "button", tabindex: -1, hidden: true, testid: "quote" }),
    text: h("p", { class: "text", dir: "auto", testid: "message-text" }),
    files: h("ul", { class: "files", hidden: true }),
    edited: h("span", { class: "edited", hidden: true }, "edited"),
    time: h("time", {}),
    tick: item.mine ? tick() : null,
    reactions: h("ul", { class: "reactions", "aria-label": "Reactions", hidden: true, testid: "reactions" }),
    failures: h("div", { class: "failures", role: "alert" }),
  };
  const element = h("li", {
    class: `message ${item.mine ? "mine" : "theirs"}`,
    "data-mine": String(item.mine),
    role: "article",
    testid: "message",
  });
  const menu = (anchor) =>
    element.item.event && openMessageMenu(thread.client, thread.conversation, element.item, anchor, thread);
  const react = {
    "aria-label": "React",
    title: "React",
    onclick: (event) => openReactionMenu(thread.client, thread.conversation, element.item, event.currentTarget),
  };
  const more = {
    "aria-label": "More",
    title: "More",
    testid: "message-more",
    onclick: (event) => menu(event.currentTarget),
  };
  parts.react = h("button", { class: "act react", type: "button", tabindex: -1, ...react }, icons.smile());
  parts.more = h("button", { class: "act", type: "button", tabindex: -1, ...more }, icons.more());
  const meta = h("span", { class: "meta" }, parts.edited, parts.time, parts.tick);
  const bubble = h("div", { class: "bubble" }, parts.sender, parts.quote, parts.files, parts.text, meta);
  bubble.addEventListener("contextmenu", (event) => {
    // A mouse has the buttons beside; its own menu copies what is selected.
    if (event.pointerType === "mouse") return;
    event.preventDefault();
    menu(bubble);
  });
  element.addEventListener("keydown", (event) => {
    if (event.target !== element || (event.key !== "Enter" && event.key !== "ContextMenu")) return;
    event.preventDefault();
    menu(bubble);
  });
  element.append(
    h("div", { class: "line" }, bubble, h("div", { class: "acts" }, parts.react, parts.more)),
    parts.reactions,
    parts.failures,
  );
  element.parts = parts;
  return element;
}

export function updateMessage(element, item, thread) {
  const { parts } = element;
  const { client, conversation } = thread;
  element.item = item;
  element.classList.toggle("starts-group", item.startsGroup);
  element.classList.toggle("ends-group", item.endsGroup);
  element.classList.toggle("deleted", item.isDeleted);
  element.classList.toggle("mentions-me", Boolean(item.event?.mentions?.includes(client.user.user_id)));
  if (item.seq) element.dataset.seq = item.seq;
  if (item.event) element.dataset.id = item.event.id;
  element.dataset.state = item.state;
  parts.sender.hidden = item.mine || !conversation.isGroup || !item.startsGroup;
  if (!parts.sender.hidden) {
    parts.sender.className = `sender hue-${hueOf(item.sender)}`;
    setText(parts.sender, client.nameOf(item.sender));
  }
  updateQuote(parts.quote, item.quote, thread);
  const plain = item.text !== undefined && !item.isDeleted;
  setText(parts.text, plain ? item.text : item.isDeleted || item.isEncrypted ? messageText(item) : "");
  parts.text.hidden = parts.text.textContent === "";
  parts.text.classList.toggle("placeholder", !plain);
  updateFiles(parts.files, item.isDeleted ? [] : item.attachments);
  parts.edited.hidden = !item.isEdited || item.isDeleted;
  setText(parts.time, clockTime(item.atMs));
  parts.time.title = exactTime(item.atMs);
  if (item.mine) setTick(parts.tick, item.progress);
  parts.react.hidden = !item.event || item.isDeleted || !conversation.isMember;
  parts.more.hidden = !item.event || item.isDeleted;
  updateReactions(parts.reactions, item, thread);
  updateFailures(parts.failures, item.failures, client);
}

function updateQuote(element, quote, thread) {
  element.hidden = !quote;
  if (!quote) return;
  const { client } = thread;
  const who = quote.event ? client.nameOf(quote.event.sender_id) : "";
  const text = quote.event ? messageText(quote.event) : "An earlier message";
  const key = `${quote.id} ${who} ${text}`;
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  element.setAttribute("aria-label", `Answers ${who ? `${who}: ` : ""}${text}`);
  element.replaceChildren(h("strong", {}, who), h("span", {}, text));
  element.onclick = () => thread.goTo(quote.id);
}

function updateFiles(element, files) {
  const names = files.map((file) => file.name);
  element.hidden = names.length === 0;
  if (element.dataset.names === names.join("\n")) return;
  element.dataset.names = names.join("\n");
  // Where the bytes are is the app's affair: this page shows that there is a file.
  element.replaceChildren(...names.map((name) => h("li", { class: "file" }, icons.clip(), name)));
}

function updateReactions(element, item, { client, conversation }) {
  const key = item.reactions.map(({ emoji, count, mine }) => `${emoji}${count}${mine}`).join(" ");
  element.hidden = item.reactions.length === 0;
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const chips = item.reactions.map(({ emoji, count, mine }) => {
    const label = `${emoji}, ${count}${mine ? ", yours too: take back" : ": add yours"}`;
    const properties = {
      class: "reaction",
      type: "button",
      "aria-pressed": String(mine),
      "aria-label": label,
      testid: "reaction",
    };
    const toggle = (event) =>
      toggleReaction(client, conversation, event.currentTarget.closest("li.message").item, emoji);
    return h(
      "li",
      {},
      h("button", { ...properties, onclick: toggle }, emoji, h("span", { class: "count" }, String(count))),
    );
  });
  element.replaceChildren(...chips);
}

function updateFailures(element, failures, client) {
  const key = failures.map((item) => item.data.temp_id).join(" ");
  if ((element.dataset.key ?? "") === key) return;
  element.dataset.key = key;
  element.replaceChildren(...failures.map((item) => failureLine(item, client)));
}

/** Why something was not sent, and what can be done. */
export function failureLine(item, client) {
  return h(
    "p",
    { class: "failure", testid: "failure" },
    `${FAILURES[item.type] ?? "Not sent"}: ${item.reason} `,
    h("button", { type: "button", class: "link", onclick: () => client.retry(item) }, "Try again"),
    " ",
    h("button", { type: "button", class: "link", onclick: () => client.discard(item) }, "Discard"),
  );
}
