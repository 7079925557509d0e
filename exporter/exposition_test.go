package exporter

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

const (
	text        = "text/plain;version=0.0.4"
	openMetrics = "application/openmetrics-text;version=1.0.0"
)

// In every format and compression, what is served parses to the same families as promhttp makes
// of them, as one stream, with the headers that promhttp negotiates.
func TestExposition_LikePromhttp(t *testing.T) {
	for name, source := range map[string]func(*azure.Client) Source{
		"arm":           func(c *azure.Client) Source { return c },
		"resourcegraph": func(c *azure.Client) Source { return azure.NewResourceGraph(c) },
	} {
		cfg := DefaultConfig()
		cfg.CacheTTL = time.Hour
		s := startFrom(t, simulator.Demo(), cfg, azure.Config{}, source)
		s.scrape(t, "10")
		_, _, plain := s.get(t, "/metrics", "Accept", text, "Accept-Encoding", "identity")
		snapshotOnly := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return parse(t, plain), nil })
		for _, accept := range []string{"", text, openMetrics, "*/*", openMetrics + ";q=0.5," + text + ";q=0.9", "text/plain;version=1.0.0;escaping=allow-utf-8"} {
			for _, encoding := range []string{"", "identity", "gzip", "zstd", "gzip, deflate, br, zstd", "br", "gzip;q=0.1, zstd;q=0.9", "gzip;q=0"} {
				request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				request.Header.Set("Accept", accept)
				request.Header.Set("Accept-Encoding", encoding)
				want := httptest.NewRecorder()
				promhttp.HandlerFor(snapshotOnly, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(want, request)

				status, header, body := s.get(t, "/metrics", "Accept", accept, "Accept-Encoding", encoding)
				for _, key := range []string{"Content-Type", "Content-Encoding", "Vary"} {
					if strings.Join(header.Values(key), ",") != strings.Join(want.Header().Values(key), ",") {
						t.Errorf("%s, %q, %q: %s is %q, want %q", name, accept, encoding, key, header.Values(key), want.Header().Values(key))
					}
				}
				got := decompress(t, header.Get("Content-Encoding"), strings.NewReader(body))
				wanted := decompress(t, want.Header().Get("Content-Encoding"), want.Body)
				if status != http.StatusOK || !slices.Equal(snapshotLines(got), snapshotLines(wanted)) {
					t.Errorf("%s, %q, %q: status %d, differs:\n%s", name, accept, encoding, status, difference(wanted, got))
				}
				if !strings.Contains(got, "go_goroutines") || strings.Contains(got, `connector="contoso-aws`) != (name == "resourcegraph") {
					t.Errorf("%s, %q, %q: incomplete", name, accept, encoding)
				}
				isOpenMetrics := expfmt.Format(header.Get("Content-Type")).FormatType() == expfmt.TypeOpenMetrics
				if ends := strings.Count(got, "# EOF"); isOpenMetrics && (ends != 1 || !strings.HasSuffix(got, "# EOF\n")) {
					t.Errorf("%s: %d ends of OpenMetrics", name, ends)
				}
			}
		}
	}
}

// parse reads the text format.
func parse(t *testing.T, text string) []*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Values(families))
}

// snapshotLines are the sorted lines about gauges of this project, with HELP and TYPE. The
// counters change from scrape to scrape.
func snapshotLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "azure_secure_score_") && !strings.Contains(line, "azure_secure_score_api_request") && !strings.Contains(line, "_total") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// Prometheus' own parsers accept every line, and no family occurs twice: a strict OpenMetrics
// parser refuses the whole scrape.
func TestExposition_IsValidForPrometheus(t *testing.T) {
	tenant := simulator.Generate(3, 2)
	tenant.Subscriptions[0].Name = "quotes \" and \\ backslashes"
	tenant.Subscriptions[1].Controls[0].DisplayName = "\"} 1\nfake 2"
	s := start(t, tenant, DefaultConfig(), azure.Config{})
	for _, accept := range []string{text, openMetrics} {
		_, header, body := s.get(t, "/metrics", "Accept", accept)
		parser, err := textparse.New([]byte(body), header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
		if err != nil {
			t.Fatal(err)
		}
		series := 0
		families := map[string]bool{}
		for {
			entry, err := parser.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: after %d series: %v", accept, series, err)
			}
			switch entry {
			case textparse.EntrySeries:
				series++
			case textparse.EntryType:
				name, _ := parser.Type()
				if accept == openMetrics {
					name = bytes.TrimSuffix(name, []byte("_total"))
				}
				if families[string(name)] {
					t.Errorf("%s: family %s occurs twice", accept, name)
				}
				families[string(name)] = true
			}
		}
		if series < 100 || !families["azure_secure_score_current"] {
			t.Errorf("%s: %d series", accept, series)
		}
	}
}

// decompress reads one stream and fails if anything follows it.
func decompress(t *testing.T, encoding string, r io.Reader) string {
	t.Helper()
	compressed, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	rest := bytes.NewReader(compressed)
	r = rest
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(rest)
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false) // as clients read it that know of one stream alone
		r = z
	case "zstd":
		z, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		text, err := z.DecodeAll(compressed, nil)
		if err != nil || bytes.Count(compressed, []byte{0x28, 0xb5, 0x2f, 0xfd}) != 1 {
			t.Fatalf("not one zstd frame: %v", err)
		}
		return string(text)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", encoding, err)
	}
	if rest.Len() > 0 {
		t.Errorf("%s: %d bytes are behind the stream", encoding, rest.Len())
	}
	return string(text)
}

// Protobuf is not offered: a client that prefers it gets its next choice.
func TestExposition_NoProtobuf(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), DefaultConfig(), azure.Config{})
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for accept, want := range map[string]expfmt.FormatType{
		protobuf: expfmt.TypeTextPlain,
		protobuf + ";q=0.6," + openMetrics + ";q=0.5," + text + ";q=0.2,*/*;q=0.1": expfmt.TypeOpenMetrics,
	} {
		_, header, _ := s.get(t, "/metrics", "Accept", accept)
		if got := expfmt.Format(header.Get("Content-Type")).FormatType(); got != want {
			t.Errorf("%s: got %q", accept, header.Get("Content-Type"))
		}
	}
}

// However clients name a format, a snapshot is kept in four encodings. Text without compression
// is streamed and not kept.
func TestExposition_FewRenderings(t *testing.T) {
	cfg := DefaultConfig()
	cfg.CacheTTL = time.Hour
	s := start(t, simulator.Generate(2, 1), cfg, azure.Config{})
	s.get(t, "/metrics", "Accept-Encoding", "identity")
	if n := len(s.exporter.cache.latest().renderings.byEncoding); n != 0 {
		t.Errorf("%d renderings are kept of a snapshot that was only streamed", n)
	}
	for _, format := range []string{"text/plain;version=0.0.4", "text/plain;version=1.0.0", "application/openmetrics-text;version=0.0.1", "application/openmetrics-text;version=1.0.0"} {
		for _, escaping := range []string{"", ";escaping=allow-utf-8", ";escaping=dots"} {
			for _, encoding := range []string{"identity", "gzip", "zstd"} {
				s.get(t, "/metrics", "Accept", format+escaping, "Accept-Encoding", encoding)
			}
		}
	}
	if n := len(s.exporter.cache.latest().renderings.byEncoding); n != 4 {
		t.Errorf("%d renderings are kept, want 4", n)
	}
}
