package simulator

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// armVersions are the API versions of the routes that ARM answers itself.
var armVersions = map[string]string{
	RouteSubscriptions: "2022-12-01",
	RouteRegistration:  "2021-04-01",
}

// providers are the resource providers behind the routes that ARM does not answer itself.
var providers = map[string]struct{ resource, apiVersion string }{
	RouteSecureScores: {"secureScores", "2020-01-01"},
	RouteControls:     {"secureScores", "2020-01-01"},
	RouteDescendants:  {"managementGroups", "2020-05-01"},
	RouteGraph:        {"resources", "2024-04-01"},
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// arm wraps a list or a query with what ARM does for every request: it checks the token, the method
// and the API version, and reports the quota. Then the fault answers, if there is one.
func (s *Server) arm(route string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.countRequest(route)
		defer s.trackInFlight()()
		setARMHeaders(w.Header(), s.now())
		if !sleep(r, s.latency) || !s.accepts(w, r, route) {
			return
		}
		if f := s.fault(route, r.PathValue("subscription")); f != nil {
			f(w, r, next)
			return
		}
		next(w, r)
	})
}

// accepts reports whether the request reaches its list or query, and answers it if not.
func (s *Server) accepts(w http.ResponseWriter, r *http.Request, route string) bool {
	method := http.MethodGet
	if route == RouteGraph {
		method = http.MethodPost
	}
	provider, known := providers[route]
	version, subscription := apiVersion(r), r.PathValue("subscription")
	switch {
	case !s.authorized(w, r):
	case r.Method != method:
		writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"Message": fmt.Sprintf(
			"The requested resource does not support http method '%s'.", r.Method)})
	case version == "":
		armError(w, http.StatusBadRequest, "MissingApiVersionParameter",
			"The api-version query parameter (?api-version=) is required for all requests.")
	case armVersions[route] != "" && version != armVersions[route]:
		armError(w, http.StatusBadRequest, "InvalidApiVersionParameter",
			"The api-version '%s' is invalid. The supported versions are '%s'.",
			version, armVersions[route])
	case known && version != provider.apiVersion:
		armError(w, http.StatusBadRequest, "NoRegisteredProviderFound",
			"No registered resource provider found for location '' and API version '%s' for type '%s'. "+
				"The supported api-versions are '%s'. The supported locations are ''.",
			version, provider.resource, provider.apiVersion)
	case subscription != "" && !guid.MatchString(subscription):
		armError(w, http.StatusBadRequest, "InvalidSubscriptionId",
			"The provided subscription identifier '%s' is malformed or invalid.", subscription)
	case route == RouteGraph:
		return s.consumeQuery(w)
	default:
		s.consumeReads(w.Header(), subscription)
		return true
	}
	return false
}

// The wire format of Microsoft's specification and the published samples.
type (
	armList[T any] struct {
		Value    []T       `json:"value"`
		NextLink string    `json:"nextLink,omitempty"`
		Count    *armCount `json:"count,omitempty"` // only in the list of subscriptions
	}
	armCount struct {
		Type  string `json:"type"`
		Value int    `json:"value"`
	}
	armSubscription struct {
		ID                  string            `json:"id"`
		AuthorizationSource string            `json:"authorizationSource"`
		ManagedByTenants    []string          `json:"managedByTenants"`
		SubscriptionID      string            `json:"subscriptionId"`
		TenantID            string            `json:"tenantId"`
		DisplayName         string            `json:"displayName"`
		State               string            `json:"state"`
		Tags                map[string]string `json:"tags,omitempty"`
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
	// double always has a decimal point in JSON, as Azure's doubles do: 37.0.
	double float64
)

// MarshalJSON implements [json.Marshaler].
func (d double) MarshalJSON() ([]byte, error) { return appendDouble(nil, float64(d)), nil }

func newARMScore(s Score) armScore {
	return armScore{Max: s.Max, Current: double(s.Current), Percentage: double(s.Ratio)}
}

// listSubscriptions only builds the items of its page: a large tenant has hundreds of pages.
func (s *Server) listSubscriptions(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	total := len(s.subscriptions)
	start, end, ok := page(w, r, total, cmp.Or(s.subscriptionPageSize, s.pageSize))
	items := make([]armSubscription, 0, end-start)
	for _, sub := range s.subscriptions[start:end] {
		items = append(items, armSubscription{
			ID:                  sub.path(),
			AuthorizationSource: "RoleBased",
			ManagedByTenants:    []string{},
			SubscriptionID:      sub.id,
			TenantID:            TenantID,
			DisplayName:         sub.Name,
			State:               sub.state(),
			Tags:                sub.Tags,
		})
	}
	s.mu.Unlock()
	if !ok {
		return
	}
	list := armList[armSubscription]{Value: items, Count: &armCount{"Total", len(items)}}
	if end < total {
		list.NextLink, list.Count.Type = nextLink(r, end), "Partial"
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) listSecureScores(w http.ResponseWriter, r *http.Request) {
	sub, ok := s.subscription(w, r)
	if !ok {
		return
	}
	items := []armResource{}
	if !sub.NoScore {
		items = append(items, armResource{
			ID:   sub.path() + "/providers/Microsoft.Security/secureScores/ascScore",
			Name: "ascScore",
			Type: "Microsoft.Security/secureScores",
			Properties: armProperties{
				DisplayName: "ASC score",
				Score:       newARMScore(sub.Score()),
				Weight:      sub.Weight(),
			},
		})
	}
	writePage(w, r, items, s.pageSize)
}

func (s *Server) listControls(w http.ResponseWriter, r *http.Request) {
	sub, ok := s.subscription(w, r)
	if !ok {
		return
	}
	items := []armResource{}
	if !sub.NoScore {
		path := sub.path() + "/providers/Microsoft.Security/secureScores/ascScore/secureScoreControls/"
		for _, c := range sub.Controls {
			items = append(items, armResource{
				ID:   path + c.ID,
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
	writePage(w, r, items, s.pageSize)
}

// subscription returns the subscription of the request as it is now, or answers that it cannot be
// read.
func (s *Server) subscription(w http.ResponseWriter, r *http.Request) (sub Subscription, ok bool) {
	id := r.PathValue("subscription")
	s.mu.Lock()
	i := s.find(id)
	if i >= 0 {
		sub = s.subscriptions[i].Subscription
	}
	s.mu.Unlock()
	switch {
	case i < 0:
		subscriptionNotFound(w, id)
		return sub, false
	case sub.NoAccess:
		Forbidden()(w, r, nil)
		return sub, false
	case sub.Unregistered:
		NotRegistered()(w, r, nil)
		return sub, false
	}
	return sub.At(s.now()), true
}

// writePage writes the page of the items that the request asks for.
func writePage[T any](w http.ResponseWriter, r *http.Request, items []T, size int) {
	start, end, ok := page(w, r, len(items), size)
	if !ok {
		return
	}
	list := armList[T]{Value: items[start:end]}
	if end < len(items) {
		list.NextLink = nextLink(r, end)
	}
	writeJSON(w, http.StatusOK, list)
}

// page returns the range of items on the page that the request's $skiptoken names, or answers that
// the token is invalid. A size of 0 puts all items on one page.
func page(w http.ResponseWriter, r *http.Request, total, size int) (start, end int, ok bool) {
	offset, err := parseSkipToken(r.URL.Query().Get("$skiptoken"))
	if err != nil {
		armError(w, http.StatusBadRequest, "InvalidSkipToken", "The skip token is invalid.")
		return 0, 0, false
	}
	start, end = min(offset, total), total
	if size > 0 {
		end = min(start+size, total)
	}
	return start, end, true
}

// nextLink is the request's URL, as the client spelled it, with a $skiptoken.
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

// apiVersion is the request's api-version. ARM accepts the parameter's name in any case; the
// simulator does not.
func apiVersion(r *http.Request) string { return r.URL.Query().Get("api-version") }

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Only a score that is not a number fails, and only faults make such scores, afterwards.
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, status, "application/json; charset=utf-8", body)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// The client may have gone away.
	_, _ = w.Write(body)
}

// sleep waits, and reports whether the client still waits for the answer afterwards.
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
