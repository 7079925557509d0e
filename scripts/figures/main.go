// Command figures measures the exporter and prints a table: it builds the binary,
// runs it against a simulated Azure in this process over loopback, and scrapes it.
//
// Read the counts and the ratios. Seconds depend on the machine and on what else
// it does; a ratio compares two things that were measured in the same run. CPU and
// memory are those of the exporter's process alone, which the peak is read of on
// Linux only.
//
//	go run ./scripts/figures            # all, in some minutes
//	go run ./scripts/figures arm warm   # some: arm, graph, plain, growth, warm, steady
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const (
	latency  = 50 * time.Millisecond
	controls = 16
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "figures")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "exporter")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}

	bench := bench{dir, binary, tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	for _, m := range []struct {
		name    string
		measure func() error
	}{
		{"arm", bench.coldARM},
		{"graph", bench.coldGraph},
		{"plain", bench.plainRows},
		{"growth", bench.growth},
		{"warm", bench.warm},
		{"steady", bench.steady},
	} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.name) {
			continue
		}
		if err := m.measure(); err != nil {
			return err
		}
		if err := bench.table.Flush(); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

type bench struct {
	dir, binary string
	table       *tabwriter.Writer
}

// cold starts an exporter of n subscriptions and scrapes it once.
func (b bench) cold(n int, tenant simulator.Tenant, flags ...string) (*exporter, map[string]float64, time.Duration, error) {
	tenant.Latency = latency
	e, err := start(b.dir, b.binary, tenant, flags...)
	if err != nil {
		return nil, nil, 0, err
	}
	metrics, err := e.scrape()
	if err == nil && metrics["azure_secure_score_subscription_scrape_success"] != float64(n) {
		err = fmt.Errorf("%v subscriptions were read, want %d", metrics["azure_secure_score_subscription_scrape_success"], n)
	}
	if err != nil {
		e.stop()
		return nil, nil, 0, err
	}
	return e, metrics, e.wall, nil
}

func (b bench) coldARM() error {
	fmt.Printf("One cold scrape of 1,000 subscriptions × %d controls from ARM, %s a call.\n", controls, latency)
	fmt.Println("The bound is requests × latency ÷ concurrency.")
	fmt.Fprintln(b.table, "concurrency\trequests\tin flight\twall s\tbound s\twall ÷ bound\tCPU s\tallocations\tpeak MiB\t")
	for _, concurrency := range []int{8, 16, 32, 64} {
		e, metrics, wall, err := b.cold(1000, simulator.Generate(1000, controls), "--azure.concurrency="+strconv.Itoa(concurrency))
		if err != nil {
			return err
		}
		requests := e.requests(simulator.RouteSubscriptions, simulator.RouteSecureScores, simulator.RouteControls)
		bound := time.Duration(requests) * latency / time.Duration(concurrency)
		fmt.Fprintf(b.table, "%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%s\t\n", concurrency, requests, e.azure.MaxInFlight(), wall.Seconds(), bound.Seconds(),
			wall.Seconds()/bound.Seconds(), metrics["process_cpu_seconds_total"], metrics["go_memstats_mallocs_total"], e.peak())
		e.stop()
	}
	return nil
}

func (b bench) coldGraph() error {
	fmt.Printf("One cold scrape of n subscriptions × %d controls from Resource Graph, packed, %s a query.\n", controls, latency)
	fmt.Println("The second scrape is of a simulator that has its answers ready.")
	fmt.Fprintln(b.table, "subscriptions\tqueries\tthrottled\twall s\twall s again\tCPU s\tpeak MiB\t")
	for _, n := range []int{1000, 10_000} {
		e, metrics, wall, err := b.cold(n, simulator.Generate(n, controls), "--azure.source=resourcegraph")
		if err != nil {
			return err
		}
		queries := e.requests(simulator.RouteGraph)
		time.Sleep(5 * time.Second) // the quota's window
		if err := e.discard(); err != nil {
			return err
		}
		fmt.Fprintf(b.table, "%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%s\t\n", n, queries, e.azure.Throttled(), wall.Seconds(), e.wall.Seconds(), metrics["process_cpu_seconds_total"], e.peak())
		e.stop()
	}
	return nil
}

func (b bench) plainRows() error {
	fmt.Println("The same of 1,000 subscriptions, when the packed query is refused: plain rows, at pages of 1,000.")
	fmt.Println("(The first query is the packed one; 15 queries are granted in 5 s.)")
	fmt.Fprintln(b.table, "queries\tthrottled\tsubscriptions read\tcontrols read\twall s\t")
	tenant := simulator.Generate(1000, controls)
	tenant.ResourceGraph.NoPacking = true
	e, metrics, wall, err := b.cold(1000, tenant, "--azure.source=resourcegraph")
	if err != nil {
		return err
	}
	defer e.stop()
	fmt.Fprintf(b.table, "%d\t%d\t%.0f\t%d\t%.2f\t\n", e.requests(simulator.RouteGraph), e.azure.Throttled(),
		metrics["azure_secure_score_subscription_scored"], e.series["azure_secure_score_control_weight"], wall.Seconds())
	return nil
}

func (b bench) growth() error {
	fmt.Println("Growth: CPU of one cold scrape from Resource Graph, less that of the start, by subscription.")
	fmt.Fprintln(b.table, "subscriptions\tscrapes\tCPU ms a subscription\tof that at 100\t")
	var base float64
	for _, n := range []int{100, 1000, 10_000} {
		// Small ones are scraped more often, or the clock's tick would be the figure.
		scrapes := max(1, min(12, 10_000/n))
		tenant := simulator.Generate(n, controls)
		tenant.ResourceGraph.Queries = 1000
		e, first, _, err := b.cold(n, tenant, "--azure.source=resourcegraph")
		if err != nil {
			return err
		}
		var last map[string]float64
		for range scrapes {
			if last, err = e.scrape(); err != nil {
				return err
			}
		}
		e.stop()
		cost := (last["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]) / float64(scrapes) / float64(n) * 1000
		if base == 0 {
			base = cost
		}
		fmt.Fprintf(b.table, "%d\t%d\t%.2f\t%.2f\t\n", n, scrapes, cost, cost/base)
	}
	return nil
}

func (b bench) warm() error {
	fmt.Printf("A warm scrape of 1,000 subscriptions × %d controls in gzip, from --cache.ttl.\n", controls)
	fmt.Println("See BenchmarkScrape for the ratio to promhttp with metrics made anew.")
	fmt.Fprintln(b.table, "series\twire bytes\tCPU ms a scrape\twall ms a scrape\t")
	e, _, _, err := b.cold(1000, simulator.Generate(1000, controls), "--cache.ttl=1h")
	if err != nil {
		return err
	}
	defer e.stop()
	series := 0
	for _, n := range e.series {
		series += n
	}
	metrics, err := e.scrape() // the first one compresses
	if err != nil {
		return err
	}
	const scrapes = 200
	cpu := metrics["process_cpu_seconds_total"]
	began := time.Now()
	for range scrapes {
		if err := e.discard(); err != nil {
			return err
		}
	}
	wall := time.Since(began)
	if metrics, err = e.scrape(); err != nil {
		return err
	}
	fmt.Fprintf(b.table, "%d\t%d\t%.2f\t%.2f\t\n", series, e.wire, (metrics["process_cpu_seconds_total"]-cpu)/(scrapes+1)*1000, wall.Seconds()/scrapes*1000)
	return nil
}

func (b bench) steady() error {
	fmt.Println("Memory of 1,000 subscriptions from ARM, asked for every second for a minute; with a cache of 30 s most are warm.")
	fmt.Fprintln(b.table, "cache\tscrapes\tcollections\tpeak MiB\tCPU s\t")
	for _, ttl := range []string{"0s", "30s"} {
		e, _, _, err := b.cold(1000, simulator.Generate(1000, controls), "--cache.ttl="+ttl)
		if err != nil {
			return err
		}
		scrapes := 0
		tick := time.NewTicker(time.Second)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); scrapes++ {
			if err := e.discard(); err != nil {
				return err
			}
			<-tick.C
		}
		tick.Stop()
		metrics, err := e.scrape()
		if err != nil {
			return err
		}
		fmt.Fprintf(b.table, "%s\t%d\t%.0f\t%s\t%.1f\t\n", ttl, scrapes, metrics["azure_secure_score_scrapes_total"], e.peak(), metrics["process_cpu_seconds_total"])
		e.stop()
	}
	return nil
}

// exporter is the built binary at work.
type exporter struct {
	azure   *simulator.Server
	command *exec.Cmd
	url     string
	series  map[string]int // by metric, of the last scrape
	wire    int            // bytes of the last answer
	wall    time.Duration  // from its request to its last byte
}

// start runs the binary against a simulated tenant until it is ready.
func start(dir, binary string, tenant simulator.Tenant, flags ...string) (*exporter, error) {
	azure, err := simulator.Start(tenant)
	if err != nil {
		return nil, err
	}
	certificate := filepath.Join(dir, "certificate.pem")
	if err := os.WriteFile(certificate, azure.CertificatePEM(), 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	e := &exporter{azure: azure, url: "http://" + address}
	e.command = exec.Command(binary, append([]string{
		"--web.listen-address=" + address, "--log.level=error",
		"--azure.cloud=custom", "--azure.authority-host=" + azure.URL(), "--azure.arm-endpoint=" + azure.URL(),
	}, flags...)...)
	e.command.Stderr = os.Stderr
	e.command.Env = append(os.Environ(), "SSL_CERT_FILE="+certificate, "AZURE_TOKEN_CREDENTIALS=EnvironmentCredential",
		"AZURE_TENANT_ID="+simulator.TenantID, "AZURE_CLIENT_ID="+simulator.ClientID, "AZURE_CLIENT_SECRET="+simulator.ClientSecret)
	if err := e.command.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if resp, err := http.Get(e.url + "/-/ready"); err == nil {
			resp.Body.Close()
			return e, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	e.stop()
	return nil, fmt.Errorf("the exporter did not become ready")
}

func (e *exporter) stop() {
	_ = e.command.Process.Signal(os.Interrupt)
	_ = e.command.Wait()
	e.azure.Close()
}

func (e *exporter) requests(routes ...string) int {
	sum := 0
	for _, route := range routes {
		sum += e.azure.Requests()[route]
	}
	return sum
}

// discard asks for the metrics as Prometheus does, and looks at nothing.
func (e *exporter) discard() error {
	_, err := e.get()
	return err
}

// get returns the answer as it came over the wire, in gzip.
func (e *exporter) get() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "gzip") // set by hand, so that it is not unpacked
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	e.wire, e.wall = len(body), time.Since(began)
	return body, err
}

// scrape returns the sum of the values of each metric, and counts its series.
func (e *exporter) scrape() (map[string]float64, error) {
	packed, err := e.get()
	if err != nil {
		return nil, err
	}
	body, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	e.series = map[string]int{}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		value, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err == nil && name != "#" {
			sums[name] += value
			e.series[name]++
		}
	}
	return sums, lines.Err()
}

// peak returns the greatest resident memory of the exporter so far, in MiB.
func (e *exporter) peak() string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.command.Process.Pid))
	if err != nil {
		return "?"
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kibibytes, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(after, "kB", 2)[0]))
	if err != nil {
		return "?"
	}
	return strconv.Itoa(kibibytes / 1024)
}
