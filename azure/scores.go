package azure

import (
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DefaultInitiative is Defender for Cloud's own initiative, the only one that Microsoft shows. The
// score of another initiative is another measure.
const DefaultInitiative = "ascScore"

// Points are a score and its maximum. They are not negative and may have a fraction.
type Points struct{ Current, Max float64 }

// Score is the secure score of a subscription, or of one of its connectors to another cloud, in one
// initiative. It comes from the API "Secure Scores - List" (api-version 2020-01-01) or from
// Resource Graph. Azure recomputes it every 8 hours.
type Score struct {
	Initiative  string // ascScore for Defender for Cloud's default initiative
	Environment string // Azure; AWS, GCP, … for a connector
	Connector   string // its name; empty for the subscription itself
	Points
	Ratio  float64 // current ÷ max, 0 to 1, as Azure rounds it; 0 if max is 0
	Weight float64 // for the weighted mean over subscriptions
}

// Control is a security control, a group of recommendations about one attack surface. It comes from
// the API "Secure Score Controls - List" (api-version 2020-01-01) or from Resource Graph.
type Control struct {
	ID          string // a UUID in lower case
	Name        string // as the portal shows it; Microsoft renames controls
	Initiative  string
	Environment string
	Connector   string
	Points           // zero without HasPoints
	HasPoints   bool // whether Azure gives any
	Weight      float64
	// The number of resources by their state in the control's recommendations.
	Healthy, Unhealthy, NotApplicable float64
}

// Result holds the scores and controls of a subscription, or an error. Without an error, an empty
// Scores means that Azure does not score the subscription.
type Result struct {
	Scores   []Score
	Controls []Control
	Err      error
	// StartedAt is when the first request was sent; zero if the deadline or the quota of Resource
	// Graph prevented it.
	StartedAt time.Time
	// ReadAt is when the response was complete.
	ReadAt time.Time
}

// scoreItem is a score or a control as Azure writes it. The API's specification makes every
// property optional; numbers that it calls integers are accepted with a fraction.
type scoreItem struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		DisplayName                string   `json:"displayName"`
		Environment                string   `json:"environment"`
		Weight                     float64  `json:"weight"`
		Score                      apiScore `json:"score"`
		HealthyResourceCount       float64  `json:"healthyResourceCount"`
		UnhealthyResourceCount     float64  `json:"unhealthyResourceCount"`
		NotApplicableResourceCount float64  `json:"notApplicableResourceCount"`
	} `json:"properties"`
}

type apiScore struct {
	Current    number `json:"current"`
	Max        number `json:"max"`
	Percentage number `json:"percentage"` // a ratio, despite its name
}

// number is a number that can be null or absent.
type number struct {
	value float64
	known bool
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (n *number) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	n.known = decoder.PeekKind() != 'n'
	return json.UnmarshalDecode(decoder, &n.value)
}

// parseScores returns the scores of a subscription's list. Items without points are left out: Azure
// lists a subscription before it has scored it.
func parseScores(subscriptionID string, items []scoreItem) ([]Score, error) {
	scores := make([]Score, 0, len(items))
	for i := range items {
		s, ok, err := items[i].score(subscriptionID)
		if err != nil {
			return nil, err
		}
		if ok {
			scores = append(scores, s)
		}
	}
	return scores, nil
}

// score returns false for an item without points.
func (i *scoreItem) score(subscriptionID string) (Score, bool, error) {
	if err := i.validate(subscriptionID); err != nil {
		return Score{}, false, err
	}
	points, ok := i.points()
	switch {
	case ok:
	case i.ID == "" && i.Name == "":
		return Score{}, false, invalidResponse("a score has neither an ID nor points")
	default:
		return Score{}, false, nil
	}
	s := Score{
		Initiative: i.initiative(), Environment: i.environment(), Connector: i.connector(),
		Points: points, Weight: i.Properties.Weight,
	}
	if name := sanitizeShared(i.Name); name != "" && !strings.EqualFold(name, DefaultInitiative) {
		s.Initiative = name
	}
	switch percentage := i.Properties.Score.Percentage; {
	case points.Max == 0:
	case percentage.known && percentage.value <= 1:
		s.Ratio = percentage.value
	default: // also if Azure ever sends a percentage
		s.Ratio = math.Round(points.Current/points.Max*1e4) / 1e4
	}
	if s.Ratio > maxNumber { // a maximum close to zero
		return Score{}, false, invalidResponse("the ratio of %g to %g is out of range", points.Current, points.Max)
	}
	return s, true, nil
}

// parseControls returns the controls of a subscription's list.
func parseControls(subscriptionID string, items []scoreItem) ([]Control, error) {
	controls := make([]Control, 0, len(items))
	for i := range items {
		c, err := items[i].control(subscriptionID)
		if err != nil {
			return nil, err
		}
		controls = append(controls, c)
	}
	return controls, nil
}

func (i *scoreItem) control(subscriptionID string) (Control, error) {
	if err := i.validate(subscriptionID); err != nil {
		return Control{}, err
	}
	id := strings.ToLower(cmp.Or(sanitize(i.Name), i.ID[strings.LastIndexByte(i.ID, '/')+1:]))
	if id = sanitizeShared(id); id == "" {
		return Control{}, invalidResponse("a control has no ID")
	}
	p := &i.Properties
	c := Control{
		ID: id, Name: sanitizeShared(p.DisplayName),
		Initiative: i.initiative(), Environment: i.environment(), Connector: i.connector(),
		Weight: p.Weight, Healthy: p.HealthyResourceCount, Unhealthy: p.UnhealthyResourceCount, NotApplicable: p.NotApplicableResourceCount,
	}
	c.Points, c.HasPoints = i.points()
	return c, nil
}

// maxNumber is far above any real score, weight or count.
const maxNumber = 1e9

// validate rejects another subscription's item and absurd numbers: one of them would spoil every
// sum that includes it.
func (i *scoreItem) validate(subscriptionID string) error {
	if err := belongsTo(i.ID, subscriptionID); err != nil {
		return err
	}
	p := &i.Properties
	for _, n := range [...]float64{
		p.Weight, p.HealthyResourceCount, p.UnhealthyResourceCount, p.NotApplicableResourceCount,
		p.Score.Current.value, p.Score.Max.value, p.Score.Percentage.value,
	} {
		if math.IsNaN(n) || n < 0 || n > maxNumber {
			return invalidResponse("the number %g is out of range", n)
		}
	}
	return nil
}

// belongsTo rejects the ID of an item that names another subscription.
func belongsTo(id, subscriptionID string) error {
	if owner := segmentAfter(id, "subscriptions"); owner != "" && !strings.EqualFold(owner, subscriptionID) {
		return invalidResponse("an item belongs to subscription %s", sanitize(owner))
	}
	return nil
}

// points returns false for a score that is null or empty, which Azure may give to a subscription
// that it has not assessed.
func (i *scoreItem) points() (Points, bool) {
	s := &i.Properties.Score
	return Points{s.Current.value, s.Max.value}, s.Current.known || s.Max.known
}

// initiative returns the initiative of an ID such as
// /subscriptions/…/secureScores/ascScore/secureScoreControls/….
func (i *scoreItem) initiative() string {
	initiative := sanitizeShared(segmentAfter(i.ID, "secureScores"))
	// Resource Graph varies the case of IDs.
	if initiative == "" || strings.EqualFold(initiative, DefaultInitiative) {
		return DefaultInitiative
	}
	return initiative
}

// connector returns the connector of an ID such as /subscriptions/…/securityConnectors/aws-prod/…,
// in lower case because Resource Graph varies the case. Whether real connectors' scores have such
// IDs is unverified.
func (i *scoreItem) connector() string {
	return sanitizeShared(strings.ToLower(segmentAfter(i.ID, "securityConnectors")))
}

func (i *scoreItem) environment() string {
	if e := sanitizeShared(i.Properties.Environment); e != "" {
		return e
	}
	return "Azure"
}

// segmentAfter returns the path segment of an ID that follows the given one, or "".
func segmentAfter(id, segment string) string {
	for part, rest, found := strings.Cut(id, "/"); found; part, rest, found = strings.Cut(rest, "/") {
		if strings.EqualFold(part, segment) {
			next, _, _ := strings.Cut(rest, "/")
			return next
		}
	}
	return ""
}
