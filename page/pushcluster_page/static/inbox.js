// A subscription that survives reconnects: how to resume with stock @stomp/stompjs.
//
//   1. Remember the message-id of the last message.
//   2. Send it as last-message-id with the next SUBSCRIBE. The gateway replays exactly what was missed, in order.
//   3. Drop messages that are not newer. After a fault the same message may come again, with the same message-id.
//   4. Look at `recovered` on the receipt. "false" means that something was missed for good.

const FIRST_RETRY_MS = 200;
const RETRY_SPREAD_MS = 600;
const MAX_RETRY_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;
const HEARTBEAT_MS = 5_000;

export class Inbox {
  #options;
  #client;
  #attempts = 0;
  #connections = 0;
  lastMessageId = null;

  /**
   * options: wsUrl, destination (such as /queue/demo), fetchToken() → Promise of a JWT, and the callbacks
   * onState(state, facts) with "connecting", "connected", "reconnecting" or "offline", and
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
      reconnectDelay: FIRST_RETRY_MS,
      reconnectTimeMode: StompJs.ReconnectionTimeMode.EXPONENTIAL,
      maxReconnectDelay: MAX_RETRY_MS,
      beforeConnect: () => this.#prepare(),
      onConnect: (frame) => this.#subscribe(frame.headers),
      onStompError: (frame) => options.onState("reconnecting", { reason: frame.headers.message }),
      onWebSocketClose: () => this.#closed(),
    });
  }

  start() {
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
    // Use a random delay each time. When a gateway ends, its users must not all reconnect at the same moment.
    this.#client.reconnectDelay = FIRST_RETRY_MS + Math.random() * RETRY_SPREAD_MS;
    try {
      this.#client.connectHeaders = { Authorization: `Bearer ${await this.#options.fetchToken()}` };
    } catch {
      // The old token may still be valid. If not, the gateway says so, and the next attempt asks for a token again.
    }
  }

  #subscribe(connected) {
    this.#attempts += 1;
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

  #closed() {
    if (this.isActive) this.#options.onState("reconnecting", {});
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
