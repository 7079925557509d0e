package simulator

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// The sizes of ARM's token buckets for reads: per principal, and for all principals together.
const (
	readQuota       = 250
	globalReadQuota = 15 * readQuota
)

// bucketKey identifies one bucket of a subscription, or of the tenant if the ID is empty.
type bucketKey struct {
	subscription string
	size         float64
}

// bucket is a token bucket of ARM, which refills completely within ten seconds. The simulator
// reports the remainder but refuses no request; [Throttle] does that.
type bucket struct {
	used float64
	at   time.Time
}

// consumeReads takes one read from the buckets of the subscription, or of the tenant if the ID is
// empty, and reports the remainder in the headers.
func (s *Server) consumeReads(h http.Header, subscription string) {
	scope := "subscription"
	if subscription == "" {
		scope = "tenant"
	}
	h.Set("x-ms-ratelimit-remaining-"+scope+"-reads",
		strconv.Itoa(s.consume(subscription, readQuota)))
	h.Set("x-ms-ratelimit-remaining-"+scope+"-global-reads",
		strconv.Itoa(s.consume(subscription, globalReadQuota)))
}

// consume takes one read from the bucket and returns how many remain.
func (s *Server) consume(subscription string, size float64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := bucketKey{subscription, size}, s.now()
	b := s.buckets[key]
	refilled := now.Sub(b.at).Seconds() * size / 10
	b = bucket{used: min(max(0, b.used-refilled)+1, size), at: now}
	s.buckets[key] = b
	return int(size - b.used)
}

// The published quota of Resource Graph.
const (
	defaultQueries = 15
	defaultWindow  = 5 * time.Second
)

// window counts the queries of the principal. It begins with the first query after the previous
// one.
type window struct {
	ends time.Time
	used int
}

// consumeQuery takes one query from the principal's quota, reports the remainder in the headers,
// and answers 429 if there was none left.
func (s *Server) consumeQuery(w http.ResponseWriter) bool {
	s.mu.Lock()
	now := s.now()
	if !now.Before(s.window.ends) {
		s.window = window{ends: now.Add(s.graph.Window), used: s.graph.Others}
	}
	ok := s.window.used < s.graph.Queries
	if ok {
		s.window.used++
	} else {
		s.throttled++
	}
	remaining := s.graph.Queries - s.window.used
	// Rounded up, so that a client that waits this long is never early.
	seconds := int(math.Ceil(s.window.ends.Sub(now).Seconds()))
	s.mu.Unlock()
	w.Header().Set("x-ms-user-quota-remaining", strconv.Itoa(remaining))
	w.Header().Set("x-ms-user-quota-resets-after",
		fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60))
	if !ok {
		rateLimited(w)
	}
	return ok
}
