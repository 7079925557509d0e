package azure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// recommendationQueryTimeout bounds one query, its pages and its wait for the quota, so that one
// that hangs does not take the time of the others.
const recommendationQueryTimeout = 5 * time.Minute

// queryAll calls add with each row of a query about a part. If it is too large for one query, the
// query covers smaller parts.
func (g *ResourceGraph) queryAll(ctx context.Context, query func(part) string, p part, add func(json.RawMessage)) error {
	err := g.queryRows(ctx, query, p, func(rows []json.RawMessage) error {
		for _, row := range rows {
			add(row)
		}
		return nil
	})
	parts := p.split()
	if !resultTooLarge(err) || parts == nil {
		return err
	}
	err = nil
	for _, smaller := range parts {
		if err == nil || len(p.subscriptions) > 1 { // the parts of one are useless without each other
			err = cmp.Or(err, g.queryAll(ctx, query, smaller, add))
		}
	}
	return err
}

// queryRows reads all pages of a query about a part and calls add with the rows of each, undecoded,
// so that an invalid row can be left out alone. An error from add ends it. A result that may be
// incomplete is an error, as [resultTooLarge] if a smaller query may be complete. It takes up to
// [recommendationQueryTimeout].
func (g *ResourceGraph) queryRows(ctx context.Context, query func(part) string, p part, add func([]json.RawMessage) error) error {
	ctx, cancel := context.WithTimeout(ctx, recommendationQueryTimeout)
	defer cancel()
	copyRow := func(row jsontext.Value) json.RawMessage { return bytes.Clone(row) }
	_, err := readPages(ctx, g, query(p), p.subscriptions, copyRow, add)
	return err
}

// packedCounts is a row of [countsQuery].
type packedCounts struct {
	Assessments looseNumber `json:"assessments"`
	Items       *[]string   `json:"items"` // null leaves an empty text
}

// rowCounts are the counts of one recommendation in one subscription or connector: a row of
// [plainCountsQuery], or an item of a packed row.
type rowCounts struct {
	Key           string      `json:"key"`
	Source        string      `json:"source"`
	Connector     string      `json:"connector"`
	Severity      looseNumber `json:"s"`
	Unhealthy     looseNumber `json:"u"`
	Healthy       looseNumber `json:"h"`
	NotApplicable looseNumber `json:"n"`
	Exempt        looseNumber `json:"x"`
	Preview       looseNumber `json:"p"` // rows that are
}

func (c *rowCounts) assessments() uint64 {
	return uint64(c.Unhealthy) + uint64(c.Healthy) + uint64(c.NotApplicable) + uint64(c.Exempt)
}

// parsePackedItem parses key|source|connector|severity|unhealthy|healthy|not
// applicable|exempt|preview.
func parsePackedItem(item string) (rowCounts, error) {
	var c rowCounts
	rest := item
	for _, text := range []*string{&c.Key, &c.Source, &c.Connector} {
		*text, rest, _ = strings.Cut(rest, "|")
	}
	numbers := [...]*looseNumber{&c.Severity, &c.Unhealthy, &c.Healthy, &c.NotApplicable, &c.Exempt, &c.Preview}
	for i, n := range numbers {
		text, after, more := strings.Cut(rest, "|")
		if more != (i < len(numbers)-1) {
			return c, invalidResponse("an item does not have 9 fields")
		}
		if err := n.parse(text); err != nil {
			return c, err
		}
		rest = after
	}
	return c, nil
}

// looseNumber is a count that may also be written as a text or null.
type looseNumber uint32

// UnmarshalJSON implements [json.Unmarshaler].
func (n *looseNumber) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "null" || text == "" {
		*n = 0
		return nil
	}
	return n.parse(text)
}

func (n *looseNumber) parse(text string) error {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > maxNumber || math.IsNaN(f) {
		return invalidResponse("a count is not a number from 0 to 1e9")
	}
	*n = looseNumber(f)
	return nil
}
