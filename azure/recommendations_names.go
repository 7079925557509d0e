package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// describeAfter is how long names and the map of controls are valid: Microsoft changes them
	// rarely.
	describeAfter = 24 * time.Hour
	// maxTexts bounds the different texts of one recommendation.
	maxTexts = 200
)

// recommendationNames are the texts of the recommendations by key.
type recommendationNames struct {
	texts  map[string]recommendationTexts // also of those that Azure does not describe
	readAt time.Time
}

// recommendationTexts are the texts of a recommendation, chosen from all of its rows.
type recommendationTexts struct {
	name, effort, impact, category string
	severity                       Severity
	generallyAvailable             bool // at least one row is not a preview
}

// refresh reads the texts of all recommendations once a day, and otherwise those of new ones. Texts
// that were not read stay as they are.
func (n *recommendationNames) refresh(ctx context.Context, g *ResourceGraph, next *Recommendations, keys []string) error {
	all := g.now().Sub(n.readAt) >= describeAfter
	var holders map[string]bool // one subscription for each new recommendation
	if !all {
		holders = n.holders(next, keys)
		if len(holders) == 0 {
			return nil
		}
	}
	described := map[string]*textVariants{}
	err := readBatches(next,
		func(s *SubscriptionRecommendations) bool { return len(s.Scopes) > 0 && (all || holders[s.ID]) },
		func(p part) error { return readNames(ctx, g, p, described) })
	n.apply(described, all && err == nil)
	if err != nil {
		return fmt.Errorf("read names of recommendations: %w", err)
	}
	texts := n.texts
	if all {
		n.readAt, n.texts = g.now(), make(map[string]recommendationTexts, len(keys)) // without unused keys
	}
	for _, key := range keys {
		n.texts[key] = texts[key] // also without any, so that they are not requested again today
	}
	return nil
}

// holders returns a subscription for each recommendation without texts.
func (n *recommendationNames) holders(next *Recommendations, keys []string) map[string]bool {
	holders := map[string]bool{}
	held := make([]bool, len(keys))
	for i, key := range keys {
		_, known := n.texts[key]
		held[i] = known || strings.HasPrefix(key, foldedPrefix)
	}
	for i := range next.Subscriptions {
		s := &next.Subscriptions[i]
		if s.Err != nil {
			continue
		}
		for _, scope := range s.Scopes {
			for _, c := range scope.Counts {
				if !held[c.Index] {
					held[c.Index] = true
					holders[s.ID] = true
				}
			}
		}
	}
	return holders
}

// apply chooses the texts. A text that is still in use stays: otherwise a label would change
// whenever another subscription comes first. Unless all were read, those that are known stay.
func (n *recommendationNames) apply(described map[string]*textVariants, all bool) {
	for key, v := range described {
		current, known := n.texts[key]
		if known && current != (recommendationTexts{}) && !all {
			continue
		}
		if len(n.texts) == maxKeys && !known {
			continue
		}
		n.texts[key] = recommendationTexts{
			name: choose(v.names, current.name), effort: choose(v.efforts, current.effort),
			impact: choose(v.impacts, current.impact), category: choose(v.categories, current.category),
			severity: v.severity, generallyAvailable: v.generallyAvailable,
		}
	}
}

// choose returns the current text if the variants include it or there are none.
func choose(variants []string, current string) string {
	if len(variants) == 0 || slices.Contains(variants, current) {
		return current
	}
	return slices.Min(variants)
}

// textVariants are the texts that the rows of one recommendation have.
type textVariants struct {
	names, efforts, impacts, categories []string
	severity                            Severity
	generallyAvailable                  bool
}

// namesRow is a row of [namesQuery].
type namesRow struct {
	ID       string      `json:"id"`
	Name     looseTexts  `json:"name"`
	Severity looseNumber `json:"severity"`
	Effort   looseTexts  `json:"effort"`
	Impact   looseTexts  `json:"impact"`
	Category looseTexts  `json:"category"`
	Preview  looseBool   `json:"preview"`
}

// readNames adds the texts of the recommendations of a part. An invalid row is left out.
func readNames(ctx context.Context, g *ResourceGraph, p part, described map[string]*textVariants) error {
	return g.queryAll(ctx, namesQuery, p, func(raw json.RawMessage) {
		var row namesRow
		if decode(raw, &row, maxTexts) != nil {
			return
		}
		key := canonicalKey(row.ID)
		v := described[key]
		if v == nil {
			if len(described) == maxKeys {
				return
			}
			v = &textVariants{}
			described[strings.Clone(key)] = v
		}
		v.names = addTexts(v.names, row.Name)
		v.efforts = addTexts(v.efforts, row.Effort)
		v.impacts = addTexts(v.impacts, row.Impact)
		v.categories = addTexts(v.categories, row.Category)
		if row.Severity <= looseNumber(SeverityCritical) {
			v.severity = max(v.severity, Severity(row.Severity))
		}
		v.generallyAvailable = v.generallyAvailable || !bool(row.Preview)
	})
}

func addTexts(variants []string, texts looseTexts) []string {
	for _, text := range texts {
		text = sanitize(text)
		if text != "" && len(variants) < maxTexts && !slices.Contains(variants, text) {
			variants = append(variants, text)
		}
	}
	return variants
}

// looseTexts are a list of texts, a text, or null. Elements of other types are left out.
type looseTexts []string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *looseTexts) UnmarshalJSON(data []byte) error {
	var values []any
	if json.Unmarshal(data, &values) != nil {
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			return err
		}
		values = []any{value}
	}
	for _, value := range values {
		if text, ok := value.(string); ok {
			*t = append(*t, text)
		}
	}
	return nil
}

// looseBool is true, a number other than 0, or one of them as a text.
type looseBool bool

// UnmarshalJSON implements [json.Unmarshaler].
func (b *looseBool) UnmarshalJSON(data []byte) error {
	text := strings.ToLower(strings.Trim(string(data), `"`))
	*b = text == "true" || text == "1"
	return nil
}
