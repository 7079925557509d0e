// Command status-in-chromium opens the exporter's pages in Chromium and writes screenshots of them,
// to be looked at: tenants of 9, 450 and 10,000 subscriptions at three widths, light and dark.
//
//	go run ./scripts/status-in-chromium dist/status
//
// It fails if the browser complains on its console, or if a page asks for anything but itself. The
// environment variable CHROMIUM names another browser.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

// timeout is for one screenshot, and for the collection before.
const timeout = 2 * time.Minute

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: status-in-chromium DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "status-in-chromium:", err)
		os.Exit(1)
	}
	fmt.Println("look at", os.Args[1])
}

func run(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // G703: the caller's directory
		return err
	}
	production := simulator.Demo().Subscriptions[1].ID
	for _, tenant := range []struct {
		name string
		simulator.Tenant
		pages map[string]string // beside the list, by name
	}{
		{"demo", simulator.Demo(), map[string]string{
			"detail": "/status?subscription=" + production, "failing": "/status?subscription=" + simulator.DemoForbiddenID,
			"search": "/status?q=aws&sort=gain", "owner": "/status?owner=web-team&group=contoso-landing-zones", "nothing": "/status?q=nothing", "landing": "/", "missing": "/no/such/page",
		}},
		{"450", generate(450), map[string]string{"gain": "/status?sort=gain&state=read"}},
		{"10000", generate(10_000), map[string]string{"last": "/status?page=100"}},
	} {
		if err := shootTenant(dir, tenant.name, tenant.Tenant, tenant.pages); err != nil {
			return fmt.Errorf("%s: %w", tenant.name, err)
		}
	}
	return nil
}

// generate returns a tenant with failing and unscored subscriptions, long names, a connector,
// owners, targets and groups.
func generate(subscriptions int) simulator.Tenant {
	tenant := simulator.Generate(subscriptions, 16)
	tenant.SubscriptionPageSize = 1000
	all := tenant.Subscriptions
	all[1].Name = strings.Repeat("a long name of a subscription ", 2) + "end"
	all[2].Name = "anUnbrokenNameOfSixtyFourCharactersThatABrowserMustWrapAnywhere1"
	all[3].NoScore, all[4].State = true, "Disabled"
	all[5].Connectors = []simulator.Connector{{Name: "aws-production", Environment: "AWS", Controls: all[6].Controls}}
	for i := 10; i < subscriptions; i += subscriptions / 9 {
		all[i].NoAccess = true
	}
	tenant.ManagementGroups = map[string][]string{}
	for i := range all {
		all[i].Tags = map[string]string{simulator.DemoOwnerTag: fmt.Sprintf("team-%02d@contoso.example", i%70), simulator.DemoTargetTag: strconv.Itoa(50 + i%40)}
		group := fmt.Sprintf("business-unit-%02d", i%25)
		tenant.ManagementGroups[group] = append(tenant.ManagementGroups[group], all[i].ID)
	}
	all[1].Tags[simulator.DemoOwnerTag] = strings.Repeat("a long name of an owner ", 5)
	return tenant
}

// withPortal shows the links to the portal, which the simulator does not have.
type withPortal struct{ *azure.ResourceGraph }

func (withPortal) RecommendationsURL(string) string { return "https://portal.azure.com" }

// shootTenant serves a tenant and takes its screenshots.
func shootTenant(dir, name string, tenant simulator.Tenant, pages map[string]string) error {
	azureServer, err := simulator.Start(tenant)
	if err != nil {
		return err
	}
	defer azureServer.Close()
	api := exporter.NewAPIMetrics()
	azureConfig := azure.DefaultConfig()
	azureConfig.Cloud, azureConfig.RootCAs, azureConfig.Credential = azureServer.Cloud(), azureServer.RootCAs(), azureServer.Credential
	azureConfig.Observe = api.Observe
	azureConfig.OwnerTag, azureConfig.TargetTag = simulator.DemoOwnerTag, simulator.DemoTargetTag
	client, err := azure.New(azureConfig)
	if err != nil {
		return err
	}
	defer client.Close()
	cfg := exporter.DefaultConfig()
	cfg.ScrapeTimeout, cfg.Demo = timeout, name == "demo"
	cfg.Settings = []exporter.Setting{{Name: "azure.source", Value: "resourcegraph"}}
	exp, err := exporter.New(withPortal{azure.NewResourceGraph(client)}, nil, api, cfg)
	if err != nil {
		return err
	}
	web := httptest.NewServer(exp.Handler())
	defer web.Close()
	if err := get(web.URL + "/metrics"); err != nil {
		return err
	}

	for _, width := range []int{400, 1000, 1600} {
		for _, scheme := range []string{"light", "dark"} {
			shot := fmt.Sprintf("%s-%d-%s", name, width, scheme)
			if err := shoot(dir, shot, width, scheme, web.URL, "/status"); err != nil {
				return err
			}
			for page, path := range pages {
				if err := shoot(dir, shot+"-"+page, width, scheme, web.URL, path); err != nil {
					return err
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return exp.Shutdown(ctx)
}

func get(address string) error {
	resp, err := http.Get(address) //nolint:gosec // G107: a server of this process
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// shoot takes one screenshot.
func shoot(dir, name string, width int, scheme, base, path string) error {
	work, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	netLog := filepath.Join(work, "net.json")
	picture := filepath.Join(dir, name+".png")
	schemes := map[string]string{"dark": "0", "light": "1"}
	cmd := exec.CommandContext(ctx, cmp.Or(os.Getenv("CHROMIUM"), "chromium"), //nolint:gosec // G702: the caller's browser
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
		// The browser's own requests, such as updates, are not part of the page and resolve no host.
		"--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
		"--user-data-dir="+work, "--enable-logging=stderr", "--log-net-log="+netLog,
		fmt.Sprintf("--window-size=%d,1200", width), "--blink-settings=preferredColorScheme="+schemes[scheme],
		"--screenshot="+picture, base+path)
	log, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, log)
	}
	for line := range bytes.Lines(log) {
		// An error page has its status on the console, as it should.
		if bytes.Contains(line, []byte("CONSOLE")) && !bytes.Contains(line, []byte("404 (Not Found)")) {
			return fmt.Errorf("%s: the browser complains: %s", name, line)
		}
	}
	// The policy makes the browser complain about other hosts.
	if err := requestsOnly(netLog, base, path); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// requestsOnly fails if the browser asked the exporter for anything but the path.
func requestsOnly(netLog, base, path string) error {
	text, err := os.ReadFile(netLog) //nolint:gosec // G304: in a directory of this process
	if err != nil {
		return err
	}
	want, err := url.QueryUnescape(base + path)
	if err != nil {
		return err
	}
	found := false
	for _, part := range strings.Split(string(text), `"url":"`)[1:] {
		address, _, _ := strings.Cut(part, `"`)
		if !strings.HasPrefix(address, base) || address == base+"/" && path != "/" {
			continue // the browser logs the origin as well
		}
		if got, err := url.QueryUnescape(address); err != nil || got != want {
			return fmt.Errorf("the page asks for %s", address)
		}
		found = true
	}
	if !found {
		return errors.New("the browser's log has no request for the page")
	}
	return nil
}
