// Does what its standard input says with @stomp/stompjs, and tells what happens: see tests/support/client_programs.py.

import { createInterface } from "node:readline";

import { Client } from "@stomp/stompjs";
import WebSocket from "ws";

Object.assign(globalThis, { WebSocket });

const messages = [];
let client;

const say = (event, frame = {}) => {
  process.stdout.write(JSON.stringify({ event, headers: frame.headers ?? {}, body: frame.body ?? "" }) + "\n");
};

const commands = {
  connect({ url, token, heartBeat }) {
    client = new Client({
      brokerURL: url,
      connectHeaders: { Authorization: `Bearer ${token}` },
      heartbeatOutgoing: heartBeat,
      heartbeatIncoming: heartBeat,
      reconnectDelay: 0,
      onConnect: (frame) => say("connected", frame),
      onDisconnect: (frame) => say("receipt", frame),
      onStompError: (frame) => say("error", frame),
      onWebSocketClose: () => say("closed"),
    });
    client.activate();
  },
  subscribe({ receipt, headers }) {
    client.watchForReceipt(receipt, (frame) => say("receipt", frame));
    const { destination, ...others } = headers;
    const onMessage = (message) => {
      messages.push(message);
      say("message", message);
    };
    client.subscribe(destination, onMessage, { ...others, receipt });
  },
  ack: ({ message }) => messages[message].ack(),
  nack: ({ message }) => messages[message].nack(),
  disconnect({ receipt }) {
    client.disconnectHeaders = { receipt };
    client.deactivate();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...options } = JSON.parse(line);
  commands[command](options);
}
process.exit(0);
