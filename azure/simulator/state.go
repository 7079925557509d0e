package simulator

// What a test changes while the simulator runs, and what it reads afterwards.

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// SetSubscription adds the subscription, or replaces the one with the same ID in place.
func (s *Server) SetSubscription(sub Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Copied because requests read them after the lock is released.
	sub.Tags = maps.Clone(sub.Tags)
	sub.NoScore = sub.NoScore || sub.Unregistered
	sub.Controls = slices.Clone(sub.Controls)
	sub.Connectors = slices.Clone(sub.Connectors)
	for i, c := range sub.Connectors {
		sub.Connectors[i].Controls = slices.Clone(c.Controls)
	}
	g := &graphSubscription{Subscription: sub, id: strings.ToLower(sub.ID)}
	g.ancestors = s.ancestors(g.id)
	if i := s.find(sub.ID); i >= 0 {
		s.subscriptions[i] = g
		return
	}
	s.index[g.id] = len(s.subscriptions)
	s.subscriptions = append(s.subscriptions, g)
}

// RemoveSubscription removes the subscription: it is no longer listed, and requests for it are
// answered with 404 SubscriptionNotFound.
func (s *Server) RemoveSubscription(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id)
	if i < 0 {
		return
	}
	s.subscriptions = append(s.subscriptions[:i:i], s.subscriptions[i+1:]...)
	clear(s.index)
	for i, sub := range s.subscriptions {
		s.index[sub.id] = i
	}
}

// find returns the index of the subscription, or -1. The caller holds the lock.
func (s *Server) find(id string) int {
	if i, ok := s.index[strings.ToLower(id)]; ok {
		return i
	}
	return -1
}

// SetFault makes the lists of one subscription faulty; nil makes them healthy. A fault only applies
// to requests with a valid token.
func (s *Server) SetFault(subscriptionID string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[strings.ToLower(subscriptionID)] = f
}

// SetListFault makes the list of subscriptions faulty; nil makes it healthy.
func (s *Server) SetListFault(f Fault) { s.SetFault(RouteSubscriptions, f) }

// SetGroupFault makes the descendants of management groups faulty; nil makes them healthy.
func (s *Server) SetGroupFault(f Fault) { s.SetFault(RouteDescendants, f) }

// SetGraphFault makes the queries of Resource Graph faulty; nil makes them healthy. They still use
// up quota, and queries beyond the quota do not reach the fault.
func (s *Server) SetGraphFault(f Fault) { s.SetFault(RouteGraph, f) }

// SetTokenFault makes the token endpoint faulty; nil makes it healthy. The OpenID configuration is
// unaffected.
func (s *Server) SetTokenFault(f Fault) { s.SetFault(RouteToken, f) }

// fault returns the fault of a request, or nil. The subscription is empty in those about no single
// one.
func (s *Server) fault(route, subscription string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults[cmp.Or(subscription, route)]
}

// Requests is the number of requests by route, refused ones included. A route without requests is
// absent.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// Throttled is the number of Resource Graph queries refused because the quota was used up. It does
// not count those that [Throttle] refused.
func (s *Server) Throttled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.throttled
}

// MaxInFlight is the maximum number of concurrent ARM requests.
func (s *Server) MaxInFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxInFlight
}

// Connections is the number of connections accepted since the start.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// ResetRequests resets Requests, Throttled and MaxInFlight.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.requests)
	s.throttled = 0
	s.maxInFlight = s.inFlight
}

// countRequest counts a request of the route.
func (s *Server) countRequest(route string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[route]++
}

// trackInFlight counts an ARM request as in flight until the function that it returns is called.
func (s *Server) trackInFlight() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight++
	s.maxInFlight = max(s.maxInFlight, s.inFlight)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight--
	}
}
