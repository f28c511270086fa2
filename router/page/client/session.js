// The sign-in: where it is kept, and the development endpoints that give it.

const KEY = "tertulia.session";

/**
 * Kept per window, so that two windows can be two people, and for this browser as a whole, so that a new window starts
 * as the last one.
 */
export class Session {
  load() {
    for (const storage of [sessionStorage, localStorage]) {
      try {
        const saved = JSON.parse(storage.getItem(KEY));
        if (saved?.token && saved.user?.user_id) {
          sessionStorage.setItem(KEY, JSON.stringify(saved));
          return { login: saved.user.name, ...saved };
        }
      } catch {
        storage.removeItem(KEY);
      }
    }
    return null;
  }

  save(opened) {
    for (const storage of [sessionStorage, localStorage]) storage.setItem(KEY, JSON.stringify(opened));
  }

  clear() {
    for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
  }
}

const NAME = /^[a-z0-9_-]{1,32}$/;

/** Users by name, for development: anybody may be anybody. */
export class DevAccounts {
  /** Resolves with `{ token, user: { user_id, name }, login }`; `login` stays, the user's name may change. */
  async signIn(name) {
    const login = normal(name);
    const { token, user } = await this.#fetch("/v1/dev/login", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: login }),
    });
    return { token, user, login };
  }

  /** Resolves with `{ user_id, name }`. */
  async find(name) {
    return this.#fetch(`/v1/dev/users/${encodeURIComponent(normal(name))}`);
  }

  async #fetch(path, options) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("The server cannot be reached. Check the connection and try again.");
    }
    if (response.status === 404) throw new Error("This server has no development sign-in.");
    if (!response.ok) throw new Error(`The server answered ${response.status}. Try again in a moment.`);
    return response.json();
  }
}

function normal(name) {
  const text = name.trim().toLowerCase();
  if (!NAME.test(text)) throw new Error("A name has 1 to 32 letters a–z, digits, “_” or “-”.");
  return text;
}
