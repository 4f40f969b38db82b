// A subscription that survives reconnects: how to resume with stock @stomp/stompjs.
//
//   1. Remember the message-id of the last message, for each user and destination. An Inbox is for one of each.
//   2. Send it as last-message-id with the next SUBSCRIBE. The gateway replays what was missed, in order.
//   3. Drop messages that are not newer. After a fault the same message may come again, with the same message-id.
//   4. Look at `recovered` on the receipt. "false" means that something was missed for good.
//   5. Wait at random before each attempt, and longer each time. When a gateway ends, its users must not all reconnect
//      at the same moment.
//   6. Stop at close codes from 4500 on: the same attempt would fail in the same way. Only 4501 asks for another token.

const FIRST_RETRY_MS = 800;
const MAX_RETRY_MS = 5_000;
const FIRST_FINAL_CODE = 4500;
const NOT_AUTHENTICATED = 4501;
const CONNECT_TIMEOUT_MS = 5_000;
const HEARTBEAT_MS = 5_000;

export class Inbox {
  #options;
  #client;
  #attempts = 0;
  #connections = 0;
  #longestWaitMs = 0;
  #token = null;
  #refusedToken = null;
  lastMessageId = null;

  /**
   * options: wsUrl, destination (such as /queue/demo), fetchToken() → Promise of a JWT, and the callbacks
   * onState(state, facts) with "connecting", "connected", "reconnecting" or "offline" (facts.reason says why), and
   * onMessage({id, text, isRedelivered}).
   */
  constructor(options) {
    this.#options = options;
    this.#client = new StompJs.Client({
      brokerURL: options.wsUrl,
      connectionTimeout: CONNECT_TIMEOUT_MS,
      heartbeatIncoming: HEARTBEAT_MS,
      heartbeatOutgoing: HEARTBEAT_MS,
      // A gateway that vanished with its node does not answer a closing handshake, so do not wait for one.
      discardWebsocketOnCommFailure: true,
      reconnectDelay: 1, // #prepare does the waiting
      beforeConnect: () => this.#prepare(),
      onConnect: (frame) => this.#subscribe(frame.headers),
      onStompError: (frame) => options.onState("reconnecting", { reason: frame.headers.message }),
      onWebSocketClose: (event) => this.#closed(event),
    });
  }

  start() {
    this.#longestWaitMs = 0;
    this.#refusedToken = null;
    this.#client.activate();
  }

  async stop() {
    await this.#client.deactivate();
    this.#options.onState("offline", {});
  }

  get isActive() {
    return this.#client.active;
  }

  async #prepare() {
    this.#options.onState(this.#connections ? "reconnecting" : "connecting", {});
    await new Promise((resolve) => setTimeout(resolve, Math.random() * this.#longestWaitMs));
    this.#longestWaitMs = Math.min(MAX_RETRY_MS, Math.max(FIRST_RETRY_MS, 2 * this.#longestWaitMs));
    try {
      this.#token = await this.#options.fetchToken();
    } catch {
      // The old token may still be valid. If not, the gateway says so, and the next attempt asks for a token again.
      this.#refusedToken = null;
    }
    if (this.#token !== null && this.#token === this.#refusedToken) this.#stopFor("the token was refused");
    this.#client.connectHeaders = { Authorization: `Bearer ${this.#token}` };
  }

  #subscribe(connected) {
    this.#attempts += 1;
    this.#longestWaitMs = FIRST_RETRY_MS;
    const headers = { receipt: `subscribed-${this.#attempts}` };
    if (this.lastMessageId) headers["last-message-id"] = this.lastMessageId;
    this.#client.watchForReceipt(headers.receipt, (receipt) => {
      this.#connections += 1;
      this.#options.onState("connected", {
        gateway: connected.gateway,
        session: connected.session,
        connections: this.#connections,
        hasGap: receipt.headers.recovered === "false",
      });
    });
    this.#client.subscribe(`/user${this.#options.destination}`, (message) => this.#receive(message), headers);
  }

  #receive(message) {
    const id = message.headers["message-id"];
    if (!isNewer(id, this.lastMessageId)) return;
    this.lastMessageId = id;
    this.#options.onMessage({
      id,
      text: message.body,
      isRedelivered: message.headers.redelivered === "true",
    });
  }

  #closed({ code, reason }) {
    if (!this.isActive) return;
    if (code >= FIRST_FINAL_CODE && code !== NOT_AUTHENTICATED) {
      this.#stopFor(reason);
      return;
    }
    if (code === NOT_AUTHENTICATED) this.#refusedToken = this.#token;
    this.#options.onState("reconnecting", {});
  }

  #stopFor(reason) {
    this.#client.deactivate();
    this.#options.onState("offline", { reason });
  }
}

/** Parse a message-id, `<ms>-<seq>`: when the cluster logged the message, and its number in the user's log. */
export function parseId(id) {
  return id.split("-").map(Number);
}

/** Compare message-ids, which only grow. */
function isNewer(id, last) {
  if (last === null) return true;
  const [ms, seq] = parseId(id);
  const [lastMs, lastSeq] = parseId(last);
  return ms > lastMs || (ms === lastMs && seq > lastSeq);
}
