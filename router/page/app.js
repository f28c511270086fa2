// Entry point: who is signed in, and which of the two screens that means.

import { Client } from "./client/client.js";
import { DevAccounts, Session } from "./client/session.js";
import { ChatView } from "./view/chat-view.js";
import { SignInView } from "./view/sign-in-view.js";

/** A token that is refused this soon after it was made will not be accepted by trying again. */
const RENEW_AGAIN_MS = 30_000;

const root = document.getElementById("root");
const accounts = new DevAccounts();
const session = new Session();
let renewedAtMs = 0;

function showSignIn(message = "") {
  document.title = "Tertulia";
  const view = new SignInView({
    message,
    signIn: async (name) => {
      const opened = await accounts.signIn(name);
      session.save(opened);
      showChat(opened);
    },
  });
  root.replaceChildren(view.element);
  view.focus();
}

function showChat(opened) {
  let view = null;
  const client = new Client(opened, {
    changed: () => view?.changed(),
    discarded: (conversationId) => view?.discarded(conversationId),
    refused: (code) => {
      if (code === "client_outdated") view.outdated();
      else renew(client, opened.login, view);
    },
  });
  view = new ChatView(client, {
    findUser: (name) => accounts.find(name),
    signOut: () => {
      close(client, view);
      session.clear();
      showSignIn();
    },
  });
  root.replaceChildren(view.element);
  view.changed();
  client.start();
}

/** Development tokens are short-lived and free: a new one takes the place of one that ran out. */
async function renew(client, login, view) {
  try {
    if (Date.now() - renewedAtMs < RENEW_AGAIN_MS) throw new Error("Your sign-in was refused. Please sign in again.");
    renewedAtMs = Date.now();
    const opened = await accounts.signIn(login);
    session.save(opened);
    client.restart(opened.token);
  } catch (error) {
    close(client, view);
    session.clear();
    showSignIn(error.message);
  }
}

function close(client, view) {
  client.stop();
  view.close();
}

const saved = session.load();
if (saved) showChat(saved);
else showSignIn();
