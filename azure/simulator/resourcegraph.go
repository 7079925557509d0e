package simulator

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The two queries that the simulator's Resource Graph understands, apart from white space. They are
// not the client's constants: a client whose query differs in anything else must notice.
const (
	packedQuery = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols') | summarize items = make_list(bag_pack('type', type, 'id', id, 'name', name, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`
	plainQuery  = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols') | project id, name, type, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

// The published limits of Resource Graph.
const (
	graphMaxPayload       = 16 << 20
	graphMaxRows          = 1000   // per page
	graphMaxSubscriptions = 1000   // in an explicit list
	graphMaxScope         = 10_000 // subscriptions of a tenant
)

// ResourceGraph is how the tenant's Resource Graph differs from the published defaults.
type ResourceGraph struct {
	Queries   int           // that the principal may send per window; 0 is 15
	Window    time.Duration // of the quota; 0 is 5 seconds
	NoPacking bool          // refuses the packed query as invalid
}

// graphQuery is the body of a request.
type graphQuery struct {
	Query         string   `json:"query"`
	Subscriptions []string `json:"subscriptions"`
	Options       struct {
		Top          *int   `json:"$top"`
		SkipToken    string `json:"$skipToken"`
		ResultFormat string `json:"resultFormat"`
	} `json:"options"`
}

// readGraphQuery restores the body for the next reader.
func readGraphQuery(r *http.Request) (graphQuery, error) {
	var q graphQuery
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return q, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields() // an option that the simulator would silently ignore
	return q, decoder.Decode(&q)
}

// queryGraph answers a query with the rows of the subscriptions in its scope that the principal can
// read and that are not disabled. A subscription without rows is silently absent.
func (s *Server) queryGraph(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		// The documentation gives this status, although the client is at fault.
		graphError(w, http.StatusInternalServerError, "InternalServerError",
			graphDetail{Code: "InternalServerError", Message: "An unexpected error occurred."})
		return
	}
	q, err := readGraphQuery(r)
	if err != nil {
		badRequest(w, "InvalidRequestBody", "The request body is not valid: %v.", err)
		return
	}
	packed := false
	switch strings.Join(strings.Fields(q.Query), " ") {
	case plainQuery:
	case packedQuery:
		packed = true
		if s.graph.NoPacking {
			invalidQuery(w, graphDetail{Code: "InvalidQueryLanguage", Message: "InvalidQueryLanguage", Line: -1, Position: -1, Token: "bag_pack"})
			return
		}
	default:
		invalidQuery(w, graphDetail{Code: "ParserFailure", Message: "ParserFailure", Line: 1, Position: 1, Token: strings.SplitN(q.Query+" ", " ", 2)[0]})
		return
	}
	if format := q.Options.ResultFormat; format != "" && !strings.EqualFold(format, "objectArray") {
		badRequest(w, "InvalidResultFormat", "The simulator only knows the result format 'objectArray'.")
		return
	}
	offset, size, err := q.page()
	if err != nil {
		badRequest(w, "InvalidPagingOptions", "%v.", err)
		return
	}
	scope, ok := s.graphScope(w, q)
	if !ok {
		return
	}
	now := s.now()
	var rows [][]byte
	for _, sub := range scope {
		if packed {
			rows = append(rows, sub.packedRows(now)...)
		} else {
			rows = append(rows, sub.plainRows(now)...)
		}
	}
	start := min(offset, len(rows))
	end := min(start+size, len(rows))
	truncated, token := "false", ""
	switch {
	case end == len(rows):
	case packed: // Only rows with a column called id have another page.
		truncated = "true"
	default:
		token = fmt.Sprintf(`,"$skipToken":%q`, q.skipToken(end, size))
	}
	writeRows(w, rows[start:end],
		fmt.Sprintf(`{"totalRecords":%d,"count":%d,"data":[`, len(rows), end-start),
		fmt.Sprintf(`],"facets":[],"resultTruncated":%q%s}`, truncated, token))
}

// writeRows writes the answer piece by piece: a packed page of a thousand subscriptions has several
// megabytes.
func writeRows(w http.ResponseWriter, rows [][]byte, begin, end string) {
	length := len(begin) + len(end) + max(0, len(rows)-1)
	for _, row := range rows {
		length += len(row)
	}
	if length > graphMaxPayload {
		payloadTooLarge(w, length)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	// The client may have gone away, so errors do not matter.
	buffer := bufio.NewWriterSize(w, 64<<10)
	_, _ = buffer.WriteString(begin)
	for i, row := range rows {
		if i > 0 {
			_ = buffer.WriteByte(',')
		}
		_, _ = buffer.Write(row)
	}
	_, _ = buffer.WriteString(end)
	_ = buffer.Flush()
}

// page is the first row of the page and the number of rows on it. A token belongs to its query and
// scope; $top may change between pages.
func (q graphQuery) page() (offset, size int, err error) {
	size = graphMaxRows
	if token := q.Options.SkipToken; token != "" {
		var context uint64
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			_, err = fmt.Sscanf(string(b), "%d %d %x", &offset, &size, &context)
		}
		if err != nil || context != q.context() {
			return 0, 0, fmt.Errorf("the skip token '%s' is not valid for this query", token)
		}
	}
	if q.Options.Top != nil {
		size = *q.Options.Top
	}
	if size < 1 || size > graphMaxRows || offset < 0 {
		return 0, 0, fmt.Errorf("$top must be from 1 to %d", graphMaxRows)
	}
	return offset, size, nil
}

func (q graphQuery) skipToken(offset, size int) string {
	token := fmt.Appendf(nil, "%d %d %x", offset, size, q.context())
	return base64.RawURLEncoding.EncodeToString(token)
}

func (q graphQuery) context() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, q.Query, q.Subscriptions)
	return h.Sum64()
}

// graphScope returns the subscriptions of the query that the principal can read, ordered by ID. It
// answers the request itself if the scope is invalid or unreadable.
func (s *Server) graphScope(w http.ResponseWriter, q graphQuery) ([]*graphSubscription, bool) {
	if len(q.Subscriptions) > graphMaxSubscriptions {
		badRequest(w, "TooManySubscriptions",
			"The number of subscriptions in the request, %d, has exceeded the allowed limit %d.",
			len(q.Subscriptions), graphMaxSubscriptions)
		return nil, false
	}
	for _, id := range q.Subscriptions {
		if !guid.MatchString(strings.ToLower(id)) {
			noValidSubscriptions(w, id)
			return nil, false
		}
	}
	scope := s.readable(q.Subscriptions)
	if len(scope) == 0 && len(q.Subscriptions) > 0 {
		accessDenied(w)
		return nil, false
	}
	if len(scope) > graphMaxScope {
		w.Header().Set("x-ms-tenant-subscription-limit-hit", "true")
		scope = scope[:graphMaxScope]
	}
	return scope, true
}

// readable returns the readable ones of the given subscriptions, or of the tenant's if there are
// none, ordered by ID and without duplicates.
func (s *Server) readable(ids []string) []*graphSubscription {
	s.mu.Lock()
	var found []*graphSubscription
	for _, id := range ids {
		if i := s.find(id); i >= 0 {
			found = append(found, s.subscriptions[i])
		}
	}
	if len(ids) == 0 {
		found = slices.Clone(s.subscriptions)
	}
	s.mu.Unlock()
	found = slices.DeleteFunc(found, func(sub *graphSubscription) bool { return sub.NoAccess })
	slices.SortFunc(found, func(a, b *graphSubscription) int { return cmp.Compare(a.id, b.id) })
	return slices.Compact(found)
}

// graphSubscription is a subscription with its rows in Resource Graph, which are rendered once
// unless they drift.
type graphSubscription struct {
	Subscription
	id         string                   // in lower case
	packedRows func(time.Time) [][]byte // one, or none
	plainRows  func(time.Time) [][]byte // ordered by ID
}

func newGraphSubscription(sub Subscription) *graphSubscription {
	g := &graphSubscription{Subscription: sub, id: strings.ToLower(sub.ID)}
	if sub.drifts() {
		g.packedRows = func(t time.Time) [][]byte { return packedRows(sub.At(t)) }
		g.plainRows = func(t time.Time) [][]byte { return plainRows(sub.At(t)) }
		return g
	}
	packed := sync.OnceValue(func() [][]byte { return packedRows(sub) })
	plain := sync.OnceValue(func() [][]byte { return plainRows(sub) })
	g.packedRows = func(time.Time) [][]byte { return packed() }
	g.plainRows = func(time.Time) [][]byte { return plain() }
	return g
}

// graphRow has the columns of the plain query, which are those of a packed item but for the
// subscription. The counts of a score are null.
type graphRow struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	Type           string   `json:"type"`
	SubscriptionID string   `json:"subscriptionId,omitempty"`
	DisplayName    string   `json:"displayName"`
	Score          armScore `json:"score"`
	Weight         int      `json:"weight"`
	Environment    string   `json:"environment"`
	Healthy        *int     `json:"healthy"`
	Unhealthy      *int     `json:"unhealthy"`
	NotApplicable  *int     `json:"notApplicable"`
}

func packedRows(sub Subscription) [][]byte {
	rows := sub.graphRows()
	if len(rows) == 0 {
		return nil
	}
	return [][]byte{marshal(struct {
		SubscriptionID string     `json:"subscriptionId"`
		Items          []graphRow `json:"items"`
	}{strings.ToLower(sub.ID), rows})}
}

func plainRows(sub Subscription) [][]byte {
	var rendered [][]byte
	for _, row := range sub.graphRows() {
		row.SubscriptionID = strings.ToLower(sub.ID)
		rendered = append(rendered, marshal(row))
	}
	return rendered
}

// marshal only fails for a score that is not a number, and only faults make such scores,
// afterwards.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// graphRows are the rows of the subscription and of its connectors, ordered by ID.
func (s Subscription) graphRows() []graphRow {
	if s.state() == "Disabled" || s.state() == "Deleted" {
		return nil
	}
	var rows []graphRow
	if !s.NoScore {
		rows = appendScoreRows(rows, s.path(), "Azure", s.Controls)
	}
	for _, c := range s.Connectors {
		rows = appendScoreRows(rows, s.path()+connectorPath+c.Name, c.Environment, c.Controls)
	}
	if s.lowercaseIDs() {
		for i := range rows {
			rows[i].ID = strings.ToLower(rows[i].ID)
		}
	}
	slices.SortFunc(rows, func(a, b graphRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

const connectorPath = "/resourceGroups/security-connectors" +
	"/providers/Microsoft.Security/securityConnectors/"

// appendScoreRows appends the score of a subscription or connector, and its controls.
func appendScoreRows(rows []graphRow, scope, environment string, controls []Control) []graphRow {
	id := scope + "/providers/Microsoft.Security/secureScores/ascScore"
	rows = append(slices.Grow(rows, 1+len(controls)), graphRow{
		ID:          id,
		Name:        "ascScore",
		Type:        "microsoft.security/securescores",
		DisplayName: "ASC score",
		Score:       newARMScore(totalScore(controls)),
		Weight:      totalWeight(controls),
		Environment: environment,
	})
	for i := range controls {
		c := &controls[i]
		rows = append(rows, graphRow{
			ID:            id + "/secureScoreControls/" + c.ID,
			Name:          c.ID,
			Type:          "microsoft.security/securescores/securescorecontrols",
			DisplayName:   c.DisplayName,
			Score:         newARMScore(c.Score()),
			Weight:        c.Weight(),
			Environment:   environment,
			Healthy:       &c.Healthy,
			Unhealthy:     &c.Unhealthy,
			NotApplicable: &c.NotApplicable,
		})
	}
	return rows
}
