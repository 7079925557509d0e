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

// LogSDKEvents logs the SDK's own events at debug level: retries and the credential in use, which
// [Client.Check] then reports. Events that quote requests, responses, headers or bodies are left
// out. The SDK has one listener per process; call this before the first client is created.
func LogSDKEvents(logger log.Logger) {
	azlog.SetEvents(azlog.EventRetryPolicy, azidentity.EventAuthentication)
	azlog.SetListener(func(event azlog.Event, text string) {
		first, _, _ := strings.Cut(text, "\n")
		if match := acquiredToken.FindStringSubmatch(first); match != nil {
			lastCredential.Store(&match[1])
		}
		level.Debug(logger).Log("msg", "azure sdk", "event", event, "text", sanitize(first))
	})
}

// acquiredToken matches the only message in which azidentity names the credential of a chain that
// succeeded.
var acquiredToken = regexp.MustCompile(`^(\w+)\.GetToken\(\) acquired a token`)

// lastCredential is the type of the credential that got the last token. Like the listener, it
// exists once per process.
var lastCredential atomic.Pointer[string]

// credentialType returns azidentity's name of the credential that got the last token, or "" without
// [LogSDKEvents].
func credentialType() string {
	if name := lastCredential.Load(); name != nil {
		return *name
	}
	return ""
}
