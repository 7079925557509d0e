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
	// maxControlsOfKey bounds the controls that one recommendation belongs to; a real one has up to
	// four.
	maxControlsOfKey = 32
	// maxControlKeys bounds the recommendations of one control; a real one has some fifty.
	maxControlKeys = 10_000
)

// controlMap maps recommendations to their security controls. It is the same for the whole tenant.
type controlMap struct {
	controls map[string][]string // IDs of controls by key
	readAt   time.Time
}

// refresh reads the map once a day. If that fails, the last map stays.
func (m *controlMap) refresh(ctx context.Context, g *ResourceGraph, next *Recommendations) error {
	if g.now().Sub(m.readAt) < describeAfter {
		return nil
	}
	controls := map[string][]string{}
	queried := false
	err := readBatches(next,
		func(*SubscriptionRecommendations) bool { return true },
		func(p part) error {
			queried = true
			return g.queryAll(ctx, controlsQuery, p, func(raw json.RawMessage) { addControl(controls, raw) })
		})
	switch {
	case err != nil:
		return fmt.Errorf("read the recommendations of controls: %w", err)
	case queried:
		m.controls, m.readAt = controls, g.now()
	}
	return nil
}

// addControl adds a row of [controlsQuery]. A control's variants are united; an invalid row is left
// out.
func addControl(controls map[string][]string, raw json.RawMessage) {
	var row struct {
		Control string          `json:"control"`
		Keys    json.RawMessage `json:"keys"` // a list, usually as a text
	}
	var definitions []struct {
		ID string `json:"id"`
	}
	if decode(raw, &row, maxControlKeys) != nil {
		return
	}
	list := []byte(row.Keys)
	var text string
	if json.Unmarshal(list, &text) == nil {
		list = []byte(text)
	}
	control := strings.ToLower(row.Control)
	if !uuid.MatchString(control) || decode(list, &definitions, maxControlKeys) != nil {
		return
	}
	for _, d := range definitions {
		key := strings.ToLower(d.ID[strings.LastIndexByte(d.ID, '/')+1:])
		if !uuid.MatchString(key) || len(controls) == maxKeys && controls[key] == nil {
			continue
		}
		of := controls[key]
		if i, found := slices.BinarySearch(of, control); !found && len(of) < maxControlsOfKey {
			controls[key] = slices.Insert(of, i, control)
		}
	}
}
