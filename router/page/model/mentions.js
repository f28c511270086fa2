// Whom a text mentions: members whose name stands in it after an `@`. Pure.

const MENTIONS_MAX = 50;
/** What may not follow a name: then it is the beginning of another. */
const WORD = /[\p{L}\p{N}_-]/u;

/** `members`: user id → member, or `null` where they are not known. Returns user ids. */
export function mentionsIn(text, members, nameOf) {
  if (!members || !text.includes("@")) return [];
  const mentioned = [...members.keys()].filter((id) => mentions(text, nameOf(id)));
  return mentioned.slice(0, MENTIONS_MAX);
}

function mentions(text, name) {
  const [lowered, wanted] = [text.toLowerCase(), `@${name.toLowerCase()}`];
  for (let at = lowered.indexOf(wanted); at >= 0; at = lowered.indexOf(wanted, at + 1)) {
    const next = lowered.slice(at + wanted.length);
    if (!next || !WORD.test([...next][0])) return true;
  }
  return false;
}
