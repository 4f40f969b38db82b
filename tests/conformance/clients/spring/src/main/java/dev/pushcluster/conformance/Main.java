package dev.pushcluster.conformance;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.json.JSONObject;
import org.springframework.messaging.converter.SimpleMessageConverter;
import org.springframework.messaging.simp.stomp.StompCommand;
import org.springframework.messaging.simp.stomp.StompFrameHandler;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.WebSocketHttpHeaders;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.messaging.WebSocketStompClient;

/**
 * Does what its standard input says with Spring's WebSocketStompClient, and tells what happens: see
 * tests/support/client_programs.py.
 */
public final class Main extends StompSessionHandlerAdapter {
    private static final int CONNECT_TIMEOUT_S = 10;

    private final WebSocketStompClient client = new WebSocketStompClient(new StandardWebSocketClient());
    private final List<StompHeaders> messages = Collections.synchronizedList(new ArrayList<>());
    private StompSession session;
    private volatile boolean leaving;

    private Main() {
        ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
        scheduler.setDaemon(true);
        scheduler.initialize();
        client.setTaskScheduler(scheduler);
        client.setMessageConverter(new SimpleMessageConverter());
    }

    public static void main(String[] args) throws Exception {
        Main main = new Main();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            main.obey(new JSONObject(line));
        }
        System.exit(0);
    }

    private void obey(JSONObject order) throws Exception {
        switch (order.getString("command")) {
            case "connect" -> connect(order);
            case "subscribe" -> subscribe(order);
            case "ack" -> session.acknowledge(messages.get(order.getInt("message")).getFirst("ack"), true);
            case "nack" -> session.acknowledge(messages.get(order.getInt("message")).getFirst("ack"), false);
            case "disconnect" -> disconnect(order);
            default -> throw new IllegalArgumentException(order.toString());
        }
    }

    private void connect(JSONObject order) throws Exception {
        leaving = false;
        long heartBeat = order.getLong("heartBeat");
        client.setDefaultHeartbeat(new long[] {heartBeat, heartBeat});
        StompHeaders headers = new StompHeaders();
        headers.add("Authorization", "Bearer " + order.getString("token"));
        session = client.connectAsync(order.getString("url"), new WebSocketHttpHeaders(), headers, this)
            .get(CONNECT_TIMEOUT_S, TimeUnit.SECONDS);
    }

    private void subscribe(JSONObject order) {
        StompHeaders headers = new StompHeaders();
        order.getJSONObject("headers").toMap().forEach((name, value) -> headers.add(name, value.toString()));
        headers.setReceipt(order.getString("receipt"));
        session.subscribe(headers, new StompFrameHandler() {
            @Override
            public Type getPayloadType(StompHeaders received) {
                return byte[].class;
            }

            @Override
            public void handleFrame(StompHeaders received, Object payload) {
                messages.add(received);
                say("message", received, payload == null ? "" : new String((byte[]) payload, StandardCharsets.UTF_8));
            }
        }).addReceiptTask((receipt) -> say("receipt", receipt, ""));
    }

    private void disconnect(JSONObject order) {
        StompHeaders headers = new StompHeaders();
        headers.setReceipt(order.getString("receipt"));
        // Spring closes the WebSocket at once, and never sees the RECEIPT. What still arrives is an error to it.
        leaving = true;
        session.disconnect(headers);
        say("closed", new StompHeaders(), "");
    }

    @Override
    public void afterConnected(StompSession connected, StompHeaders headers) {
        say("connected", headers, "");
    }

    @Override
    public void handleFrame(StompHeaders headers, Object payload) {
        say("error", headers, String.valueOf(payload));
    }

    @Override
    public void handleException(
            StompSession failed, StompCommand command, StompHeaders headers, byte[] payload, Throwable exception) {
        fail(headers, exception);
    }

    @Override
    public void handleTransportError(StompSession failed, Throwable exception) {
        fail(new StompHeaders(), exception);
    }

    private void fail(StompHeaders headers, Throwable exception) {
        if (!leaving) {
            say("error", headers, exception.toString());
        }
    }

    private static synchronized void say(String event, StompHeaders headers, String body) {
        JSONObject told = new JSONObject(Map.of("event", event, "headers", headers.toSingleValueMap(), "body", body));
        byte[] line = (told + "\n").getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }
}
