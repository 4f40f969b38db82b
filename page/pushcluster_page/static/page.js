// The page around the inboxes: what it shows, and the form to send.

import { Inbox, parseId } from "./inbox.js";

const MAX_SHOWN = 200;
const WAITED_MS = 1_000;
const TOKEN_TIMEOUT_MS = 3_000;
const SEND_TIMEOUT_MS = 10_000;
const STATE_WORDS = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  offline: "Offline",
};

const byId = (id) => document.getElementById(id);
const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

async function fetchJson(url, timeoutMs, options = {}) {
  const reply = await fetch(url, { ...options, signal: AbortSignal.timeout(timeoutMs) });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error ?? `the server answered ${reply.status}`);
  return body;
}

async function fetchToken(user) {
  return (await fetchJson(`token?user=${encodeURIComponent(user)}`, TOKEN_TIMEOUT_MS)).token;
}

function addInbox(user, config) {
  const card = clone("inbox");
  const part = (selector) => card.querySelector(selector);
  card.dataset.user = user;
  card.id = `inbox-${user}`;
  card.setAttribute("aria-label", `Inbox of ${user}`);
  part("h2").textContent = user;
  part(".messages").setAttribute("aria-label", `Messages of ${user}`);
  part(".avatar").textContent = user.slice(0, 1).toUpperCase();

  const inbox = new Inbox({
    wsUrl: config.wsUrl,
    destination: config.destination,
    fetchToken: () => fetchToken(user),
    onState: (state, facts) => showState(card, config, state, facts),
    onMessage: (message) => showMessage(card, config, message),
  });
  const toggle = part(".toggle");
  toggle.addEventListener("click", () => {
    if (inbox.isActive) inbox.stop();
    else inbox.start();
    showToggle(card, inbox.isActive);
  });
  byId("inboxes").append(card);
  inbox.start();
}

function showState(card, config, state, facts) {
  const part = (selector) => card.querySelector(selector);
  card.dataset.state = state;
  part(".state").textContent = STATE_WORDS[state];
  part(".state").title = facts.reason ?? "";
  if (state === "offline") showToggle(card, false);
  if (state !== "connected") {
    part(".gateway").textContent = "–";
    part(".routing-key").textContent = "–";
    if (facts.reason) showNotice(card, facts.reason);
    return;
  }
  const name = config.destination.split("/").at(-1);
  card.dataset.connections = facts.connections;
  part(".gateway").textContent = facts.gateway;
  part(".routing-key").textContent = `${name}-user${facts.session}`;
  showNotice(card, facts.hasGap ? "Some messages are gone. This inbox was offline for longer than they are kept." : "");
}

function showToggle(card, isActive) {
  card.querySelector(".toggle").textContent = isActive ? "Go offline" : "Go online";
}

function showNotice(card, text) {
  const notice = card.querySelector(".notice");
  notice.textContent = text;
  notice.hidden = !text;
}

function showMessage(card, config, { id, text, isRedelivered }) {
  const item = clone("message");
  const arrived = new Date();
  const waitedMs = arrived.getTime() + config.clockAheadMs - parseId(id)[0];
  item.dataset.messageId = id;
  item.querySelector(".body").textContent = text;
  item.querySelector("time").textContent = arrived.toLocaleTimeString();
  item.querySelector("time").dateTime = arrived.toISOString();
  item.querySelector(".id").textContent = id;
  if (waitedMs >= WAITED_MS) addTag(item, `waited ${Math.round(waitedMs / 1_000)} s`);
  if (isRedelivered) addTag(item, "redelivered");
  const list = card.querySelector(".messages");
  list.append(item);
  while (list.children.length > MAX_SHOWN) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
  card.querySelector(".empty").hidden = true;
  card.querySelector(".last-id").textContent = id;
}

function addTag(item, text) {
  const tag = document.createElement("span");
  tag.className = "tag";
  tag.textContent = text;
  item.querySelector(".tags").append(tag);
}

function addRecipient(user, isFirst) {
  const label = clone("recipient");
  const input = label.querySelector("input");
  input.value = user;
  input.checked = isFirst;
  label.dataset.user = user;
  label.querySelector("span").textContent = user;
  byId("recipients").append(label);
}

// If a text was not confirmed, it is sent again with its old id, so it cannot be delivered twice.
let unconfirmed = null;

function messageId(user, text) {
  if (unconfirmed?.user !== user || unconfirmed?.text !== text) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    unconfirmed = { user, text, id: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("") };
  }
  return unconfirmed.id;
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  const { user, text } = Object.fromEntries(new FormData(form));
  const button = form.querySelector("button");
  const outcome = byId("sent");
  button.disabled = true;
  const started = performance.now();
  try {
    await fetchJson("send", SEND_TIMEOUT_MS, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user, text, id: messageId(user, text) }),
    });
    unconfirmed = null;
    outcome.textContent = `The message for ${user} is safe on disk after ${Math.round(performance.now() - started)} ms.`;
    outcome.dataset.outcome = "accepted";
    form.elements.text.value = "";
  } catch (error) {
    outcome.textContent = `Not confirmed: ${error.message}. Send it again; it cannot arrive twice.`;
    outcome.dataset.outcome = "failed";
  } finally {
    button.disabled = false;
    form.elements.text.focus();
  }
}

try {
  const asked = Date.now();
  const config = await fetchJson("config.json", TOKEN_TIMEOUT_MS);
  // Message ids carry the cluster's time. A browser's clock may be wrong by minutes.
  config.clockAheadMs = config.nowMs - (asked + Date.now()) / 2;
  config.users.forEach((user, index) => {
    addRecipient(user, index === 0);
    addInbox(user, config);
  });
  byId("send").addEventListener("submit", send);
} catch (error) {
  byId("failure").textContent = `The page could not start: ${error.message}. Reload it to try again.`;
  byId("failure").hidden = false;
}
