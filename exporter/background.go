package exporter

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// background runs the work that outlives the request that started it: collections, live reads and
// refreshes of recommendations. It ends with the exporter.
type background struct {
	ctx     context.Context // of all work
	cancel  context.CancelFunc
	panics  prometheus.Counter
	logger  log.Logger
	mu      sync.Mutex // orders start and close
	running sync.WaitGroup
}

func newBackground(panics prometheus.Counter, logger log.Logger) *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel, panics: panics, logger: logger}
}

// start runs work and then done in a goroutine. The context of work ends at the deadline. A panic
// in work does not end the process: it is counted, and logged with keyvals. start returns false,
// and runs nothing, when the exporter is shutting down.
func (b *background) start(deadline time.Time, work func(context.Context), done func(), keyvals ...any) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return false
	}
	b.running.Go(func() {
		defer done()
		defer func() {
			if p := recover(); p != nil {
				b.panics.Inc()
				level.Error(b.logger).Log(append(keyvals, "err", fmt.Sprint(p), "stack", string(debug.Stack()))...)
			}
		}()
		ctx, cancel := context.WithDeadline(b.ctx, deadline)
		defer cancel()
		work(ctx)
	})
	return true
}

// close cancels all work and waits for it.
func (b *background) close() {
	b.mu.Lock()
	b.cancel()
	b.mu.Unlock()
	b.running.Wait()
}
