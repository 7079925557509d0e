package main

import (
	"strings"
	"syscall"
	"testing"
)

// A misspelt variable is reported with the nearest known one. What Kubernetes sets for a Service
// named like the exporter is not.
func TestWarnUnknownEnv(t *testing.T) {
	t.Parallel()
	p := start(t, []string{
		envPrefix + "CACHE_TLL=5m",
		envPrefix + "CACHE_TTL=5m",
		envPrefix + "SERVICE_HOST=10.0.0.1",
		envPrefix + "SERVICE_PORT_METRICS=10060",
		envPrefix + "PORT=tcp://10.0.0.1:10060",
		envPrefix + "PORT_10060_TCP_ADDR=10.0.0.1",
		envPrefix + "STAGING_SERVICE_HOST=10.0.0.2",
		"AZURE_SECURE_SCORE=0",
	}, "--demo")
	p.stop(t, syscall.SIGTERM)
	var warnings []string
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "level=warn") {
			warnings = append(warnings, line)
		}
	}
	want := "variable=" + envPrefix + "CACHE_TLL did_you_mean=" + envPrefix + "CACHE_TTL\n"
	if len(warnings) != 1 || !strings.HasSuffix(warnings[0], want) {
		t.Errorf("got the warnings %q, want one that ends with %q", warnings, want)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"check", "check", 0},
		{"chekc", "check", 2},
		{"kitten", "sitting", 3},
		{"flaw", "lawn", 2},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := distance(test.b, test.a); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}
