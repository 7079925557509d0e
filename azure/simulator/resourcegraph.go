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
	"time"
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
	Queries   int           // per window and principal; 0 is 15
	Others    int           // of these, sent by other clients of the same principal
	Window    time.Duration // of the quota; 0 is 5 seconds
	NoPacking bool          // refuses packed queries, as [RefusePacking] does
	// MaxAssessments is how many assessments one query can read before it is answered with
	// UnexpectedQueryExecutionError; 0 means no limit.
	MaxAssessments int
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
// read. A subscription without rows is silently absent.
func (s *Server) queryGraph(w http.ResponseWriter, r *http.Request) {
	if s.graph.NoPacking {
		RefusePacking()(w, r, http.HandlerFunc(s.answerQuery))
		return
	}
	s.answerQuery(w, r)
}

func (s *Server) answerQuery(w http.ResponseWriter, r *http.Request) {
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
	plan, err := s.plan(q.Query)
	if err != nil {
		invalidQuery(w, graphDetail{Code: "ParserFailure", Message: err.Error(), Line: 1, Position: 1})
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
	scope, ok := s.graphScope(w, q, plan.table)
	if !ok {
		return
	}
	now := s.now()
	if most := s.graph.MaxAssessments; most > 0 && plan.assessments != nil && plan.assessments.size(scope, now) > most {
		tooComplex(w)
		return
	}
	rows := plan.rows(scope, now)
	start := min(offset, len(rows))
	end := min(start+size, len(rows))
	truncated, token := "false", ""
	switch {
	case end == len(rows):
	case !plan.pages():
		truncated = "true"
	default:
		token = fmt.Sprintf(`,"$skipToken":%q`, q.skipToken(end, size))
	}
	writeRows(w, rows[start:end],
		fmt.Sprintf(`{"totalRecords":%d,"count":%d,"data":[`, len(rows), end-start),
		fmt.Sprintf(`],"facets":[],"resultTruncated":%q%s}`, truncated, token))
}

// plan returns the parsed query. A query has one plan, which the rendered rows are cached by.
func (s *Server) plan(query string) (*graphPlan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if plan, ok := s.plans[query]; ok {
		return plan, nil
	}
	plan, err := parseGraphQuery(query)
	if err == nil {
		s.plans[query] = plan
	}
	return plan, err
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

// graphScope returns the subscriptions of the query that have readable rows in the table, ordered
// by ID. It answers the request itself if the scope is invalid or unreadable.
func (s *Server) graphScope(
	w http.ResponseWriter, q graphQuery, table *graphTable,
) ([]*graphSubscription, bool) {
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
	scope := s.subscriptionsOf(q.Subscriptions)
	scope = slices.DeleteFunc(scope, func(sub *graphSubscription) bool {
		return sub.NoAccess && !table.listed
	})
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

// subscriptionsOf returns the subscriptions with these IDs, or for none all of them, ordered by ID
// and without duplicates.
func (s *Server) subscriptionsOf(ids []string) []*graphSubscription {
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
	slices.SortFunc(found, func(a, b *graphSubscription) int { return cmp.Compare(a.id, b.id) })
	return slices.Compact(found)
}
