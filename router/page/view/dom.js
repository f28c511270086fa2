// The few things needed to build a page by hand. Text becomes text nodes: nothing a user wrote is ever parsed as HTML.

/** `h("p", { class: "x", testid: "y", onclick }, "text", child)`. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "testid") element.dataset.testid = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line icon of 24 × 24 from path data. */
export function icon(...paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const data of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", data);
    svg.append(path);
  }
  return svg;
}

/** Writes only what differs, so that a selection or a screen reader is not disturbed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `container` be those of `items`, in order, reusing the element of each key.
 * `make(item)` builds one, `update(element, item)` brings it up to date.
 */
export function reconcile(container, items, keyOf, make, update) {
  const present = new Map([...container.children].map((child) => [child.dataset.key, child]));
  let position = container.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = present.get(key);
    if (element) {
      present.delete(key);
    } else {
      element = make(item);
      element.dataset.key = key;
    }
    if (element === position) position = position.nextElementSibling;
    else container.insertBefore(element, position);
    update(element, item);
  }
  for (const gone of present.values()) gone.remove();
}

/** One of twelve colours, always the same for an id. */
export function hueOf(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) % 9973;
  return sum % 12;
}

export function avatar(id, name) {
  const element = h("span", { class: "avatar", "aria-hidden": "true" });
  setAvatar(element, id, name);
  return element;
}

export function setAvatar(element, id, name) {
  element.className = `avatar hue-${hueOf(id)}`;
  setText(element, initials(name));
}

function initials(name) {
  const words = name.match(/[\p{L}\p{N}]+/gu) ?? [];
  const first = [...(words[0] ?? "?")][0];
  const second = words.length > 1 ? [...words.at(-1)][0] : "";
  return (first + second).toUpperCase();
}
