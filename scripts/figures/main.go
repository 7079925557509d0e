// Command figures measures the built exporter as a process of its own: it builds the binary, runs
// it against a simulated Azure in this process over loopback, scrapes it, and prints one line per
// source and number of subscriptions.
//
//	go run ./scripts/figures
//	go run ./scripts/figures -source=arm -subscriptions=1000 -flags=--azure.concurrency=8
//	go run ./scripts/figures -subscriptions=1000 -flags="--cache.ttl=1h" -scrapes=200
//	go run ./scripts/figures -subscriptions=1000 -flags="--cache.ttl=1h" -recommendations=150
//
// Compare counts and ratios: seconds depend on the machine. CPU and memory are the exporter's
// alone; the peak is read from /proc and so on Linux only. What needs no process of its own is in
// the benchmarks of exporter/.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"flag"
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

var (
	sources       = flag.String("source", "arm,resourcegraph", "sources to measure")
	subscriptions = flag.String("subscriptions", "100,1000", "numbers of subscriptions to measure")
	assessed      = flag.Int("recommendations", 0, "unhealthy recommendations per subscription; 0 turns them off")
	controls      = flag.Int("controls", 16, "controls per subscription")
	latency       = flag.Duration("latency", 50*time.Millisecond, "latency of the simulated Azure")
	scrapes       = flag.Int("scrapes", 1, "scrapes after the first, one after the other")
	extra         = flag.String("flags", "", "flags for the exporter, separated by blanks")
)

func main() {
	flag.Parse()
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
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "source\tsubscriptions\trequests\tthrottled\tseries\tgzip bytes\tfirst s\tnext s\tCPU s\tallocations\tallocated MiB\tpeak MiB\t")
	for source := range strings.SplitSeq(*sources, ",") {
		for text := range strings.SplitSeq(*subscriptions, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			if err := measure(table, dir, binary, source, n); err != nil {
				return fmt.Errorf("%s, %d subscriptions: %w", source, n, err)
			}
		}
	}
	return table.Flush()
}

// measure scrapes one exporter and prints its line. Requests and allocations are those until the
// end of the first scrape.
func measure(table io.Writer, dir, binary, source string, n int) (err error) {
	tenant := simulator.Generate(n, *controls)
	tenant.Latency = *latency
	mode := "off"
	if *assessed > 0 {
		simulator.GenerateAssessments(&tenant, *assessed)
		mode = "full"
	}
	e, err := start(dir, binary, tenant, "--azure.source="+source, "--recommendations="+mode)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, e.stop()) }()

	first, err := e.scrape()
	if err != nil {
		return err
	}
	if read := first.sums["azure_secure_score_subscription_scrape_success"]; read != float64(n) {
		return fmt.Errorf("%v subscriptions were read", read)
	}
	requests := 0
	for _, count := range e.azure.Requests() {
		requests += count
	}
	if *assessed > 0 {
		if err := e.awaitRecommendations(); err != nil {
			return err
		}
	}
	last, next := first, time.Duration(0)
	for range *scrapes {
		if last, err = e.scrape(); err != nil {
			return err
		}
		next += last.wall
	}
	fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%.3f\t%.3f\t%.2f\t%.0f\t%.0f\t%s\t\n", source, n, requests, e.azure.Throttled(), last.series, last.wire,
		first.wall.Seconds(), next.Seconds()/float64(max(1, *scrapes)), last.sums["process_cpu_seconds_total"],
		first.sums["go_memstats_mallocs_total"], first.sums["go_memstats_alloc_bytes_total"]/(1<<20), e.peak())
	return nil
}

// exporter is the running binary.
type exporter struct {
	azure   *simulator.Server
	command *exec.Cmd
	url     string
}

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
	listener.Close()

	flags = slices.Concat(flags, azure.Flags(), []string{"--web.listen-address=" + address, "--log.level=error"}, strings.Fields(*extra))
	e := &exporter{azure, exec.Command(binary, flags...), "http://" + address}
	e.command.Stderr = os.Stderr
	e.command.Env = slices.Concat(os.Environ(), simulator.ClientSecretEnv(), []string{"SSL_CERT_FILE=" + certificate})
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
	return nil, errors.Join(errors.New("the exporter did not become ready"), e.stop())
}

func (e *exporter) stop() error {
	err := e.command.Process.Signal(os.Interrupt)
	err = cmp.Or(err, e.command.Wait())
	e.azure.Close()
	return err
}

// scrape is one response of /metrics.
type scrape struct {
	wall   time.Duration // from the request to the last byte
	wire   int           // bytes, compressed
	series int
	sums   map[string]float64 // of all values of a metric
}

func (e *exporter) scrape() (scrape, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/metrics", http.NoBody)
	if err != nil {
		return scrape{}, err
	}
	req.Header.Set("Accept-Encoding", "gzip") // set explicitly, so that net/http does not decompress
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return scrape{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return scrape{}, err
	}
	s := scrape{wall: time.Since(began), wire: len(body), sums: map[string]float64{}}
	text, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return scrape{}, err
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return scrape{}, err
		}
		s.series++
		s.sums[line[:strings.IndexAny(line, "{ ")]] += value
	}
	return s, lines.Err()
}

// awaitRecommendations scrapes until the refresh that the first scrape started has ended.
func (e *exporter) awaitRecommendations() error {
	for range 180 {
		s, err := e.scrape()
		if err != nil || s.sums["azure_secure_score_recommendations_last_success_timestamp_seconds"] > 0 {
			return err
		}
		time.Sleep(time.Second)
	}
	return errors.New("recommendations were not read in time")
}

// peak returns the peak resident memory of the exporter in MiB.
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
