package azure

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// A tenant full of huge bodies fails each of its subscriptions, within bounded memory because large
// bodies take turns.
func TestTransport_HugeBodies(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(40, 1)
	sim, client := start(t, tenant, Config{})
	for _, id := range ids(tenant)[1:] {
		sim.SetFault(id, simulator.Huge(1<<30, false))
	}
	for i, result := range client.SecureScores(within(t, 4*time.Minute), ids(tenant)) {
		want := ReasonInvalidResponse
		if i == 0 {
			want = ""
		}
		if ReasonOf(result.Err) != want {
			t.Errorf("subscription %d: %v", i, result.Err)
		}
	}
}

func TestTransport_SlowBodyBlocksNoSubscriptionList(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(1500, 1) // some 500 KiB
	sim, client := start(t, tenant, Config{})
	stalled := make(chan struct{})
	sim.SetFault(ids(tenant)[0], simulator.OnControls(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// The window of HTTP/2 is largeBody, so that this returns once the client has read as much.
		_, _ = io.WriteString(w, strings.Repeat(" ", 2*largeBody+1<<16))
		_ = http.NewResponseController(w).Flush()
		close(stalled)
		<-r.Context().Done()
	}))
	ctx, stop := context.WithCancel(within(t, time.Minute))
	var reading sync.WaitGroup
	reading.Go(func() { client.SecureScores(ctx, ids(tenant)[:1]) })
	<-stalled
	if list, err := client.Subscriptions(within(t, 10*time.Second)); err != nil || len(list) != 1500 {
		t.Errorf("%d subscriptions, %v", len(list), err)
	}
	stop()
	reading.Wait()
}
