package azure

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestTasks_PanicReachesTheCaller(t *testing.T) {
	t.Parallel()
	defer func() {
		p, ok := recover().(error)
		if !ok || !strings.HasPrefix(p.Error(), "boom") || !strings.Contains(p.Error(), "panickingTask") {
			t.Errorf("recovered %v, want the value and the stack of the task", p)
		}
	}()
	outer := newTasks(1)
	outer.Go(func() {
		inner := newTasks(2)
		inner.Go(panickingTask)
		inner.Go(func() {})
		inner.Wait()
	})
	outer.Wait()
	t.Error("Wait returned")
}

func panickingTask() { panic("boom") }

// A panic while a subscription is read, here in the callback for each request, can be recovered by
// the caller.
func TestTasks_PanicInSecureScores(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(5, 1)
	for name, read := range map[string]func(*Client, context.Context){
		"arm":           func(c *Client, ctx context.Context) { c.SecureScores(ctx, ids(tenant)) },
		"resourcegraph": func(c *Client, ctx context.Context) { NewResourceGraph(c).SecureScores(ctx, ids(tenant)) },
		"export":        func(c *Client, ctx context.Context) { c.Export(ctx, SecureScores, ids(tenant), func() {}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := start(t, tenant, Config{Observe: func(r Request) {
				if r.Operation != operationGetToken {
					panic("boom")
				}
			}})
			defer func() {
				if p, ok := recover().(error); !ok || !strings.HasPrefix(p.Error(), "boom") {
					t.Errorf("recovered %v", p)
				}
			}()
			read(client, within(t, 30*time.Second))
			t.Error("no panic")
		})
	}
}
