// Fetches events: the newest for the list, a screenful for what is opened, earlier ones on demand, and what is missing
// between what is held and what is known to be there.

import { isShown } from "../model/timeline.js";
import { patiently, report, sleep } from "./patience.js";

const PAGE = 50;
const REPAIR_PAGE = 200;
/** Pushes that overtook each other settle in this time; asking sooner would fetch what is under way. */
const REPAIR_DELAY_MS = 120;
const FETCHES_AT_ONCE = 4;
/** Conversations whose newest events are fetched for the list; others show them once opened. */
const PREVIEWS_MAX = 60;
/** Enough to find a message among reactions. */
const PREVIEW_PAGE = 10;

export class History {
  #connection;
  #absorb;
  #changed;
  #isOpened;
  #fetches = [];
  #fetching = 0;

  /** `absorb(conversation, events)`: events that became the newest of a window. */
  constructor({ connection, absorb, changed, isOpened }) {
    this.#connection = connection;
    this.#absorb = absorb;
    this.#changed = changed;
    this.#isOpened = isOpened;
  }

  /** A screenful for a conversation that is opened. */
  fill(conversation) {
    const { log } = conversation;
    if (!log.last) this.#fetchLatest(conversation, PAGE);
    else if (log.events.length < PAGE) this.loadOlder(conversation);
  }

  /** The newest events of the conversations at the top of the list. */
  preview(conversations) {
    for (const conversation of conversations.slice(0, PREVIEWS_MAX)) {
      const { log, isMember } = conversation;
      if (!isMember || log.knownSeq === 0) continue;
      if (!log.last) this.#fetchLatest(conversation, PREVIEW_PAGE);
      else if (!log.events.some(isShown)) this.loadOlder(conversation);
    }
  }

  /** The page before the oldest event held. */
  async loadOlder(conversation) {
    if (conversation.loadingOlder || !conversation.hasOlder || !this.#connection.isOnline) return;
    conversation.loadingOlder = true;
    this.#changed();
    try {
      await this.#fetch(conversation, { before_seq: conversation.log.firstSeq, limit: PAGE });
    } catch (error) {
      report("history", error);
    } finally {
      conversation.loadingOlder = false;
      this.#changed();
    }
  }

  /** Fills the hole between what is held and what is known to be there, in order. */
  async repair(conversation) {
    if (conversation.repairing || !conversation.isMember) return;
    conversation.repairing = true;
    try {
      await sleep(REPAIR_DELAY_MS);
      while (conversation.log.hasGap) {
        const before = conversation.log.lastSeq;
        await patiently(() => this.#fetch(conversation, { after_seq: before, limit: REPAIR_PAGE }));
        this.#changed();
        if (conversation.log.lastSeq === before) break;
      }
    } catch (error) {
      if (error.code !== "not_found") report("repair", error);
    } finally {
      conversation.repairing = false;
    }
  }

  async #fetch(conversation, range) {
    const { log } = conversation;
    const page = await this.#connection.request("history", { conversation_id: conversation.id, ...range });
    // It was begun anew meanwhile: this page is of the old window.
    if (conversation.log === log) this.#absorb(conversation, log.addPage(page));
  }

  #fetchLatest(conversation, limit) {
    if (!this.#connection.isOnline) return;
    this.#fetches.push(async () => {
      try {
        if (!conversation.log.last) await patiently(() => this.#fetch(conversation, { limit }));
        if (this.#isOpened(conversation) && conversation.log.events.length < PAGE) this.loadOlder(conversation);
      } catch (error) {
        // A direct conversation without a message does not exist yet; a group that one has left does not any more.
        if (error.code !== "not_found") report("history", error);
      }
    });
    this.#pump();
  }

  #pump() {
    while (this.#fetching < FETCHES_AT_ONCE && this.#fetches.length > 0) {
      this.#fetching++;
      this.#fetches
        .shift()()
        .finally(() => {
          this.#fetching--;
          this.#changed();
          this.#pump();
        });
    }
  }
}
