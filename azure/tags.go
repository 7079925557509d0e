package azure

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-kit/log/level"
)

// maxTagValue is the longest value of a tag that is kept, in characters. Azure allows 256.
const maxTagValue = 128

// maxTags bounds the arrays in the tags of a subscription, which are not read.
const maxTags = 1000

// wantedTags are the names of the tags that the configuration asks for. Azure ignores their case.
type wantedTags struct {
	names         []string // Config.SubscriptionTags
	owner, target string   // empty for none
}

func (w *wantedTags) include(name string) bool {
	for _, wanted := range w.names {
		if strings.EqualFold(wanted, name) {
			return true
		}
	}
	return name != "" && (strings.EqualFold(w.owner, name) || strings.EqualFold(w.target, name))
}

func (w *wantedTags) none() bool { return len(w.names) == 0 && w.owner == "" && w.target == "" }

// addTo reads the tags of a subscription from a JSON object. It skips values that are not strings,
// and empty ones, which a label cannot distinguish from none. Of two names that differ only in
// case, the first in alphabetical order wins.
func (w *wantedTags) addTo(s *Subscription, object []byte) {
	var tags map[string]any
	if w.none() || decode(object, &tags, maxTags) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		if text, ok := tags[name].(string); ok && w.include(name) {
			w.set(s, name, truncate(sanitizeShared(text), maxTagValue))
		}
	}
}

// set keeps the value of a wanted tag, unless it has one.
func (w *wantedTags) set(s *Subscription, name, value string) {
	if value == "" {
		return
	}
	for i, wanted := range w.names {
		if !strings.EqualFold(wanted, name) {
			continue
		}
		if s.Tags == nil {
			s.Tags = make([]string, len(w.names))
		}
		s.Tags[i] = cmp.Or(s.Tags[i], value)
	}
	if strings.EqualFold(w.owner, name) {
		s.Owner = cmp.Or(s.Owner, value)
	}
	if strings.EqualFold(w.target, name) && s.Target == nil && s.badTarget == "" {
		target, err := parseTarget(value)
		if err != nil {
			s.badTarget = value
			return
		}
		s.Target = &target
	}
}

// decimal is a number with an optional percent sign.
var decimal = regexp.MustCompile(`^([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(%?)$`)

// parseTarget returns the target that a tag sets, as a ratio from 0 to 1. With a percent sign or
// above 1 it is a percentage, so 1 is 100 %.
func parseTarget(text string) (float64, error) {
	match := decimal.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("%q is neither a percentage nor a ratio", text)
	}
	target, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return 0, err
	}
	if match[2] != "" || target > 1 {
		target /= 100
	}
	if target > 1 {
		return 0, fmt.Errorf("%q is above 100 %%", text)
	}
	return target, nil
}

// logTargets logs which subscriptions have an unreadable target, once for each text.
func (c *Client) logTargets(subscriptions []Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unreadable := map[string]string{}
	for _, s := range subscriptions {
		if s.badTarget == "" {
			continue
		}
		unreadable[s.ID] = s.badTarget
		if c.badTargets[s.ID] != s.badTarget {
			_, err := parseTarget(s.badTarget)
			level.Warn(c.logger).Log("msg", "ignoring an invalid target", "subscription_id", s.ID, "tag", c.tags.target, "err", err)
		}
	}
	c.badTargets = unreadable
}

// validateTags reports the first tag that Azure cannot have, or that is asked for twice.
func (c *Config) validateTags() error {
	seen := map[string]bool{}
	for _, tag := range c.SubscriptionTags {
		if err := validateTag(tag); err != nil {
			return fmt.Errorf("--azure.subscription-tag: %w", err)
		}
		if seen[strings.ToLower(tag)] {
			return fmt.Errorf("--azure.subscription-tag: %s is given twice", tag)
		}
		seen[strings.ToLower(tag)] = true
	}
	for _, one := range []struct{ flag, tag string }{{"--azure.owner-tag", c.OwnerTag}, {"--azure.target-tag", c.TargetTag}} {
		if err := validateTag(one.tag); one.tag != "" && err != nil {
			return fmt.Errorf("%s: %w", one.flag, err)
		}
	}
	return nil
}

// validateTag follows Azure's rules for names of tags.
func validateTag(name string) error {
	if name == "" || len(name) > 512 || strings.ContainsAny(name, `<>%&\?/`) {
		return fmt.Errorf(`%q is not a tag name, expected up to 512 characters without < > %% & \ ? /`, truncate(name, 60))
	}
	return nil
}
