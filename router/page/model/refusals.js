// Why a command was refused, for people. The server's own words are for developers.

const TEXTS = {
  blocked: "one of you has blocked the other.",
  forbidden: "your role in this group does not allow it.",
  not_found: "it is not there any more, or you are no longer a member.",
  conflict: "something else was sent under the same name.",
  limit_reached: "there is no room for more.",
};

export function refusalText({ code, message }) {
  return TEXTS[code] ?? `${message}.`;
}
