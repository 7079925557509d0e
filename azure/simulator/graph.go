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
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The two queries that the simulator's Resource Graph understands, white space aside. It does not know the Kusto language: a client
// whose query differs in anything else is told that it is invalid, and so these texts are not the client's own constants.
const (
	packedQuery = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols') | summarize items = make_list(bag_pack('type', type, 'id', id, 'name', name, 'displayName', properties.displayName, 'score', properties.score, 'weight', properties.weight, 'environment', properties.environment, 'healthy', properties.healthyResourceCount, 'unhealthy', properties.unhealthyResourceCount, 'notApplicable', properties.notApplicableResourceCount)) by subscriptionId`
	plainQuery  = `securityresources | where type in~ ('microsoft.security/securescores','microsoft.security/securescores/securescorecontrols') | project id, name, type, subscriptionId, displayName = properties.displayName, score = properties.score, weight = properties.weight, environment = properties.environment, healthy = properties.healthyResourceCount, unhealthy = properties.unhealthyResourceCount, notApplicable = properties.notApplicableResourceCount | order by id asc`
)

// The published limits of Resource Graph.
const (
	defaultMaxPayload     = 16 << 20
	graphMaxRows          = 1000   // of a page
	graphMaxSubscriptions = 1000   // of an explicit list
	graphMaxScope         = 10_000 // subscriptions of a tenant or of management groups
)

// ResourceGraph is how the tenant's Azure Resource Graph differs from the published defaults.
type ResourceGraph struct {
	Queries    int           // that the principal may send in a window; 0 is 15
	Window     time.Duration // of the quota; 0 is 5 seconds
	RetryAfter bool          // whether a refusal for the quota says when to come back in Retry-After too
	MaxPayload int           // bytes of an answer; 0 is 16 MiB
	NoPacking  bool          // refuses the packed query as invalid, as a Resource Graph that does not know bag_pack would
}

// A graphQuery is the body of a request.
type graphQuery struct {
	Query            string   `json:"query"`
	Subscriptions    []string `json:"subscriptions"`
	ManagementGroups []string `json:"managementGroups"`
	Options          struct {
		Top          *int   `json:"$top"`
		Skip         int    `json:"$skip"`
		SkipToken    string `json:"$skipToken"`
		ResultFormat string `json:"resultFormat"`
	} `json:"options"`
}

// readGraphQuery leaves the body as it was, for whoever reads it next.
func readGraphQuery(r *http.Request) (graphQuery, error) {
	var q graphQuery
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return q, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return q, json.Unmarshal(body, &q)
}

// queryGraph answers a query. Its rows are those of the subscriptions in the scope that the principal may read and that are not
// disabled; a subscription without them is silently absent.
func (a *Server) queryGraph(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		// So it is documented; it is not the client's error by its status.
		graphError(w, http.StatusInternalServerError, "InternalServerError", graphDetail{Code: "InternalServerError", Message: "An unexpected error occurred."})
		return
	}
	q, err := readGraphQuery(r)
	if err != nil {
		graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "InvalidRequestBody", Message: "The request body is not valid JSON."})
		return
	}
	packed := false
	switch strings.Join(strings.Fields(q.Query), " ") {
	case plainQuery:
	case packedQuery:
		packed = true
		if a.graph.NoPacking {
			invalidQuery(w, graphDetail{Code: "InvalidQueryLanguage", Message: "InvalidQueryLanguage", Line: -1, Position: -1, Token: "bag_pack"})
			return
		}
	default:
		invalidQuery(w, graphDetail{Code: "ParserFailure", Message: "ParserFailure", Line: 1, Position: 1, Token: strings.SplitN(q.Query+" ", " ", 2)[0]})
		return
	}
	if format := q.Options.ResultFormat; format != "" && !strings.EqualFold(format, "objectArray") {
		graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "InvalidResultFormat", Message: "The simulator knows the result format 'objectArray' alone."})
		return
	}
	offset, size, err := q.page()
	if err != nil {
		graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "InvalidPagingOptions", Message: err.Error()})
		return
	}
	scope, ok := a.graphScope(w, q)
	if !ok {
		return
	}
	now := a.now()
	var rows [][]byte
	for _, s := range scope {
		if packed {
			rows = append(rows, s.packedRows(now)...)
		} else {
			rows = append(rows, s.plainRows(now)...)
		}
	}
	start := min(offset, len(rows))
	end := min(start+size, len(rows))
	truncated, token := "false", ""
	switch {
	case end == len(rows):
	case packed: // Without a column called id there is no other page.
		truncated = "true"
	default:
		token = fmt.Sprintf(`,"$skipToken":%q`, q.skipToken(end, size))
	}
	a.writeRows(w, rows[start:end],
		fmt.Sprintf(`{"totalRecords":%d,"count":%d,"data":[`, len(rows), end-start),
		fmt.Sprintf(`],"facets":[],"resultTruncated":%q%s}`, truncated, token))
}

// writeRows writes the answer piece by piece, because a packed page of a thousand subscriptions has some megabytes.
func (a *Server) writeRows(w http.ResponseWriter, rows [][]byte, begin, end string) {
	length := len(begin) + len(end) + max(0, len(rows)-1)
	for _, row := range rows {
		length += len(row)
	}
	if length > a.graph.MaxPayload {
		payloadTooLarge(w, length, a.graph.MaxPayload)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	// A client that has gone away needs no answer, so the errors do not matter.
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

// page is the first row that the query asks for and how many. A token belongs to the query and the scope that it was made for; $top
// may change on the way.
func (q graphQuery) page() (offset, size int, err error) {
	offset, size = q.Options.Skip, graphMaxRows
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
		return 0, 0, fmt.Errorf("$top has to be from 1 to %d and $skip at least 0", graphMaxRows)
	}
	return offset, size, nil
}

func (q graphQuery) skipToken(offset, size int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %x", offset, size, q.context()))
}

func (q graphQuery) context() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, q.Query, q.Subscriptions, q.ManagementGroups)
	return h.Sum64()
}

// graphScope finds the subscriptions of the query, in the order of their IDs, without those that the principal may not read. It answers
// the request itself if there are none to ask.
func (a *Server) graphScope(w http.ResponseWriter, q graphQuery) ([]*served, bool) {
	if len(q.Subscriptions) > 0 && len(q.ManagementGroups) > 0 {
		graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "InvalidScope", Message: "Subscriptions and management groups cannot be given together."})
		return nil, false
	}
	if len(q.Subscriptions) > graphMaxSubscriptions {
		graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "TooManySubscriptions", Message: fmt.Sprintf("The number of subscriptions in the request, %d, has exceeded the allowed limit %d.", len(q.Subscriptions), graphMaxSubscriptions)})
		return nil, false
	}
	ids := q.Subscriptions
	for _, id := range ids {
		if !guid.MatchString(strings.ToLower(id)) {
			graphError(w, http.StatusBadRequest, "BadRequest", graphDetail{Code: "NoValidSubscriptionsInQueryRequest", Message: fmt.Sprintf("There must be at least one subscription that is eligible to contain resources. Given: '%s'.", id)})
			return nil, false
		}
	}
	for _, group := range q.ManagementGroups {
		members, ok := a.descendants(group)
		if !ok {
			accessDenied(w)
			return nil, false
		}
		for _, m := range members {
			if !m.group {
				ids = append(ids, m.id)
			}
		}
	}
	readable := map[string]*served{}
	a.mu.Lock()
	if len(q.Subscriptions)+len(q.ManagementGroups) == 0 {
		for _, s := range a.subscriptions {
			ids = append(ids, s.ID)
		}
	}
	for _, id := range ids {
		if i := a.find(id); i >= 0 && !a.subscriptions[i].NoAccess {
			readable[strings.ToLower(id)] = a.subscriptions[i]
		}
	}
	a.mu.Unlock()
	if len(readable) == 0 && len(q.Subscriptions) > 0 {
		accessDenied(w)
		return nil, false
	}
	scope := make([]*served, 0, len(readable))
	for _, id := range slices.Sorted(maps.Keys(readable)) {
		scope = append(scope, readable[id])
	}
	if len(scope) > graphMaxScope {
		w.Header().Set("x-ms-tenant-subscription-limit-hit", "true")
		scope = scope[:graphMaxScope]
	}
	return scope, true
}

// served is a subscription with its rows in Resource Graph, which are rendered once where nothing drifts.
type served struct {
	Subscription
	packedRows func(time.Time) [][]byte // one, or none
	plainRows  func(time.Time) [][]byte // in the order of their IDs
}

func newServed(s Subscription) *served {
	if s.drifts() {
		return &served{s, func(t time.Time) [][]byte { return packedRows(s.At(t)) }, func(t time.Time) [][]byte { return plainRows(s.At(t)) }}
	}
	packed := sync.OnceValue(func() [][]byte { return packedRows(s) })
	plain := sync.OnceValue(func() [][]byte { return plainRows(s) })
	return &served{s, func(time.Time) [][]byte { return packed() }, func(time.Time) [][]byte { return plain() }}
}

// A graphRow has the columns of the plain query, or in an item of the packed one all but the subscription. Counts are null for a score.
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

func packedRows(s Subscription) [][]byte {
	rows := s.graphRows()
	if len(rows) == 0 {
		return nil
	}
	return [][]byte{marshal(struct {
		SubscriptionID string     `json:"subscriptionId"`
		Items          []graphRow `json:"items"`
	}{strings.ToLower(s.ID), rows})}
}

func plainRows(s Subscription) [][]byte {
	var rendered [][]byte
	for _, row := range s.graphRows() {
		row.SubscriptionID = strings.ToLower(s.ID)
		rendered = append(rendered, marshal(row))
	}
	return rendered
}

// marshal cannot fail on what it is given here, save for a score that is not a number, and such scores are made by faults, after the fact.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// graphRows are the rows of the subscription and of its connectors, in the order of their IDs. The case of IDs in Resource Graph varies:
// here a subscription whose own ID ends in an odd digit has them in lower case.
func (s Subscription) graphRows() []graphRow {
	if s.state() == "Disabled" || s.state() == "Deleted" {
		return nil
	}
	size := 1 + len(s.Controls)
	for _, c := range s.Connectors {
		size += 1 + len(c.Controls)
	}
	rows := make([]graphRow, 0, size)
	add := func(scope, environment string, controls []Control) {
		id := scope + "/providers/Microsoft.Security/secureScores/ascScore"
		rows = append(rows, graphRow{
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
	}
	if !s.NoScore {
		add(s.path(), "Azure", s.Controls)
	}
	for _, c := range s.Connectors {
		add(s.path()+"/resourceGroups/"+connectorGroup+"/providers/Microsoft.Security/securityConnectors/"+c.Name, c.Environment, c.Controls)
	}
	if s.odd() {
		for i := range rows {
			rows[i].ID = strings.ToLower(rows[i].ID)
		}
	}
	slices.SortFunc(rows, func(a, b graphRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// odd subscriptions are answered in another spelling where Azure has two.
func (s Subscription) odd() bool {
	return s.ID != "" && strings.ContainsRune("13579bdfBDF", rune(s.ID[len(s.ID)-1]))
}

// A window is the time in which the principal's queries are counted together. It begins with the first query after the one before.
type window struct {
	ends time.Time
	used int
}

// spendQuery takes one query from the principal's quota, sets the headers that tell, and answers 429 when there was none left.
func (a *Server) spendQuery(w http.ResponseWriter) bool {
	a.mu.Lock()
	now := a.now()
	if !now.Before(a.window.ends) {
		a.window = window{ends: now.Add(a.graph.Window)}
	}
	ok := a.window.used < a.graph.Queries
	if ok {
		a.window.used++
	} else {
		a.throttled++
	}
	remaining := a.graph.Queries - a.window.used
	// Rounded up, so that a client that waits for so long is not too early.
	seconds := int(math.Ceil(a.window.ends.Sub(now).Seconds()))
	a.mu.Unlock()
	w.Header().Set("x-ms-user-quota-remaining", strconv.Itoa(remaining))
	w.Header().Set("x-ms-user-quota-resets-after", fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60))
	if !ok {
		if a.graph.RetryAfter {
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
		}
		rateLimited(w)
	}
	return ok
}

// A graphDetail is what went wrong; the code around it, which azcore reads, is often just BadRequest.
type graphDetail struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Line     int    `json:"line,omitempty"`
	Position int    `json:"characterPositionInLine,omitempty"`
	Token    string `json:"token,omitempty"`
}

// graphError writes the error body of Resource Graph.
func graphError(w http.ResponseWriter, status int, code string, details ...graphDetail) {
	writeJSON(w, status, map[string]any{"error": map[string]any{
		"code":    code,
		"message": fmt.Sprintf("Please provide below info when asking for support: timestamp = %s, correlationId = %s.", time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z"), newGUID()),
		"details": details,
	}})
}

func invalidQuery(w http.ResponseWriter, why graphDetail) {
	graphError(w, http.StatusBadRequest, "BadRequest",
		graphDetail{Code: "InvalidQuery", Message: "Query is invalid. Please refer to the documentation for the Azure Resource Graph service and fix the error before retrying."}, why)
}

func accessDenied(w http.ResponseWriter) {
	graphError(w, http.StatusForbidden, "AccessDenied",
		graphDetail{Code: "AccessDenied", Message: "Access is denied to the requested resource. The user might not have enough permission."})
}

func rateLimited(w http.ResponseWriter) {
	graphError(w, http.StatusTooManyRequests, "RateLimiting",
		graphDetail{Code: "RateLimiting", Message: "Client application has been throttled and should not attempt to repeat the request until an amount of time has elapsed. Please see https://aka.ms/resourcegraph-throttling for help."})
}

func payloadTooLarge(w http.ResponseWriter, size, limit int) {
	graphError(w, http.StatusBadRequest, "BadRequest",
		graphDetail{Code: "ResponsePayloadTooLarge", Message: fmt.Sprintf("Response payload size is %d, and has exceeded the limit of %d. Please consider querying less data at a time and make paginated call if needed.", size, limit)})
}

// OnBatchesOver lets the fault meet the queries of Resource Graph that name more than n subscriptions alone.
func OnBatchesOver(n int, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if q, err := readGraphQuery(r); err != nil || len(q.Subscriptions) <= n {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// PayloadTooLarge refuses queries of more than n subscriptions because of the size that their answer would have.
func PayloadTooLarge(n int) Fault {
	return OnBatchesOver(n, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		payloadTooLarge(w, 24_813_879, defaultMaxPayload)
	})
}

// GatewayTimeout answers 504 to queries of more than n subscriptions.
func GatewayTimeout(n int) Fault { return OnBatchesOver(n, ServerError(http.StatusGatewayTimeout)) }

// ResultTruncated answers queries of more than n subscriptions with n rows, with the note that there are more and no way to get them.
func ResultTruncated(n int) Fault {
	return OnBatchesOver(n, editGraphAnswer(func(answer *graphAnswer) {
		answer.Data = answer.Data[:min(n, len(answer.Data))]
		answer.ResultTruncated, answer.SkipToken = "true", ""
	}))
}

// DropRows leaves the rows of one subscription out of the answer of Resource Graph.
func DropRows(subscriptionID string) Fault {
	return editGraphAnswer(func(answer *graphAnswer) {
		kept := slices.DeleteFunc(answer.Data, func(row json.RawMessage) bool {
			var s struct{ SubscriptionID string }
			return json.Unmarshal(row, &s) == nil && strings.EqualFold(s.SubscriptionID, subscriptionID)
		})
		answer.TotalRecords -= len(answer.Data) - len(kept)
		answer.Data = kept
	})
}

// RepeatSkipToken answers every query with the first page and always the same $skipToken, so that there is no end.
func RepeatSkipToken() Fault {
	const token = "ZW5kbGVzcw"
	edit := editGraphAnswer(func(answer *graphAnswer) { answer.SkipToken = token })
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte(token), nil, 1)))
		}
		edit(w, r, next)
	}
}

// A graphAnswer is the body of an answer, its rows as they are.
type graphAnswer struct {
	TotalRecords    int               `json:"totalRecords"`
	Count           int               `json:"count"`
	Data            []json.RawMessage `json:"data"`
	Facets          []json.RawMessage `json:"facets"`
	ResultTruncated string            `json:"resultTruncated"`
	SkipToken       string            `json:"$skipToken,omitempty"`
}

// editGraphAnswer changes the good answer; an error stays as it is.
func editGraphAnswer(edit func(*graphAnswer)) Fault {
	return Rewrite(func(_ *http.Request, body []byte) []byte {
		var answer graphAnswer
		if err := json.Unmarshal(body, &answer); err != nil || answer.Data == nil {
			return body
		}
		edit(&answer)
		answer.Count = len(answer.Data)
		return marshal(answer)
	})
}
