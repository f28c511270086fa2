// One session with the router: opens the WebSocket, says hello, matches replies to commands, notices a dead link and
// comes back by itself. Knows nothing of conversations.

const SUBPROTOCOL = "tertulia.v1.json";
const OPEN_TIMEOUT_MS = 8_000;
/** Longer than the router holds a command while a shard changes hands (5 s by default). */
const REPLY_TIMEOUT_MS = 12_000;
const PROBE_TIMEOUT_MS = 3_000;
const BACKOFF_FIRST_MS = 400;
const BACKOFF_MAX_MS = 15_000;
const COMMANDS_WAITING_MAX = 1_000;
const CLOSE_NORMAL = 1000;
const CLOSE_UNAUTHORIZED = 4401;
const CLOSE_OUTDATED = 4426;
/** Answers to `hello` after which trying again is of no use: the token is not, the user is disabled, the page is too old. */
const REFUSALS = ["unauthorized", "token_expired", "forbidden", "client_outdated"];

/** What a command was answered with, or `lost` where the connection went before the answer came. */
export class CommandError extends Error {
  constructor({ code, message, retryable, retry_after_ms: retryAfterMs }) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Full jitter: anything from 0 to a limit that doubles with each attempt. */
export function fullJitterMs(attempt) {
  return Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
}

/**
 * Callbacks: `hello()` gives the data of the hello; `welcome(data)`; `push(type, data)`; `state(state, retryAtMs)` with
 * `connecting`, `online` or `offline`; `refused(code)`: the answer is one of `REFUSALS`, and no attempt follows by itself.
 */
export class Connection {
  #callbacks;
  #socket = null;
  #state = "offline";
  #attempt = 0;
  #nextId = 1;
  #waiting = new Map();
  #queue = [];
  #inFlightMax = 1;
  #timers = new Map();
  #stopped = true;
  #goAway = false;
  #probing = false;
  #pingIntervalMs = 25_000;

  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  get state() {
    return this.#state;
  }

  get isOnline() {
    return this.#state === "online";
  }

  start() {
    this.#stopped = false;
    this.#open();
  }

  stop() {
    this.#stopped = true;
    this.#drop(CLOSE_NORMAL);
    this.#clearTimers();
    this.#setState("offline");
  }

  /** Now instead of after the wait. */
  reconnectNow() {
    if (this.#stopped || this.#state !== "offline") return;
    this.#attempt = 0;
    this.#open();
  }

  /** Asks whether the link still lives; a dead one is dropped within seconds. */
  probe() {
    if (this.#state !== "online" || this.#probing) return;
    this.#probing = true;
    this.#timer("probe", PROBE_TIMEOUT_MS, () => this.#lost());
    this.request("ping")
      .catch(() => {})
      .finally(() => {
        this.#probing = false;
        this.#clear("probe");
      });
  }

  /** Resolves with the reply's data; rejects with a `CommandError`. Commands go out in the order of the calls. */
  request(type, data) {
    if (this.#state !== "online") return Promise.reject(lost());
    if (this.#queue.length >= COMMANDS_WAITING_MAX) {
      return Promise.reject(refusal("overloaded", "too many commands at once"));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ type, data, resolve, reject });
      this.#pump();
    });
  }

  #pump() {
    while (this.#queue.length > 0 && this.#waiting.size < this.#inFlightMax) this.#write(this.#queue.shift());
  }

  #write({ type, data, resolve, reject }) {
    const id = this.#nextId++;
    const timer = setTimeout(() => this.#lost(), REPLY_TIMEOUT_MS);
    this.#waiting.set(id, { resolve, reject, timer });
    this.#socket.send(JSON.stringify(data === undefined ? { id, type } : { id, type, data }));
  }

  #open() {
    this.#drop(CLOSE_NORMAL);
    this.#clearTimers();
    this.#goAway = false;
    this.#setState("connecting");
    const url = new URL("/v1/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket = socket;
    this.#timer("open", OPEN_TIMEOUT_MS, () => this.#lost());
    socket.onopen = () => this.#hello();
    socket.onmessage = ({ data }) => this.#frame(data);
    socket.onclose = ({ code }) => this.#lost(code);
  }

  #hello() {
    const data = this.#callbacks.hello();
    new Promise((resolve, reject) => this.#write({ type: "hello", data, resolve, reject })).then(
      (welcome) => {
        this.#clear("open");
        this.#attempt = 0;
        this.#inFlightMax = Math.max(1, Math.floor(welcome.limits.commands_in_flight / 2));
        this.#pingIntervalMs = welcome.ping_interval_ms;
        this.#armPing();
        this.#setState("online");
        this.#callbacks.welcome(welcome);
      },
      (error) => {
        if (REFUSALS.includes(error.code)) this.#refused(error.code);
        else this.#lost();
      },
    );
  }

  /** The browser hides WebSocket pings from scripts: silence for an interval and a half is suspicious. */
  #armPing() {
    this.#timer("ping", this.#pingIntervalMs * 1.5, () => {
      this.probe();
      this.#armPing();
    });
  }

  #frame(text) {
    let envelopes;
    try {
      envelopes = JSON.parse(text);
    } catch {
      return this.#lost();
    }
    if (this.#state === "online") this.#armPing();
    for (const envelope of Array.isArray(envelopes) ? envelopes : [envelopes]) this.#envelope(envelope);
    this.#pump();
  }

  #envelope({ id, type, data, error }) {
    if (type === "goaway") return this.#leave(data.retry_after_ms);
    if (id === undefined) {
      if (type === "error") console.warn("refused frame:", error.code, error.message);
      else this.#callbacks.push(type, data);
      return;
    }
    const command = this.#waiting.get(id);
    if (!command) return;
    this.#waiting.delete(id);
    clearTimeout(command.timer);
    if (type === "error") command.reject(new CommandError(error));
    else command.resolve(data);
  }

  /** The router is about to stop: stay until a random moment, so that not everybody moves at once. */
  #leave(retryAfterMs) {
    this.#goAway = true;
    this.#timer("reconnect", Math.random() * retryAfterMs, () => this.#open());
  }

  #lost(closeCode) {
    if (this.#stopped) return;
    if (closeCode === CLOSE_UNAUTHORIZED) return this.#refused("unauthorized");
    if (closeCode === CLOSE_OUTDATED) return this.#refused("client_outdated");
    this.#drop(CLOSE_NORMAL);
    const announced = this.#goAway && this.#timers.has("reconnect");
    if (!announced) {
      this.#clearTimers();
      const waitMs = fullJitterMs(this.#attempt++);
      this.#timer("reconnect", waitMs, () => this.#open());
      this.#setState("offline", Date.now() + waitMs);
    } else {
      this.#clear("ping");
      this.#setState("offline", Date.now());
    }
  }

  #refused(code) {
    if (this.#stopped) return;
    this.stop();
    this.#callbacks.refused(code);
  }

  /** Lets go of the socket. What was not answered may or may not have happened: its caller knows that by `lost`. */
  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
    const unanswered = [...this.#waiting.values(), ...this.#queue];
    this.#waiting.clear();
    this.#queue = [];
    for (const { reject, timer } of unanswered) {
      clearTimeout(timer);
      reject(lost());
    }
  }

  #setState(state, retryAtMs = null) {
    this.#state = state;
    this.#callbacks.state(state, retryAtMs);
  }

  #timer(name, delayMs, action) {
    this.#clear(name);
    const run = () => {
      this.#timers.delete(name);
      action();
    };
    this.#timers.set(name, setTimeout(run, delayMs));
  }

  #clear(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #clearTimers() {
    for (const name of [...this.#timers.keys()]) this.#clear(name);
  }
}

function refusal(code, message) {
  return new CommandError({ code, message, retryable: true });
}

function lost() {
  return refusal("lost", "the connection went before the answer came");
}
