package simulator

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const subscriptionsAPIVersion = "2022-12-01"

// providers are what stands behind ARM for the routes that are not its own.
var providers = map[string]struct {
	resource    string
	apiVersions []string
}{
	RouteSecureScores: {"secureScores", []string{"2020-01-01"}},
	RouteControls:     {"secureScores", []string{"2020-01-01"}},
	RouteDescendants:  {"managementGroups", []string{"2020-05-01"}},
	RouteGraph:        {"resources", []string{"2022-10-01", "2024-04-01"}},
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// arm wraps a list or a query with what ARM does for every request: it checks the token, the method and the API version, and reports quotas.
// Then it is the fault's turn, if there is one.
func (a *Server) arm(route string, answer http.HandlerFunc) http.Handler {
	provider, behind := providers[route]
	method := http.MethodGet
	if route == RouteGraph {
		method = http.MethodPost
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.count(route)
		defer a.enter()()
		setARMHeaders(w.Header(), a.now())
		if !sleep(r, a.latency) {
			return
		}
		subscription := r.PathValue("subscription")
		switch {
		case !a.authorised(w, r):
		case r.Method != method:
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"Message": fmt.Sprintf("The requested resource does not support http method '%s'.", r.Method)})
		case apiVersion(r) == "":
			armError(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		case route == RouteSubscriptions && apiVersion(r) != subscriptionsAPIVersion:
			armError(w, http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid. The supported versions are '%s'.", apiVersion(r), subscriptionsAPIVersion)
		case behind && !slices.Contains(provider.apiVersions, apiVersion(r)):
			armError(w, http.StatusBadRequest, "NoRegisteredProviderFound", "No registered resource provider found for location '' and API version '%s' for type '%s'. The supported api-versions are '%s'. The supported locations are ''.", apiVersion(r), provider.resource, strings.Join(provider.apiVersions, ", "))
		case subscription != "" && !guid.MatchString(subscription):
			armError(w, http.StatusBadRequest, "InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", subscription)
		case route == RouteGraph && !a.spendQuery(w):
		default:
			if route != RouteGraph {
				a.spendQuota(w.Header(), subscription)
			}
			if f := a.fault(route, subscription); f != nil {
				f(w, r, answer)
				return
			}
			answer(w, r)
		}
	})
}

// enter counts an ARM request in and gives back what counts it out.
func (a *Server) enter() func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight++
	a.maxInFlight = max(a.maxInFlight, a.inFlight)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.inFlight--
	}
}

func (a *Server) fault(route, subscription string) Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch route {
	case RouteSubscriptions:
		return a.listFault
	case RouteDescendants:
		return a.groupFault
	case RouteGraph:
		return a.graphFault
	}
	return a.faults[subscription]
}

// The wire shapes, as Microsoft's specification and the published samples have them.
type (
	armSubscription struct {
		ID                  string   `json:"id"`
		AuthorizationSource string   `json:"authorizationSource"`
		ManagedByTenants    []string `json:"managedByTenants"`
		SubscriptionID      string   `json:"subscriptionId"`
		TenantID            string   `json:"tenantId"`
		DisplayName         string   `json:"displayName"`
		State               string   `json:"state"`
	}
	armResource struct {
		ID         string        `json:"id"`
		Name       string        `json:"name"`
		Type       string        `json:"type"`
		Properties armProperties `json:"properties"`
	}
	armProperties struct {
		DisplayName   string   `json:"displayName"`
		Score         armScore `json:"score"`
		Healthy       *int     `json:"healthyResourceCount,omitempty"`
		Unhealthy     *int     `json:"unhealthyResourceCount,omitempty"`
		NotApplicable *int     `json:"notApplicableResourceCount,omitempty"`
		Weight        int      `json:"weight"`
	}
	armScore struct {
		Max        float64 `json:"max"`
		Current    double  `json:"current"`
		Percentage double  `json:"percentage"`
	}
	// double always has a decimal point on the wire, as Azure's doubles do: 37.0.
	double float64
)

func (d double) MarshalJSON() ([]byte, error) {
	b := strconv.AppendFloat(nil, float64(d), 'f', -1, 64)
	if float64(d) == math.Trunc(float64(d)) {
		b = append(b, ".0"...)
	}
	return b, nil
}

func newARMScore(s Score) armScore {
	return armScore{Max: s.Max, Current: double(s.Current), Percentage: double(s.Ratio)}
}

func (a *Server) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	all := slices.Clone(a.subscriptions)
	a.mu.Unlock()
	items := make([]armSubscription, len(all))
	for i, s := range all {
		items[i] = armSubscription{
			ID:                  s.path(),
			AuthorizationSource: "RoleBased",
			ManagedByTenants:    []string{},
			SubscriptionID:      strings.ToLower(s.ID),
			TenantID:            TenantID,
			DisplayName:         s.Name,
			State:               s.state(),
		}
	}
	writePage(a, w, r, items)
}

func (a *Server) listSecureScores(w http.ResponseWriter, r *http.Request) {
	s, ok := a.subscription(w, r)
	if !ok {
		return
	}
	items := []armResource{}
	if !s.NoScore {
		items = append(items, armResource{
			ID:   s.path() + "/providers/Microsoft.Security/secureScores/ascScore",
			Name: "ascScore",
			Type: "Microsoft.Security/secureScores",
			Properties: armProperties{
				DisplayName: "ASC score",
				Score:       newARMScore(s.Score()),
				Weight:      s.Weight(),
			},
		})
	}
	writePage(a, w, r, items)
}

// listControls serves both paths: the controls of a subscription, and those of one score, which is not found where there is no score.
func (a *Server) listControls(w http.ResponseWriter, r *http.Request) {
	s, ok := a.subscription(w, r)
	if !ok {
		return
	}
	if score := r.PathValue("score"); score != "" && (s.NoScore || score != "ascscore") {
		scoreNotFound(w, score, strings.ToLower(s.ID))
		return
	}
	items := []armResource{}
	if !s.NoScore {
		for _, c := range s.Controls {
			items = append(items, armResource{
				ID:   s.path() + "/providers/Microsoft.Security/secureScores/ascScore/secureScoreControls/" + c.ID,
				Name: c.ID,
				Type: "Microsoft.Security/secureScores/secureScoreControls",
				Properties: armProperties{
					DisplayName:   c.DisplayName,
					Score:         newARMScore(c.Score()),
					Healthy:       &c.Healthy,
					Unhealthy:     &c.Unhealthy,
					NotApplicable: &c.NotApplicable,
					Weight:        c.Weight(),
				},
			})
		}
	}
	writePage(a, w, r, items)
}

// subscription finds the subscription of the request as it is now, or answers that there is none.
func (a *Server) subscription(w http.ResponseWriter, r *http.Request) (Subscription, bool) {
	id := r.PathValue("subscription")
	a.mu.Lock()
	i := a.find(id)
	var s Subscription
	if i >= 0 {
		s = a.subscriptions[i].Subscription
	}
	a.mu.Unlock()
	if i < 0 {
		subscriptionNotFound(w, id)
		return s, false
	}
	if s.NoAccess {
		Forbidden()(w, r, nil)
		return s, false
	}
	return s.At(a.now()), true
}

// writePage writes the page of items that the request's $skiptoken names, with a nextLink if there is another.
func writePage[T any](a *Server, w http.ResponseWriter, r *http.Request, items []T) {
	offset, err := parseSkipToken(r.URL.Query().Get("$skiptoken"))
	if err != nil {
		armError(w, http.StatusBadRequest, "InvalidSkipToken", "The skip token is invalid.")
		return
	}
	var page struct {
		Value    []T    `json:"value"`
		NextLink string `json:"nextLink,omitempty"`
	}
	start := min(offset, len(items))
	end := len(items)
	if a.pageSize > 0 {
		end = min(start+a.pageSize, end)
	}
	page.Value = items[start:end]
	if end < len(items) {
		page.NextLink = nextLink(r, end)
	}
	writeJSON(w, http.StatusOK, page)
}

// nextLink is the request's own URL, as the client spelled it, with a $skiptoken.
func nextLink(r *http.Request, offset int) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	query := r.URL.Query()
	query.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(offset))))
	return "https://" + r.Host + path + "?" + query.Encode()
}

func parseSkipToken(token string) (int, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(b), 10, 31)
	return int(n), err
}

// A bucket is one of the quotas of a subscription, or of the tenant where the ID is empty.
type bucket struct {
	subscription string
	size         float64
}

// A quota is a token bucket as ARM has them: full at the start, and full again ten seconds after it was empty. The simulator reports
// what remains but refuses nobody; the Throttle fault does that.
type quota struct {
	used float64
	at   time.Time
}

// The sizes of ARM's buckets for reads: for each principal, and for all principals together.
const (
	readQuota       = 250
	globalReadQuota = 15 * readQuota
)

// spendQuota takes one read from the subscription's buckets, or from the tenant's for an empty ID, and sets the headers that tell.
func (a *Server) spendQuota(h http.Header, subscription string) {
	scope := "subscription"
	if subscription == "" {
		scope = "tenant"
	}
	h.Set("x-ms-ratelimit-remaining-"+scope+"-reads", strconv.Itoa(a.spend(subscription, readQuota)))
	h.Set("x-ms-ratelimit-remaining-"+scope+"-global-reads", strconv.Itoa(a.spend(subscription, globalReadQuota)))
}

func (a *Server) spend(subscription string, size float64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, now := bucket{subscription, size}, a.now()
	q := a.quotas[key]
	refilled := now.Sub(q.at).Seconds() * size / 10
	q = quota{used: min(max(0, q.used-refilled)+1, size), at: now}
	a.quotas[key] = q
	return int(size - q.used)
}

func setARMHeaders(h http.Header, now time.Time) {
	id := newGUID()
	h.Set("Cache-Control", "no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", id)
	h.Set("x-ms-correlation-request-id", id)
	h.Set("x-ms-routing-request-id", "WESTEUROPE:"+now.UTC().Format("20060102T150405Z")+":"+id)
}

// apiVersion is the request's api-version. ARM takes the names of query parameters in any case, but every client writes this one so.
func apiVersion(r *http.Request) string { return r.URL.Query().Get("api-version") }

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Only a score that is not a number could do this, and such scores are made by faults, after the fact.
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, status, "application/json; charset=utf-8", body)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// A client that has gone away needs no answer.
	_, _ = w.Write(body)
}

// armError writes the error body of ARM and, as most do, of the resource providers behind it.
func armError(w http.ResponseWriter, status int, code, format string, args ...any) {
	w.Header().Set("x-ms-failure-cause", "gateway")
	writeJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": fmt.Sprintf(format, args...)}})
}

func forbidden(w http.ResponseWriter, action, scope string) {
	armError(w, http.StatusForbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		ClientID, ObjectID, action, scope)
}

func subscriptionNotFound(w http.ResponseWriter, id string) {
	armError(w, http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", id)
}

// scoreNotFound is Microsoft.Security's own answer; it spells the keys in capitals, which azcore does not recognise as an error code.
func scoreNotFound(w http.ResponseWriter, score, subscription string) {
	writeJSON(w, http.StatusNotFound, map[string]any{"Error": map[string]string{
		"Code":    "ResourceNotFound",
		"Message": fmt.Sprintf("Secure score '%s' does not exist in scope '%s'", score, subscription),
	}})
}

// unauthorised answers 401 with the challenge that ARM adds.
func unauthorised(w http.ResponseWriter, code, message string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(
		`Bearer authorization_uri="https://login.windows.net/%s", error="invalid_token", error_description=%q`, TenantID, message))
	armError(w, http.StatusUnauthorized, code, "%s", message)
}

// sleep waits, and tells whether the request is still wanted afterwards.
func sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
