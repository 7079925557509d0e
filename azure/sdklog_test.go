package azure

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

func TestLogSDKEvents_NoSecret(t *testing.T) {
	var buffer bytes.Buffer
	logger := log.NewLogfmtLogger(log.NewSyncWriter(&buffer))
	LogSDKEvents(logger)
	t.Cleanup(func() { LogSDKEvents(log.NewNopLogger()) })
	tenant := simulator.Generate(1, 1)
	sim, client := start(t, tenant, Config{Logger: logger})
	ctx := within(t, 20*time.Second)
	token, err := client.token.get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sim.SetFault(ids(tenant)[0], simulator.Times(1, simulator.Error(503, "ServiceUnavailable", "the body of an error")))
	client.SecureScores(ctx, ids(tenant))
	client.Close()
	text := buffer.String()
	if !strings.Contains(text, "event=Retry") {
		t.Errorf("the SDK's events are not in the log: %s", text)
	}
	for _, secret := range []string{token.Token, simulator.ClientSecret, "the body of an error", "Bearer"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
}
