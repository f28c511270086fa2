// Repeating what failed for a reason that passes.

import { fullJitterMs } from "./connection.js";

/** Repeats a command until it works, is refused for good, or the connection goes. */
export async function patiently(attempt) {
  for (let attempts = 0; ; attempts++) {
    try {
      return await attempt();
    } catch (error) {
      if (!error.retryable || error.code === "lost") throw error;
      await sleep(error.retryAfterMs ? error.retryAfterMs * (1 + Math.random()) : fullJitterMs(attempts));
    }
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What nobody waits for is logged; a connection that went is no news. */
export function report(what, error) {
  if (error.code !== "lost") console.warn(`${what} failed:`, error.code ?? error.name, error.message);
}
