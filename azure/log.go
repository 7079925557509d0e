package azure

import (
	"regexp"
	"strings"
	"sync/atomic"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// LogSDKEvents sends the SDK's own events to logger, at debug: retries, and which
// kind of credential is used, which [Client.Check] then knows, too. The events that
// quote requests, responses and their headers or bodies are left out. The SDK has
// one listener for the whole process; call this before the first client is made.
func LogSDKEvents(logger log.Logger) {
	azlog.SetEvents(azlog.EventRetryPolicy, azidentity.EventAuthentication)
	azlog.SetListener(func(event azlog.Event, text string) {
		first, _, _ := strings.Cut(text, "\n")
		if match := gotToken.FindStringSubmatch(first); match != nil {
			newestCredential.Store(&match[1])
		}
		level.Debug(logger).Log("msg", "azure sdk", "event", event, "text", label(first))
	})
}

// gotToken matches azidentity's only word on which credential of a chain answered.
var gotToken = regexp.MustCompile(`^(\w+)\.GetToken\(\) acquired a token`)

// newestCredential is the kind of credential that got the newest token, for the
// process as the listener is.
var newestCredential atomic.Pointer[string]

// credentialKind returns azidentity's name of the credential that got the newest
// token; empty when that is not listened for.
func credentialKind() string {
	if kind := newestCredential.Load(); kind != nil {
		return *kind
	}
	return ""
}
