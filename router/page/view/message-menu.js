// What can be done about a message: react, reply, copy, edit, delete; and who has read it.

import { readersOf } from "../model/progress.js";
import { names } from "../model/group-text.js";
import { isEditable } from "../model/timeline.js";
import { confirmed } from "./dialog.js";
import { h } from "./dom.js";
import * as icons from "./icons.js";
import { menuItem, openMenu } from "./menu.js";

const QUICK_REACTIONS = ["👍", "❤️", "😂", "😮", "😢", "🙏"];
const EMOJI_BYTES_MAX = 64;

/** `item`: of the timeline, with an event. `compose`: `{ reply(event), edit(event) }`. */
export function openMessageMenu(client, conversation, item, anchor, compose) {
  const { event, mine } = item;
  const parts = [];
  const me = client.user.user_id;
  if (!item.isDeleted && conversation.isMember) {
    parts.push(reactionBar(client, conversation, item));
    parts.push(menuItem("Reply", icons.reply, () => compose.reply(event), { testid: "menu-reply" }));
  }
  if (item.text && !item.isDeleted && navigator.clipboard) {
    parts.push(
      menuItem("Copy text", icons.copy, () => navigator.clipboard.writeText(item.text), { testid: "menu-copy" }),
    );
  }
  if (isEditable(event, me) && conversation.isMember) {
    parts.push(menuItem("Edit", icons.pencil, () => compose.edit(event), { testid: "menu-edit" }));
  }
  if (!item.isDeleted && (mine ? conversation.isMember : conversation.mayAs("admin"))) {
    parts.push(
      menuItem("Delete", icons.trash, () => askToErase(client, conversation, event), {
        danger: true,
        testid: "menu-delete",
      }),
    );
  }
  const readers = conversation.members ? readersOf(event, conversation.members, me) : [];
  if (mine && conversation.isGroup && readers.length > 0) {
    const who = names(readers, me, (id) => client.nameOf(id));
    parts.push(h("p", { class: "menu-note" }, icons.eye(), `Read by ${who}`));
  }
  if (parts.length > 0) openMenu(anchor, "Message", ...parts);
}

/** The emoji alone. */
export function openReactionMenu(client, conversation, item, anchor) {
  openMenu(anchor, "React", reactionBar(client, conversation, item));
}

/** Adds a reaction, or takes back one's own. */
export function toggleReaction(client, conversation, item, emoji) {
  const mine = item.reactions.some((reaction) => reaction.emoji === emoji && reaction.mine);
  client.actions.react(conversation, item.event, emoji, mine ? "remove" : "add");
}

function reactionBar(client, conversation, item) {
  const react = (emoji, element) => {
    element.closest("[popover]").hidePopover();
    toggleReaction(client, conversation, item, emoji);
  };
  const quick = QUICK_REACTIONS.map((emoji) => {
    const mine = item.reactions.some((reaction) => reaction.emoji === emoji && reaction.mine);
    const label = mine ? `Take back ${emoji}` : `React with ${emoji}`;
    const properties = {
      class: "emoji",
      type: "button",
      role: "menuitemcheckbox",
      "aria-checked": String(mine),
      "aria-label": label,
    };
    return h(
      "button",
      { ...properties, testid: "react", onclick: (event) => react(emoji, event.currentTarget) },
      emoji,
    );
  });
  return h("div", { class: "reaction-bar" }, ...quick, anyEmoji(react));
}

/** Any other emoji is typed, or chosen with the system's own picker. */
function anyEmoji(react) {
  const label = { "aria-label": "React with any emoji", placeholder: "+", title: "Any emoji", maxlength: 16 };
  const key = (event) => {
    const emoji = event.target.value.trim();
    if (event.key !== "Enter" || event.isComposing || !emoji) return;
    event.preventDefault();
    if (new TextEncoder().encode(emoji).length <= EMOJI_BYTES_MAX) react(emoji, event.target);
  };
  return h("input", {
    class: "any-emoji",
    type: "text",
    autocomplete: "off",
    ...label,
    testid: "any-emoji",
    onkeydown: key,
  });
}

function askToErase(client, conversation, event) {
  const text = "It disappears for everybody, and cannot be brought back.";
  confirmed({ title: "Delete this message?", text, action: "Delete" }, () => client.actions.erase(conversation, event));
}
