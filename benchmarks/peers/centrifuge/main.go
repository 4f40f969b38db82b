// One node of a push server made with the library that Centrifugo is made with, for benchmarks/peer_centrifuge.py.
//
// Clients open a WebSocket at /connection/websocket?user=NAME and subscribe to their own channel, user#NAME.
// `POST /publish/NAME` publishes its body, which is JSON, to that channel. The answer comes once Redis has it.
// `POST /batch` publishes a line each, "NAME JSON", all of them at once.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	historySize       = 100 // Publications that a channel keeps.
	historyTTL        = 24 * time.Hour
	maxBodyBytes      = 8 << 20
	readHeaderTimeout = 10 * time.Second
)

type settings struct {
	listen   string // host:port
	redisURL string
	prefix   string // Of keys and channels in Redis.
	history  bool   // Whether publications are kept in a stream. Otherwise they are only passed on.
	lean     bool   // Whether the options that save memory are on.
	pingS    int    // Seconds between pings; 0: none.
}

func readSettings() (settings, error) {
	pingS, err := strconv.Atoi(os.Getenv("PING_SECONDS"))
	if err != nil {
		return settings{}, fmt.Errorf("PING_SECONDS: %w", err)
	}
	return settings{
		listen:   os.Getenv("LISTEN"),
		redisURL: os.Getenv("REDIS_URL"),
		prefix:   os.Getenv("PREFIX"),
		history:  os.Getenv("HISTORY") == "true",
		lean:     os.Getenv("LEAN") == "true",
		pingS:    pingS,
	}, nil
}

func buildNode(s settings) (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{
		Name:       s.listen,
		LogLevel:   centrifuge.LogLevelWarn,
		LogHandler: func(entry centrifuge.LogEntry) { log.Printf("%s %v", entry.Message, entry.Fields) },
	})
	if err != nil {
		return nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: s.redisURL})
	if err != nil {
		return nil, err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{
		Prefix: s.prefix,
		Shards: []*centrifuge.RedisShard{shard},
	})
	if err != nil {
		return nil, err
	}
	node.SetBroker(broker)
	// Nobody asks for presence, so no presence manager is set.
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(event centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			if event.Channel != channelOf(client.UserID()) {
				answer(centrifuge.SubscribeReply{}, centrifuge.ErrorPermissionDenied)
				return
			}
			answer(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: s.history}}, nil)
		})
	})
	return node, node.Run()
}

func channelOf(user string) string {
	return "user#" + user
}

// credentials lets in whoever names a user. A token would be checked once a connection, which no figure contains.
func credentials(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		user := request.URL.Query().Get("user")
		if user == "" {
			http.Error(answer, "the query needs ?user=", http.StatusUnauthorized)
			return
		}
		known := centrifuge.SetCredentials(request.Context(), &centrifuge.Credentials{UserID: user})
		next.ServeHTTP(answer, request.WithContext(known))
	})
}

func buildWebsocketConfig(s settings) centrifuge.WebsocketConfig {
	config := centrifuge.WebsocketConfig{UseWriteBufferPool: s.lean, ProcessCommandsOffReadLoop: s.lean}
	if s.lean {
		config.ReadBufferSize = 512
	}
	if s.pingS == 0 {
		config.PingInterval, config.PongTimeout = -1, -1
	} else {
		config.PingInterval = time.Duration(s.pingS) * time.Second
		config.PongTimeout = config.PingInterval / 2
	}
	return config
}

func buildHandler(node *centrifuge.Node, s settings) http.Handler {
	var options []centrifuge.PublishOption
	if s.history {
		options = append(options, centrifuge.WithHistory(historySize, historyTTL))
	}
	publish := func(user string, data []byte) error {
		_, err := node.Publish(channelOf(user), data, options...)
		return err
	}
	routes := http.NewServeMux()
	routes.Handle("GET /connection/websocket", credentials(centrifuge.NewWebsocketHandler(node, buildWebsocketConfig(s))))
	routes.HandleFunc("POST /publish/{user}", func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, maxBodyBytes))
		if err == nil {
			err = publish(request.PathValue("user"), body)
		}
		reply(answer, err)
	})
	routes.HandleFunc("POST /batch", func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, maxBodyBytes))
		if err == nil {
			err = publishLines(body, publish)
		}
		reply(answer, err)
	})
	routes.HandleFunc("GET /readyz", func(answer http.ResponseWriter, _ *http.Request) { reply(answer, nil) })
	return routes
}

// publishLines publishes every line at once, so that the Redis client joins them, and returns when all are done.
func publishLines(body []byte, publish func(string, []byte) error) error {
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	failures := make([]error, len(lines))
	var running sync.WaitGroup
	for n, line := range lines {
		user, data, found := bytes.Cut(line, []byte(" "))
		if !found {
			return errors.New("a line is not: user, space, JSON")
		}
		running.Go(func() { failures[n] = publish(string(user), data) })
	}
	running.Wait()
	return errors.Join(failures...)
}

func reply(answer http.ResponseWriter, err error) {
	if err != nil {
		log.Printf("not published: %v", err)
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.WriteHeader(http.StatusNoContent)
}

func main() {
	s, err := readSettings()
	if err != nil {
		log.Fatal(err)
	}
	node, err := buildNode(s)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: s.listen, Handler: buildHandler(node, s), ReadHeaderTimeout: readHeaderTimeout}
	log.Fatal(server.ListenAndServe())
}
