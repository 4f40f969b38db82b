// Does what its standard input says with go-stomp over a WebSocket, and tells what happens: see
// tests/support/client_programs.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-stomp/stomp/v3"
	"github.com/go-stomp/stomp/v3/frame"
)

type order struct {
	Command   string
	URL       string
	Token     string
	HeartBeat int
	Receipt   string
	Headers   map[string]string
	Message   int
}

type event struct {
	Event   string            `json:"event"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

type program struct {
	lock     sync.Mutex
	conn     *stomp.Conn
	messages []*stomp.Message
}

func main() {
	orders := bufio.NewScanner(os.Stdin)
	running := &program{}
	for orders.Scan() {
		var next order
		if err := json.Unmarshal(orders.Bytes(), &next); err != nil {
			log.Fatal(err)
		}
		if err := running.obey(next); err != nil {
			running.say("error", nil, err.Error())
		}
	}
}

func (p *program) obey(next order) error {
	switch next.Command {
	case "connect":
		return p.connect(next)
	case "subscribe":
		return p.subscribe(next)
	case "ack":
		return p.conn.Ack(p.message(next.Message))
	case "nack":
		return p.conn.Nack(p.message(next.Message))
	case "disconnect":
		// go-stomp asks for a receipt of its own making, and returns when it has come. It then closes a WebSocket that
		// the gateway has closed already, which the adapter calls an error.
		var failure stomp.Error
		if err := p.conn.Disconnect(); errors.As(err, &failure) {
			return err
		}
		p.say("closed", nil, "")
		return nil
	}
	return nil
}

func (p *program) connect(next order) error {
	ctx := context.Background()
	socket, _, err := websocket.Dial(ctx, next.URL, &websocket.DialOptions{Subprotocols: []string{"v12.stomp"}})
	if err != nil {
		return err
	}
	beat := time.Duration(next.HeartBeat) * time.Millisecond
	p.conn, err = stomp.Connect(
		websocket.NetConn(ctx, socket, websocket.MessageText),
		stomp.ConnOpt.Host("127.0.0.1"),
		stomp.ConnOpt.Header("Authorization", "Bearer "+next.Token),
		stomp.ConnOpt.HeartBeat(beat, beat),
		stomp.ConnOpt.ResponseHeaders(func(headers *frame.Header) { p.say("connected", headers, "") }),
	)
	return err
}

func (p *program) subscribe(next order) error {
	options := []func(*frame.Frame) error{}
	for name, value := range next.Headers {
		if name != "destination" && name != "ack" {
			options = append(options, stomp.SubscribeOpt.Header(name, value))
		}
	}
	modes := map[string]stomp.AckMode{
		"auto": stomp.AckAuto, "client": stomp.AckClient, "client-individual": stomp.AckClientIndividual,
	}
	subscription, err := p.conn.Subscribe(next.Headers["destination"], modes[next.Headers["ack"]], options...)
	if err != nil {
		return err
	}
	go func() {
		for message := range subscription.C {
			if message.Err != nil {
				return
			}
			p.lock.Lock()
			p.messages = append(p.messages, message)
			p.lock.Unlock()
			p.say("message", message.Header, string(message.Body))
		}
	}()
	return nil
}

func (p *program) message(number int) *stomp.Message {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.messages[number]
}

func (p *program) say(what string, headers *frame.Header, body string) {
	told := event{Event: what, Headers: map[string]string{}, Body: body}
	for i := 0; headers != nil && i < headers.Len(); i++ {
		name, value := headers.GetAt(i)
		told.Headers[name] = value
	}
	line, err := json.Marshal(told)
	if err != nil {
		log.Fatal(err)
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	os.Stdout.Write(append(line, '\n'))
}
