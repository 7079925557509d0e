package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// Huge responses do not fill the memory, whether for one subscription or for nearly all of them.
func TestMemory_HugeResponses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the peak memory of another process")
	}
	tenant := simulator.Generate(8, 15)
	azure := startAzure(t, tenant)
	p := start(t, secretEnv(t, azure), azure.Flags()...)
	const gibibyte = 1 << 30
	faults := []simulator.Fault{simulator.Huge(gibibyte, true), simulator.Huge(gibibyte, false), simulator.GzipBomb(gibibyte)}
	for _, test := range []struct{ bad, limit int }{{1, 100}, {7, 150}} {
		for _, fault := range faults {
			for _, subscription := range tenant.Subscriptions[:test.bad] {
				azure.SetFault(subscription.ID, fault)
			}
			for range 3 {
				s := p.scrape(t)
				for i, subscription := range tenant.Subscriptions {
					if i < test.bad {
						if got := s.value("azure_secure_score_subscription_scrape_failure", "subscription_id", subscription.ID, "reason", "invalid_response"); got != 1 {
							t.Error("no failure with the reason invalid_response")
						}
					} else if got := s.value("azure_secure_score_subscription_scrape_success", "subscription_id", subscription.ID); got != 1 {
						t.Errorf("success of a neighbour is %g", got)
					}
				}
			}
		}
		peak := peakMemory(t, p) >> 10
		t.Logf("%d hostile: peak memory %d MiB", test.bad, peak)
		if peak > test.limit {
			t.Errorf("%d hostile: peak memory %d MiB, want %d as a maximum", test.bad, peak, test.limit)
		}
	}
	p.stop(t, syscall.SIGTERM)
}

// peakMemory returns the peak resident memory of the process, in KiB.
func peakMemory(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	peak, _ := strconv.Atoi(string(match[1]))
	return peak
}

// No secret appears in a page or a log at debug, whatever Azure answers.
func TestSecrets_NeverShown(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"logfmt", "json"} {
		for answer, fault := range map[string]simulator.Fault{
			"good":             nil,
			"expired secret":   simulator.ExpiredSecret(),
			"broken":           simulator.Body(http.StatusOK, "application/json", `{"access_token":"`+simulator.TokenPrefix+`of-a-broken-answer","token_type":`),
			"error with token": simulator.Body(http.StatusBadRequest, "application/json", `{"error":"`+simulator.ClientSecret+`","error_description":"`+simulator.TokenPrefix+`x"}`),
		} {
			t.Run(format+"/"+answer, func(t *testing.T) {
				t.Parallel()
				tenant := simulator.Generate(6, 3)
				azure := startAzure(t, tenant)
				azure.SetTokenFault(fault)
				for i, f := range []simulator.Fault{
					simulator.WrongTenant(), simulator.ExpiredToken(), simulator.Throttle(-1, 0), simulator.Garbage(),
					simulator.Rewrite(func(r *http.Request, _ []byte) []byte { // a response that repeats the token
						return []byte(`{"value":"` + r.Header.Get("Authorization") + `"}`)
					}),
				} {
					azure.SetFault(tenant.Subscriptions[i].ID, f)
				}
				p := startTLS(t, secretEnv(t, azure), append(azure.Flags(), "--log.level=debug", "--log.format="+format)...)
				p.password = scraperPassword

				var pages strings.Builder
				for _, path := range []string{"/metrics", "/metrics", "/status", "/", "/-/healthy", "/-/ready", "/no-such-page"} {
					_, body := p.get(t, path)
					pages.WriteString(body)
				}
				p.stop(t, syscall.SIGTERM)
				if azure.Requests()[simulator.RouteToken] == 0 {
					t.Error("no token was asked for")
				}
				if !regexp.MustCompile(`level"?[=:]"?debug`).MatchString(p.log.String()) {
					t.Errorf("nothing was logged at debug:\n%s", p.log.String())
				}
				for place, text := range map[string]string{"page": pages.String(), "log": p.log.String()} {
					for _, secret := range []string{simulator.TokenPrefix, simulator.ClientSecret, scraperPassword, scraperHash} {
						if i := strings.Index(text, secret); i >= 0 {
							t.Errorf("%s in a %s: …%s…", secret, place, text[max(0, i-300):min(len(text), i+100)])
						}
					}
				}
			})
		}
	}
}
