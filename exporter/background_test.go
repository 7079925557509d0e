package exporter

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func newTestBackground() (*background, *bytes.Buffer) {
	var logged bytes.Buffer
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics_total", Help: "Panics."})
	return newBackground(panics, log.NewLogfmtLogger(&logged)), &logged
}

// Close cancels what is running, waits for it, and nothing starts afterwards.
func TestBackground_Close(t *testing.T) {
	t.Parallel()
	b, _ := newTestBackground()
	var ended error
	if !b.start(time.Now().Add(time.Hour), func(ctx context.Context) { <-ctx.Done(); ended = ctx.Err() }, func() {}) {
		t.Fatal("the work does not start")
	}
	b.close()
	if !errors.Is(ended, context.Canceled) {
		t.Errorf("the work ended with %v before close returned", ended)
	}
	if b.start(time.Now().Add(time.Hour), func(context.Context) { t.Error("work runs after close") }, func() {}) {
		t.Error("work starts after close")
	}
	b.close()
}

func TestBackground_Deadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBackground()
		defer b.close()
		var ended error
		b.start(time.Now().Add(time.Hour), func(ctx context.Context) { <-ctx.Done(); ended = ctx.Err() }, func() {})
		time.Sleep(time.Hour)
		synctest.Wait()
		if !errors.Is(ended, context.DeadlineExceeded) {
			t.Errorf("the work ended with %v", ended)
		}
	})
}

// A panic is counted and logged by the time that others see the work done.
func TestBackground_Panic(t *testing.T) {
	t.Parallel()
	b, logged := newTestBackground()
	counted := 0.0
	b.start(time.Now().Add(time.Hour), func(context.Context) { panic("bad answer") }, func() { counted = testutil.ToFloat64(b.panics) }, "msg", "work panicked", "subscription_id", "1")
	b.close()
	if counted != 1 {
		t.Errorf("%g panics are counted when the work is done, want 1", counted)
	}
	if text := logged.String(); !strings.HasPrefix(text, `level=error msg="work panicked" subscription_id=1 err="bad answer" stack=`) || !strings.Contains(text, "background_test.go") {
		t.Errorf("logged: %s", text)
	}
}
