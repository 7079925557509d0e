package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Fault answers a request in place of next, the healthy answer, which it can also use or corrupt.
// The functions below create the faults known from Azure, from proxies in front of it and from
// attackers; a test can combine them in a function of its own. A fault that counts, such as
// [Throttle], counts for as long as its value lives.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// OnScores applies the fault only to the list of secure scores.
func OnScores(f Fault) Fault { return onPath("/securescores", f) }

// OnControls applies the fault only to the list of controls.
func OnControls(f Fault) Fault { return onPath("/securescorecontrols", f) }

func onPath(suffix string, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Times applies the fault to the first n requests; later ones are healthy.
func Times(n int, f Fault) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if seen.Add(1) > int64(n) {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Hang never answers: the request ends when the client gives up or the simulator closes.
func Hang() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		// Over HTTP/1 the server only notices that the client has gone after reading the body.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
}

// Slow delays the healthy answer.
func Slow(delay time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if sleep(r, delay) {
			next.ServeHTTP(w, r)
		}
	}
}

// Body answers with the given bytes.
func Body(status int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		write(w, status, contentType, []byte(body))
	}
}

// Garbage answers 200 with a web page, as a captive portal or a misconfigured proxy does.
func Garbage() Fault {
	return Body(http.StatusOK, "text/html", "<!DOCTYPE html>\n<html><head>"+
		"<title>Sign in to the network</title></head><body>Please sign in.</body></html>\n")
}

// Redirect answers 307 to another URL.
func Redirect(to string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}
}

// Error answers with ARM's error body.
func Error(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		armError(w, status, code, "%s", message)
	}
}

// ServerError answers with 500, 502, 503, 504 or another server error, and ARM's error body for it.
func ServerError(status int) Fault {
	switch status {
	case http.StatusBadGateway:
		return Error(status, "BadGateway",
			"The network connectivity issue encountered for 'Microsoft.Security'; "+
				"cannot fulfill the request.")
	case http.StatusServiceUnavailable:
		return Error(status, "ServiceUnavailable",
			"The service is temporarily unavailable. Please try again later.")
	case http.StatusGatewayTimeout:
		return Error(status, "GatewayTimeout", "The gateway did not receive a response from "+
			"'Microsoft.Security' within the specified time period.")
	default:
		return Error(status, "InternalServerError", "Encountered internal server error.")
	}
}

// Forbidden answers 403 AuthorizationFailed, as for an identity without a role on the subscription
// or management group, and 403 AccessDenied in Resource Graph.
func Forbidden() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		action := "Microsoft.Security/secureScores/read"
		scope := "/subscriptions/" + r.PathValue("subscription")
		switch {
		case onGraph(r):
			accessDenied(w)
			return
		case r.PathValue("group") != "":
			action = "Microsoft.Management/managementGroups/descendants/read"
			scope = managementGroupPath + r.PathValue("group")
		case strings.HasSuffix(r.URL.Path, "/securescorecontrols"):
			action = "Microsoft.Security/secureScoreControls/read"
		case r.PathValue("subscription") == "":
			action = "Microsoft.Resources/subscriptions/read"
		}
		forbidden(w, action, scope)
	}
}

func onGraph(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, "/microsoft.resourcegraph/resources")
}

// WrongTenant answers 401 InvalidAuthenticationTokenTenant, as for a subscription of another
// tenant.
func WrongTenant() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		const other = "77777777-bbbb-4ccc-8ddd-888888888888"
		unauthorized(w, "InvalidAuthenticationTokenTenant", fmt.Sprintf(
			"The access token is from the wrong issuer 'https://sts.windows.net/%s/'. It must match the "+
				"tenant 'https://sts.windows.net/%s/' associated with this subscription. Please use the "+
				"authority (URL) 'https://login.windows.net/%[2]s' to get the token. Note, if the "+
				"subscription is transferred to another tenant there is no impact to the services, but "+
				"information about new tenant could take time to propagate (up to an hour). If you just "+
				"transferred your subscription and see this error message, please try back later.",
			TenantID, other))
	}
}

// ExpiredToken answers 401 ExpiredAuthenticationToken, as when the clocks of ARM and the client
// differ. See also [Server.ExpireTokens].
func ExpiredToken() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		expiredToken(w, time.Now().Add(-time.Hour), time.Now())
	}
}

// Challenge answers 401 with a challenge of continuous access evaluation, as when the identity was
// disabled or its sessions were revoked: the token is invalid before its expiry, and the client
// must request a new one with these claims. See also [Server.ChallengeTokens].
func Challenge(claims string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { challenge(w, claims) }
}

// SubscriptionNotFound answers 404, as for a subscription that is deleted or hidden from the
// identity.
func SubscriptionNotFound() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		subscriptionNotFound(w, r.PathValue("subscription"))
	}
}

// ScoreNotFound answers 404 with capitalized keys, as for a subscription without a secure score.
func ScoreNotFound() Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		scoreNotFound(w, "ascScore", r.PathValue("subscription"))
	}
}

// NotRegistered answers 409 MissingSubscriptionRegistration, as for a subscription that does not
// use Microsoft Defender for Cloud.
func NotRegistered() Fault {
	return Error(http.StatusConflict, "MissingSubscriptionRegistration",
		"The subscription is not registered to use namespace 'Microsoft.Security'. "+
			"See https://aka.ms/rps-not-found for how to register subscriptions.")
}

// InvalidNamespace is the answer of a cloud without Microsoft.Security. Sources report 404 and 409.
func InvalidNamespace(status int) Fault {
	return Error(status, "InvalidResourceNamespace",
		"The resource namespace 'Microsoft.Security' is invalid.")
}

// Throttle answers the first n requests with 429 and a Retry-After of whole seconds; later ones are
// healthy. With a negative n all requests are throttled; with a retryAfter of 0 the header is
// absent.
func Throttle(n int, retryAfter time.Duration) Fault {
	seconds := strconv.Itoa(int(retryAfter.Seconds()))
	throttled := Fault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", seconds)
		}
		if onGraph(r) {
			w.Header().Set("x-ms-user-quota-remaining", "0")
			rateLimited(w)
			return
		}
		if r.PathValue("subscription") == "" {
			w.Header().Set("x-ms-ratelimit-remaining-tenant-reads", "0")
			armError(w, http.StatusTooManyRequests, "TooManyRequests", "The request is being throttled.")
			return
		}
		w.Header().Set("x-ms-ratelimit-remaining-subscription-reads", "0")
		armError(w, http.StatusTooManyRequests, "ResourceRequestsThrottled",
			"Number of requests for action 'Microsoft.Security/secureScores/read' exceeded the limit of "+
				"'50' for time interval '00:05:00'. Please try again after '%s' seconds.", seconds)
	})
	if n < 0 {
		return throttled
	}
	return Times(n, throttled)
}

// LoginError answers with the token endpoint's error body: an OAuth error kind and an AADSTS code.
func LoginError(status int, kind string, code int, description string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		loginError(w, status, kind, code, description)
	}
}

// ExpiredSecret is the token endpoint's answer to an expired client secret.
func ExpiredSecret() Fault {
	return LoginError(http.StatusUnauthorized, "invalid_client", 7000222, fmt.Sprintf(
		"The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new "+
			"keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials "+
			"for added security: https://aka.ms/certCreds.", ClientID))
}

// LoginUnavailable answers as an overloaded (429), broken (500) or unavailable (503) token
// endpoint.
func LoginUnavailable(status int) Fault {
	switch status {
	case http.StatusTooManyRequests:
		return LoginError(status, "temporarily_unavailable", 90055,
			"There are too many incoming requests. Please try again later.")
	case http.StatusInternalServerError:
		return LoginError(status, "server_error", 50000, "There was an error issuing a token.")
	default:
		return LoginError(status, "temporarily_unavailable", 90033,
			"A transient error has occurred. Please try again.")
	}
}

// Rewrite corrupts the body of the healthy answer. The result can be invalid JSON and invalid
// UTF-8.
func Rewrite(corrupt func(r *http.Request, body []byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		healthy := record(w, r, next)
		write(w, healthy.status, w.Header().Get("Content-Type"), corrupt(r, healthy.body.Bytes()))
	}
}

// Replace rewrites every match of a regular expression in the body. The replacement is literal.
func Replace(pattern, replacement string) Fault {
	re := regexp.MustCompile(pattern)
	return Rewrite(func(_ *http.Request, body []byte) []byte {
		return re.ReplaceAllLiteral(body, []byte(replacement))
	})
}

// NullScore replaces every score object with null.
func NullScore() Fault { return Replace(`"score":\{[^}]*\}`, `"score":null`) }

// EmptyScore removes all fields of the score objects.
func EmptyScore() Fault { return Replace(`"score":\{[^}]*\}`, `"score":{}`) }

// EmptyList answers 200 without items.
func EmptyList() Fault {
	return Body(http.StatusOK, "application/json; charset=utf-8", `{"value":[]}`)
}

// Number replaces every value of a numeric field (max, current, percentage, weight,
// healthyResourceCount and so on) with a literal: 58.5, 58.0, "58", NaN, 1e400, -1, null.
func Number(field, literal string) Fault {
	return Replace(`"`+field+`":-?[0-9.]+`, `"`+field+`":`+literal)
}

// ControlName replaces every control's display name. It can contain anything, even invalid UTF-8.
func ControlName(name string) Fault {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`,
		"\x00", `\u0000`, "\x1b", `\u001b`).Replace(name)
	return OnControls(Replace(`"displayName":"[^"]*"`, `"displayName":"`+quoted+`"`))
}

// Duplicate repeats the first item at the end of the list, with a current score of 0.01 so that a
// test can see which one was used.
func Duplicate() Fault {
	current := regexp.MustCompile(`"current":[0-9.]+`)
	return Rewrite(func(_ *http.Request, body []byte) []byte {
		return editPage(body, func(p *rawPage) {
			if len(p.Value) > 0 {
				p.Value = append(p.Value, current.ReplaceAllLiteral(p.Value[0], []byte(`"current":0.01`)))
			}
		})
	})
}

// NextLink adds a nextLink of the test's choice: relative, to another host, with another scheme.
func NextLink(to string) Fault {
	return Rewrite(func(_ *http.Request, body []byte) []byte {
		return editPage(body, func(p *rawPage) { p.NextLink = to })
	})
}

// NextLinkToItself adds a nextLink to the page itself.
func NextLinkToItself() Fault {
	return Rewrite(func(r *http.Request, body []byte) []byte {
		return editPage(body, func(p *rawPage) { p.NextLink = "https://" + r.Host + r.RequestURI })
	})
}

// EndlessPages always adds a nextLink, different on every page. All pages but the first are empty.
func EndlessPages() Fault {
	return Rewrite(func(r *http.Request, body []byte) []byte {
		return editPage(body, func(p *rawPage) {
			// The token was valid, or there would be no page; the next one is beyond the end of every list.
			offset, _ := parseSkipToken(r.URL.Query().Get("$skiptoken"))
			p.NextLink = nextLink(r, max(offset, 1_000_000)+1)
		})
	})
}

// Truncated cuts the connection, or the HTTP/2 stream, halfway through the announced body.
func Truncated() Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		healthy := record(w, r, next)
		w.Header().Set("Content-Length", strconv.Itoa(healthy.body.Len()))
		w.WriteHeader(healthy.status)
		_, _ = w.Write(healthy.body.Bytes()[:healthy.body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Huge answers with a valid but empty list of size bytes, with or without a Content-Length.
func Huge(size int64, contentLength bool) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if contentLength {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		const begin, end = `{"value":[`, `]}`
		blank := bytes.Repeat([]byte(" "), 1<<20)
		_, err := w.Write([]byte(begin))
		for left := size - int64(len(begin)+len(end)); left > 0 && err == nil; left -= int64(len(blank)) {
			_, err = w.Write(blank[:min(left, int64(len(blank)))])
		}
		if err == nil {
			_, _ = w.Write([]byte(end))
		}
	}
}

// GzipBomb answers with a small compressed body that expands to about size bytes, like that of
// [Huge].
func GzipBomb(size int64) Fault {
	const mebibyte = 1 << 20
	// Gzip streams can be concatenated, so one compressed mebibyte is enough.
	begin, end := compress(`{"value":[`), compress(`]}`)
	blank := compress(strings.Repeat(" ", mebibyte))
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Encoding", "gzip")
		_, err := w.Write(begin)
		for left := size; left > 0 && err == nil; left -= mebibyte {
			_, err = w.Write(blank)
		}
		if err == nil {
			_, _ = w.Write(end)
		}
	}
}

func compress(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	// Writing to memory does not fail.
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.Bytes()
}

// rawPage is a list's body with its items undecoded.
type rawPage struct {
	Value    []json.RawMessage `json:"value"`
	NextLink string            `json:"nextLink,omitempty"`
}

// editPage edits a list's body; any other body, such as an error, is unchanged.
func editPage(body []byte, edit func(*rawPage)) []byte {
	var p rawPage
	if err := json.Unmarshal(body, &p); err != nil || p.Value == nil {
		return body
	}
	edit(&p)
	edited, err := json.Marshal(p)
	if err != nil {
		return body
	}
	return edited
}

// recording holds an answer back. Headers go to the real answer at once.
type recording struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func record(w http.ResponseWriter, r *http.Request, next http.Handler) *recording {
	rec := &recording{header: w.Header(), status: http.StatusOK}
	next.ServeHTTP(rec, r)
	return rec
}

func (r *recording) Header() http.Header         { return r.header }
func (r *recording) WriteHeader(status int)      { r.status = status }
func (r *recording) Write(b []byte) (int, error) { return r.body.Write(b) }
