// Package exporter turns secure scores into Prometheus metrics.
//
// A scrape is Prometheus asking the exporter; a collection is the exporter asking Azure. A scrape
// passes through handler.go (deadline), cache.go (fresh, stale or wait), collector.go (one
// collection), subscriptionlist.go (the list of subscriptions), snapshot.go (the result) and
// exposition.go (the response).
//
// The package makes no HTTP request to Azure and reads no JSON: package azure does both.
package exporter

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// Config configures an [Exporter].
type Config struct {
	// ScrapeTimeout is the maximum duration of a scrape.
	ScrapeTimeout time.Duration
	// TimeoutOffset is subtracted from Prometheus' scrape timeout, so that the response
	// arrives before Prometheus gives up.
	TimeoutOffset time.Duration
	// CacheTTL is how long a collection is served before the next one starts; 0 collects on every
	// scrape.
	CacheTTL time.Duration
	// MaxStale is the maximum age of the last good values served while a subscription is failing.
	MaxStale time.Duration
	// DiscoveryInterval is how long the list of subscriptions is cached, with their tags and groups.
	DiscoveryInterval time.Duration
	// SubscriptionTags are the tags that become labels, in the order of [azure.Subscription.Tags].
	SubscriptionTags []string
	// Recommendations is [RecommendationsFull], [RecommendationsSummary] or [RecommendationsOff].
	Recommendations string
	// RecommendationsInterval is the minimum time between two refreshes of recommendations.
	RecommendationsInterval time.Duration
	// MaxRecommendations is how many recommendations of a subscription have series of their own; the
	// others are aggregated as other.
	MaxRecommendations int
	// MaxRequests is the maximum number of parallel scrape requests. Further requests get status 503.
	MaxRequests int
	// Settings are shown on the status page. They must not be secret.
	Settings []Setting
	// Demo marks every web page, because all data is simulated.
	Demo bool
	// Logger receives failures, recoveries and warnings.
	Logger log.Logger

	now func() time.Time // time.Now unless a test replaces it
}

// Setting is one flag and its value.
type Setting struct{ Name, Value string }

// DefaultConfig returns the defaults of the command line.
func DefaultConfig() Config {
	return Config{
		ScrapeTimeout:     time.Minute,
		TimeoutOffset:     500 * time.Millisecond,
		MaxStale:          time.Hour,
		DiscoveryInterval: 10 * time.Minute,
		MaxRequests:       40,

		Recommendations:         RecommendationsFull,
		RecommendationsInterval: time.Hour,
		MaxRecommendations:      25,

		Logger: log.NewNopLogger(),
		now:    time.Now,
	}
}

// Validate reports the first invalid setting, by the name of its flag.
func (c *Config) Validate() error {
	switch {
	case c.ScrapeTimeout <= 0:
		return errors.New("--scrape.timeout must be positive")
	case c.TimeoutOffset < 0 || c.TimeoutOffset >= c.ScrapeTimeout:
		return errors.New("--scrape.timeout-offset must be from 0 to less than --scrape.timeout")
	case c.CacheTTL < 0:
		return errors.New("--cache.ttl must not be negative")
	case c.MaxStale < c.CacheTTL:
		return errors.New("--cache.max-stale must be at least --cache.ttl")
	case c.DiscoveryInterval < 0:
		return errors.New("--azure.discovery-interval must not be negative")
	case c.RecommendationsInterval < time.Minute:
		return errors.New("--recommendations.interval must be at least 1m")
	case c.MaxRecommendations < 1:
		return errors.New("--recommendations.max-per-subscription must be at least 1")
	case c.MaxRequests < 1:
		return errors.New("--web.max-requests must be at least 1")
	}
	return nil
}

// Source is where subscriptions and scores come from: ARM's lists ([azure.Client]) or Resource
// Graph ([azure.ResourceGraph]). Every error has an [azure.Reason].
type Source interface {
	// Configured returns the subscriptions that are known without calling Azure.
	Configured() []azure.Subscription
	// Authenticate gets a token unless a valid one is cached.
	Authenticate(context.Context) error
	// Subscriptions lists the subscriptions to read.
	Subscriptions(context.Context) ([]azure.Subscription, error)
	// SecureScores reads subscriptions, the first ones first, and returns one result for each in
	// the same order. It returns by the end of ctx.
	SecureScores(ctx context.Context, subscriptionIDs []string) []azure.Result
	// RecommendationsURL returns where the Azure portal shows the recommendations of a subscription,
	// or "" in a cloud whose portal is unknown.
	RecommendationsURL(subscriptionID string) string
}

// Exporter collects secure scores on demand and serves them.
type Exporter struct {
	handlers   *handlers
	cache      *cache
	background *background
}

// New returns an exporter that reads scores from source and recommendations from the reader, which
// is nil if they are off. Requests of both to Azure must be reported to api.
func New(source Source, reader *azure.RecommendationReader, api *APIMetrics, cfg Config) (*Exporter, error) {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	metrics, err := newSelfMetrics(api, cfg.CacheTTL)
	if err != nil {
		return nil, err
	}
	list := newSubscriptionList(source, cfg)
	tags := newTagLabels(cfg.SubscriptionTags, cfg.Logger)
	collector := &collector{source: source, subscriptions: list, metrics: metrics, families: familiesFor(cfg, tags, reader), logger: cfg.Logger, now: cfg.now}
	background := newBackground(metrics.panics, cfg.Logger)
	cache := newCache(collector, background, reader, cfg)
	return &Exporter{handlers: newHandlers(cache, tags, cfg), cache: cache, background: background}, nil
}

// Handler serves /metrics, /probe, /sd, /status, /-/healthy, /-/ready and the landing page.
func (e *Exporter) Handler() http.Handler { return e.handlers.mux }

// shutdownReserve is the part of Shutdown's time that remains for responses to canceled scrapes.
const shutdownReserve = 2 * time.Second

// Shutdown refuses new requests and lets those in flight finish. Shortly before ctx
// ends it cancels the collections that are still running, and their scrapes get what is known by
// then. Shutdown returns once all background work has ended, with ctx's error if requests were
// still in flight.
func (e *Exporter) Shutdown(ctx context.Context) error {
	drainCtx := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		drainCtx, cancel = context.WithDeadline(ctx, deadline.Add(-shutdownReserve))
		defer cancel()
	}
	stop := context.AfterFunc(drainCtx, e.background.cancel)
	defer stop()
	err := e.handlers.drain(ctx)
	e.background.close()
	return err
}
