// What happened to a group, as a sentence. Pure.

const NOBODY = "0".repeat(26);
/** More names than this become a number. */
const NAMES_MAX = 4;

/** `nameOf(userId)` gives the name of anybody but `me`. */
export function groupText(event, { me, nameOf }) {
  const { sender_id: sender, members = [] } = event;
  const who = sender === NOBODY ? "Tertulia" : sender === me ? "You" : nameOf(sender);
  const ids = (chosen) => chosen.map((member) => member.user_id);
  switch (event.kind) {
    case "created":
      return createdText(
        who,
        event.name,
        names(
          ids(members).filter((id) => id !== sender),
          me,
          nameOf,
        ),
      );
    case "renamed":
      return `${who} named the group “${event.name}”`;
    case "joined":
      return `${who} added ${names(ids(members), me, nameOf)}`;
    case "left":
      return leftText(who, sender, members, me, nameOf);
    case "role_changed":
      return members.map((member) => roleText(who, member, me, nameOf)).join(". ");
    default:
      return "";
  }
}

function createdText(who, name, added) {
  return `${who} created the group “${name}”${added ? ` with ${added}` : ""}`;
}

function leftText(who, sender, members, me, nameOf) {
  const gone = members.filter((member) => member.role !== "owner").map((member) => member.user_id);
  const heir = members.find((member) => member.role === "owner");
  const own = gone.length === 1 && gone[0] === sender;
  const text = own ? `${who} left` : `${who} removed ${names(gone, me, nameOf)}`;
  if (!heir) return text;
  return `${text}. ${heir.user_id === me ? "You are the owner now" : `${nameOf(heir.user_id)} is the owner now`}`;
}

function roleText(who, { user_id: id, role }, me, nameOf) {
  const whom = id === me ? "you" : nameOf(id);
  const article = { member: "a plain member", admin: "an admin", owner: "an owner" }[role] ?? role;
  return `${who} made ${whom} ${article}`;
}

/** “Ana, Bruno and you”. */
export function names(ids, me, nameOf) {
  const sorted = [...ids.filter((id) => id !== me), ...ids.filter((id) => id === me)];
  const shown = sorted.length > NAMES_MAX ? sorted.slice(0, NAMES_MAX - 1) : sorted;
  const texts = shown.map((id) => (id === me ? "you" : nameOf(id)));
  if (sorted.length > shown.length) texts.push(`${sorted.length - shown.length} others`);
  return texts.length > 1 ? `${texts.slice(0, -1).join(", ")} and ${texts.at(-1)}` : (texts[0] ?? "");
}
