package exporter

import (
	"context"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// slots bound the requests of one kind that are in flight.
type slots struct {
	size int64
	free *semaphore.Weighted
	shut atomic.Bool
}

func newSlots(size int) *slots {
	return &slots{size: int64(size), free: semaphore.NewWeighted(int64(size))}
}

// acquire takes a slot. It returns false when none is free or the exporter is shutting down.
func (s *slots) acquire() bool { return !s.shut.Load() && s.free.TryAcquire(1) }

func (s *slots) release() { s.free.Release(1) }

// limit has next serve the requests that get a slot.
func (s *slots) limit(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.acquire() {
			http.Error(w, "too many concurrent requests, or shutting down", http.StatusServiceUnavailable)
			return
		}
		defer s.release()
		next(w, r)
	}
}

// close makes acquire fail from now on.
func (s *slots) close() { s.shut.Store(true) }

func (s *slots) closed() bool { return s.shut.Load() }

// wait returns when every slot is free.
func (s *slots) wait(ctx context.Context) error { return s.free.Acquire(ctx, s.size) }
