package azure

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

const (
	// maxTallyCounts bounds the counts of one subscription with all its connectors.
	maxTallyCounts = 200_000
	// maxKeys bounds the recommendations of a fleet. A real one has some thousand.
	maxKeys = 100_000
)

// keyTable numbers recommendations, so that a million counts share their IDs.
type keyTable struct {
	index map[string]uint32
	keys  []string
}

func newKeyTable() *keyTable { return &keyTable{index: map[string]uint32{}} }

// number returns the number of a recommendation, or false if there are too many.
func (t *keyTable) number(key string) (uint32, bool) {
	i, ok := t.index[key]
	if !ok && len(t.keys) < maxKeys {
		i, ok = uint32(len(t.keys)), true //nolint:gosec // below maxKeys
		key = strings.Clone(key)          // it is a part of a larger text
		t.index[key], t.keys = i, append(t.keys, key)
	}
	return i, ok
}

// tally adds up the rows of one subscription.
type tally struct {
	assessments uint64 // all that are visible; in the plain form, of unhealthy recommendations alone
	plain       bool
	counts      map[tallyKey]tallyCount
	err         error
}

type tallyKey struct {
	environment, connector string
	index                  uint32
}

type tallyCount struct {
	unhealthy, exempt, rows, preview uint64
	severity                         Severity
}

// tallies are by subscription ID.
type tallies map[string]*tally

func newTallies(ids []string) tallies {
	t := make(tallies, len(ids))
	for _, id := range ids {
		t[id] = &tally{counts: map[tallyKey]tallyCount{}}
	}
	return t
}

// failedTallies returns tallies that fail for the same reason.
func failedTallies(ids []string, err error) tallies {
	t := make(tallies, len(ids))
	for _, id := range ids {
		t[id] = &tally{err: err}
	}
	return t
}

// addPacked adds rows of [countsQuery].
func (t tallies) addPacked(rows []json.RawMessage, keys *keyTable) error {
	return addRows(t, rows, func(sub *tally, row packedCounts) error {
		if row.Items == nil {
			return invalidResponse("a row has no list of items")
		}
		sub.assessments += uint64(row.Assessments)
		for _, text := range *row.Items {
			if text == "" {
				continue
			}
			item, err := parsePackedItem(text)
			if err == nil {
				err = sub.add(item, keys)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// addPlain adds rows of [plainCountsQuery].
func (t tallies) addPlain(rows []json.RawMessage, keys *keyTable) error {
	return addRows(t, rows, func(sub *tally, row rowCounts) error {
		sub.assessments += row.assessments()
		return sub.add(row, keys)
	})
}

// addRows adds rows of a query. An invalid row fails its subscription alone. Rows of other
// subscriptions are left out.
func addRows[Row any](t tallies, rows []json.RawMessage, add func(*tally, Row) error) error {
	for _, raw := range rows {
		sub, err := t.of(raw)
		if err != nil {
			return err
		}
		if sub == nil {
			continue
		}
		var row Row
		if err = decode(raw, &row, maxGraphItems); err == nil {
			err = add(sub, row)
		}
		if err != nil {
			sub.err = err
		}
	}
	return nil
}

// of returns the tally of a row's subscription, or nil if it was not asked for.
func (t tallies) of(raw json.RawMessage) (*tally, error) {
	var row struct {
		SubscriptionID string `json:"subscriptionId"`
	}
	if err := decode(raw, &row, maxGraphItems); err != nil || row.SubscriptionID == "" {
		return nil, invalidResponse("a row has no subscription ID")
	}
	return t[strings.ToLower(row.SubscriptionID)], nil
}

// add adds the counts of a recommendation. Two rows of the same one add up: an ID may differ in
// case, and resources of several sources may belong to the same subscription or connector.
func (t *tally) add(row rowCounts, keys *keyTable) error {
	key := canonicalKey(row.Key)
	if key == "" {
		return invalidResponse("a recommendation has no key")
	}
	index, ok := keys.number(key)
	if !ok {
		return invalidResponse("more than %d recommendations", maxKeys)
	}
	connector := strings.ToLower(sanitize(row.Connector))
	k := tallyKey{environmentOf(row.Source, connector), connector, index}
	c, known := t.counts[k]
	if !known {
		if len(t.counts) == maxTallyCounts {
			return invalidResponse("more than %d recommendations in one subscription", maxTallyCounts)
		}
		k.connector = strings.Clone(connector)
	}
	c.unhealthy += uint64(row.Unhealthy)
	c.exempt += uint64(row.Exempt)
	c.rows += row.assessments()
	c.preview += uint64(row.Preview)
	if row.Unhealthy > 0 && row.Severity <= looseNumber(SeverityCritical) {
		c.severity = max(c.severity, Severity(row.Severity))
	}
	t.counts[k] = c
	return nil
}

// merge adds the tallies of other subscriptions, or of other parts of the same ones.
func (t tallies) merge(other tallies) {
	for id, sub := range other {
		if t[id] == nil {
			t[id] = sub
		} else {
			t[id].merge(sub)
		}
	}
}

func (t *tally) merge(other *tally) {
	t.assessments += other.assessments
	t.err = cmp.Or(t.err, other.err)
	for k, o := range other.counts {
		c := t.counts[k]
		c.unhealthy += o.unhealthy
		c.exempt += o.exempt
		c.rows += o.rows
		c.preview += o.preview
		c.severity = max(c.severity, o.severity)
		t.counts[k] = c
	}
}

// scopes returns the counts in their compact form, scope by scope.
func (t *tally) scopes() []RecommendationScope {
	keys := make([]tallyKey, 0, len(t.counts))
	for k, c := range t.counts {
		if c.unhealthy+c.exempt > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b tallyKey) int {
		return cmp.Or(cmp.Compare(a.connector, b.connector), cmp.Compare(a.environment, b.environment), cmp.Compare(a.index, b.index))
	})
	counts := make([]RecommendationCount, len(keys))
	var scopes []RecommendationScope
	first := 0 // of the scope
	for i, k := range keys {
		c := t.counts[k]
		counts[i] = RecommendationCount{
			Index: k.index, Unhealthy: clampCount(c.unhealthy), Exempt: clampCount(c.exempt),
			severity: c.severity, preview: c.preview > 0 && c.preview >= c.rows,
		}
		if next := i + 1; next == len(keys) || keys[next].connector != k.connector || keys[next].environment != k.environment {
			scopes = append(scopes, RecommendationScope{Environment: k.environment, Connector: k.connector, Counts: counts[first:next:next]})
			first = next
		}
	}
	return scopes
}

func clampCount(n uint64) uint32 { return uint32(min(n, maxNumber)) }

// foldedIDs are the IDs of the categories of recommendations that Azure creates per software,
// secret or finding, by the ID in lower case.
var foldedIDs = func() map[string]string {
	ids := map[string]string{}
	for _, category := range []string{
		"SoftwareUpdate", "SystemUpdate", "HostMisconfigurations", "ExposedSecrets", "ServiceUpgrade",
		"CodeVulnerabilities", "IacVulnerabilities", "ApiVulnerabilities",
	} {
		id := foldedPrefix + category
		ids[strings.ToLower(id)] = id
	}
	return ids
}()

// canonicalKey returns the ID of a recommendation. Rows spell a category in several ways; an
// unknown one is in lower case.
func canonicalKey(key string) string {
	key = strings.ToLower(sanitize(key))
	return cmp.Or(foldedIDs[key], key)
}

// environments are the environments of scores by the source of a resource in lower case. A machine
// on premises belongs to a subscription.
var environments = map[string]string{
	"azure": "Azure", "onpremise": "Azure", "onpremisesql": "Azure", "aws": "AWS", "gcp": "GCP", "github": "GitHub",
	"gitlab": "GitLab", "azuredevops": "AzureDevOps", "dockerhub": "DockerHub", "jfrog": "JFrog",
}

// environmentOf returns the environment of a row. Without a connector, a resource in another cloud
// is an Arc machine of the subscription.
func environmentOf(source, connector string) string {
	if connector == "" {
		return "Azure"
	}
	if known, ok := environments[strings.ToLower(source)]; ok {
		return known
	}
	return "unknown"
}
