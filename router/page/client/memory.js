// Small things that this browser remembers about a user.

const ENTRIES_MAX = 1_000;

/** A map of text to a value in one key of localStorage; the oldest entries go first. */
export class StoredMap {
  #key;
  #entries;

  constructor(key) {
    this.#key = key;
    try {
      this.#entries = new Map(JSON.parse(localStorage.getItem(key) ?? "[]"));
    } catch {
      this.#entries = new Map();
    }
  }

  get(name) {
    return this.#entries.get(name);
  }

  set(name, value) {
    if (this.#entries.get(name) === value) return;
    this.#entries.delete(name);
    this.#entries.set(name, value);
    if (this.#entries.size > ENTRIES_MAX) this.#entries.delete(this.#entries.keys().next().value);
    try {
      localStorage.setItem(this.#key, JSON.stringify([...this.#entries]));
    } catch (error) {
      console.warn("not remembered:", error.name);
    }
  }
}
