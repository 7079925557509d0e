package main

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// newLogger returns the logger of the process. Every line begins with ts and level, wherever it
// comes from: our own code, exporter-toolkit (by toolkitLogger) or net/http (by httpLogger).
func newLogger(w io.Writer, allowed, format string) log.Logger {
	encode := log.NewLogfmtLogger
	if format == "json" {
		encode = log.NewJSONLogger
	}
	encoder := encode(log.NewSyncWriter(w))
	withTime := log.LoggerFunc(func(keyvals ...any) error {
		return encoder.Log(append([]any{"ts", log.DefaultTimestampUTC()}, keyvals...)...)
	})
	return level.NewFilter(withTime, level.Allow(level.ParseDefault(allowed, level.InfoValue())))
}

// toolkitLogger adapts logger to what exporter-toolkit logs with.
func toolkitLogger(logger log.Logger) *slog.Logger {
	return slog.New(withoutSource{sloggokit.NewGoKitHandler(logger, slog.LevelInfo)})
}

// withoutSource drops the time, which newLogger adds, and the caller.
type withoutSource struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h withoutSource) Handle(ctx context.Context, record slog.Record) error {
	record.Time, record.PC = time.Time{}, 0
	return h.Handler.Handle(ctx, record)
}

// httpLogger adapts logger to what [net/http] logs with.
func httpLogger(logger log.Logger) *stdlog.Logger {
	return stdlog.New(httpLog{logger}, "", 0)
}

type httpLog struct{ logger log.Logger }

// Write implements [io.Writer]. Kubernetes and load balancers probe whether the port is open
// every few seconds, and hang up in the middle of the TLS handshake: that is logged at debug.
func (l httpLog) Write(text []byte) (int, error) {
	line := strings.TrimSpace(string(text))
	logger := level.Warn(l.logger)
	hungUp := strings.HasSuffix(line, "EOF") || strings.HasSuffix(line, "connection reset by peer")
	if hungUp && strings.HasPrefix(line, "http: TLS handshake error") {
		logger = level.Debug(l.logger)
	}
	_ = logger.Log("msg", "web server", "err", line)
	return len(text), nil
}
