package main

import (
	"context"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// tryCredential tries the credential in the background, so that the log shows before the
// first scrape whether it works, or how to fix it. The returned function cancels the attempt and
// waits for it.
func tryCredential(ctx context.Context, client *azure.Client, logger log.Logger) (stop func()) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	var trying sync.WaitGroup
	trying.Go(func() {
		identity, err := client.Identify(ctx)
		switch {
		case err == nil:
			level.Info(logger).Log("msg", "the credential works", "identity", identity)
		case azure.ReasonOf(err) != azure.ReasonCanceled:
			level.Warn(logger).Log("msg", "the credential does not work", "reason", azure.ReasonOf(err), "err", err, "fix", azure.Hint(err, "", azure.Identity{}))
		}
	})
	return func() {
		cancel()
		trying.Wait()
	}
}
