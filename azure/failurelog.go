package azure

import (
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// failureLog logs a failure once for each cause, and its end.
type failureLog struct {
	mu   sync.Mutex
	last error
}

// record logs failing when the cause of err changes, and recovered once err is nil again. It
// ignores a canceled attempt.
func (f *failureLog) record(logger log.Logger, err error, failing, recovered string, keyvals ...any) {
	if ReasonOf(err) == ReasonCanceled {
		return
	}
	f.mu.Lock()
	before := f.last
	f.last = err
	f.mu.Unlock()
	switch {
	case Cause(err) == Cause(before):
	case err != nil:
		keyvals = append([]any{"msg", failing}, keyvals...)
		level.Warn(logger).Log(append(keyvals, "reason", ReasonOf(err), "err", err)...)
	default:
		level.Info(logger).Log(append([]any{"msg", recovered}, keyvals...)...)
	}
}
