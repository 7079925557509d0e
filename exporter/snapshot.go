package exporter

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// snapshot is what is known after a collection. It is immutable once published.
type snapshot struct {
	at            time.Time // end of the collection; zero before the first
	expires       time.Time // when the next value in it is too old to be served; zero: none is
	duration      time.Duration
	err           error           // why there was no token or no list of subscriptions, or nil
	subscriptions []*subscription // by ID
	traffic       traffic

	families []family // all of the above as metrics, by name
	parts    parts    // the metrics as they were served, made on demand
}

// subscription is what the collections so far have learned about a subscription.
type subscription struct {
	azure.Subscription
	good *azure.Result // the newest that worked, or nil
	err  error          // why the newest collection failed, or nil
	turn time.Time      // when it was last asked and had the time to answer

	duplicates int // were dropped from what Azure said
}

// take takes over what a reading brought.
func (s *subscription) take(o azure.Result) {
	s.err = o.Err
	if o.Err == nil {
		var scores, controls int
		o.Scores, scores = withoutDuplicates(o.Scores, scoreKey)
		o.Controls, controls = withoutDuplicates(o.Controls, controlKey)
		s.good, s.duplicates = &o, scores+controls
	}
}

// dueAfter says whether Azure is to be asked again after this time. One that failed
// for a reason that may pass by itself is due at once.
func (s *subscription) dueAfter(ttl time.Duration) bool {
	if !s.Active() {
		return false
	}
	switch azure.ReasonOf(s.err) {
	case azure.ReasonTimeout, azure.ReasonThrottled, azure.ReasonServerError, azure.ReasonNetwork, azure.ReasonCanceled:
		return true
	}
	return time.Since(s.turn) >= ttl
}

// confirmed is when the values were last known to be those of Azure. A source may say
// so of values that it has read before.
func (s *subscription) confirmed() time.Time {
	if s.err == nil {
		return s.turn
	}
	return s.good.ReadAt
}

// freshFor says whether the snapshot may serve for so long after it was made, without
// a look at Azure: not when it lacks a token, the list, or a subscription that is due.
func (s *snapshot) freshFor(ttl time.Duration) bool {
	return s.err == nil && time.Since(s.at) < ttl &&
		!slices.ContainsFunc(s.subscriptions, func(sub *subscription) bool { return sub.dueAfter(ttl) })
}

// render makes the metrics, without the values that are too old by now. It is the last
// thing before the snapshot is published.
func (s *snapshot) render(now time.Time, maxStale time.Duration) {
	f := newBuilder()
	f.add(up, boolean(s.err == nil))
	f.add(scrapeDuration, s.duration.Seconds())
	for limit, remaining := range s.traffic.quota {
		f.add(apiQuotaRemaining, remaining, f.pair("limit", limit))
	}
	for _, sub := range s.subscriptions {
		if !f.addSubscription(sub, now.Add(-maxStale)) {
			continue
		}
		if end := sub.confirmed().Add(maxStale); s.expires.IsZero() || end.Before(s.expires) {
			s.expires = end
		}
	}
	s.families = f.families()
}

// Describe implements [prometheus.Collector]. It says nothing, because the registry
// would insist on one set of labels for a metric, and only the series of connectors
// have the label connector.
func (s *snapshot) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (s *snapshot) Collect(ch chan<- prometheus.Metric) {
	for _, f := range s.families {
		for i := range f.series {
			ch <- &f.series[i]
		}
	}
}

// family is a metric with its series, in the order in which they are served.
type family struct {
	*definition
	series []series
}

// builder gathers series by metric.
type builder struct {
	buckets map[bucketKey][]series
	pairs   map[[2]string]*dto.LabelPair // each label pair once
}

// bucketKey is a metric and all labels of a series but the last one, which is the
// subscription's ID where there are many: as subscriptions are added in the order
// of their IDs, a bucket is in order by itself, and only the few buckets need be
// sorted, not the many series.
type bucketKey struct {
	metric *definition
	labels [6]*dto.LabelPair
}

func newBuilder() *builder {
	return &builder{map[bucketKey][]series{}, map[[2]string]*dto.LabelPair{}}
}

// add adds a series. Its labels stand in the alphabetical order of their names.
func (f *builder) add(metric *definition, value float64, labels ...*dto.LabelPair) {
	key := bucketKey{metric: metric}
	copy(key.labels[:], labels[:max(0, len(labels)-1)])
	f.buckets[key] = append(f.buckets[key], series{metric, labels, value})
}

func (f *builder) pair(name, value string) *dto.LabelPair {
	key := [2]string{name, value}
	if f.pairs[key] == nil {
		f.pairs[key] = &dto.LabelPair{Name: &key[0], Value: &key[1]}
	}
	return f.pairs[key]
}

// addSubscription adds all series of a subscription; its values only if they are
// not from before the oldest time, and says whether it has.
func (f *builder) addSubscription(sub *subscription, oldest time.Time) (values bool) {
	id := f.pair("subscription_id", sub.ID)
	f.add(subscriptionInfo, 1, id, f.pair("subscription_name", sub.Name), f.pair("subscription_state", sub.State), f.pair("tenant_id", sub.TenantID))
	if !sub.Active() {
		return false
	}
	f.add(subscriptionScrapeSuccess, boolean(sub.err == nil), id)
	if sub.err != nil {
		f.add(subscriptionScrapeFailure, 1, f.pair("reason", string(azure.ReasonOf(sub.err))), id)
	}
	if sub.good == nil {
		return false
	}
	f.add(subscriptionLastSuccess, float64(sub.good.ReadAt.UnixMilli())/1000, id)
	if sub.confirmed().Before(oldest) {
		return false
	}
	f.add(subscriptionScored, boolean(len(sub.good.Scores) > 0), id)
	for _, score := range sub.good.Scores {
		labels := []*dto.LabelPair{f.pair("environment", score.Environment), f.pair("initiative", score.Initiative), id}
		labels = f.withConnector(score.Connector, labels)
		f.add(current, score.Current, labels...)
		f.add(maximum, score.Max, labels...)
		f.add(ratio, score.Ratio, labels...)
		f.add(weight, score.Weight, labels...)
	}
	for _, c := range sub.good.Controls {
		labels := []*dto.LabelPair{f.pair("control", c.Name), f.pair("control_id", c.ID), f.pair("environment", c.Environment), f.pair("initiative", c.Initiative), id}
		labels = f.withConnector(c.Connector, labels)
		if c.Points != nil {
			f.add(controlCurrent, c.Points.Current, labels...)
			f.add(controlMax, c.Points.Max, labels...)
		}
		f.add(controlWeight, c.Weight, labels...)
		resources := func(state string, n float64) {
			f.add(controlResources, n, slices.Insert(slices.Clone(labels), len(labels)-1, f.pair("state", state))...)
		}
		resources("healthy", c.Healthy)
		resources("not_applicable", c.NotApplicable)
		resources("unhealthy", c.Unhealthy)
	}
	return true
}

// withConnector puts the connector before the labels where there is one.
func (f *builder) withConnector(connector string, labels []*dto.LabelPair) []*dto.LabelPair {
	if connector == "" {
		return labels
	}
	return slices.Insert(labels, 0, f.pair("connector", connector))
}

// families returns all metrics by name, the series of each in Gather's own order,
// so that neither Gather nor anybody else need sort them at a scrape.
func (f *builder) families() []family {
	buckets := map[*definition][][]series{}
	for key, bucket := range f.buckets {
		buckets[key.metric] = append(buckets[key.metric], bucket)
	}
	all := make([]family, 0, len(buckets))
	for metric, buckets := range buckets {
		slices.SortFunc(buckets, func(a, b []series) int { return compare(a[0], b[0]) })
		series := slices.Concat(buckets...)
		slices.SortFunc(series, compare) // costs little when it is in order already
		all = append(all, family{metric, series})
	}
	slices.SortFunc(all, func(a, b family) int { return cmp.Compare(a.name, b.name) })
	return all
}

// series is a gauge of a snapshot. client_golang's own constant metrics take ten
// times the memory, because each of them has its own copy of all labels; here the
// label pairs are shared.
type series struct {
	metric *definition
	labels []*dto.LabelPair // in the alphabetical order of their names
	value  float64
}

// Desc implements [prometheus.Metric].
func (s *series) Desc() *prometheus.Desc { return s.metric.desc }

// Write implements [prometheus.Metric].
func (s *series) Write(out *dto.Metric) error {
	out.Label = s.labels
	out.Gauge = &dto.Gauge{Value: &s.value}
	return nil
}

// compare orders the series of a metric by their label values, as Gather does: those
// with fewer labels come first.
func compare(a, b series) int {
	if order := cmp.Compare(len(a.labels), len(b.labels)); order != 0 {
		return order
	}
	for i, label := range a.labels {
		if label == b.labels[i] { // shared, as most are
			continue
		}
		if order := cmp.Compare(*label.Value, *b.labels[i].Value); order != 0 {
			return order
		}
	}
	return 0
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// key identifies a score or a control of one subscription.
type key struct{ environment, connector, initiative, controlID string }

func scoreKey(s azure.Score) key { return key{s.Environment, s.Connector, s.Initiative, ""} }

func controlKey(c azure.Control) key { return key{c.Environment, c.Connector, c.Initiative, c.ID} }

// withoutDuplicates keeps the first of each key and counts the others. Two series with
// the same labels would fail the scrape for all.
func withoutDuplicates[T any](all []T, keyOf func(T) key) (unique []T, dropped int) {
	seen := make(map[key]bool, len(all))
	// Others may hold the slice, too.
	unique = slices.DeleteFunc(slices.Clone(all), func(t T) bool {
		twice := seen[keyOf(t)]
		seen[keyOf(t)] = true
		return twice
	})
	return unique, len(all) - len(unique)
}
