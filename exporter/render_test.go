package exporter

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

const (
	text        = "text/plain;version=0.0.4"
	openMetrics = "application/openmetrics-text;version=1.0.0"
)

// What is served is byte for byte what promhttp serves of the same snapshot, and
// behind it what it serves of the exporter's own metrics, in every form.
func TestRenderedLikePromhttp(t *testing.T) {
	for name, source := range map[string]func(*azure.Client) Source{
		"arm":           func(c *azure.Client) Source { return c },
		"resourcegraph": func(c *azure.Client) Source { return azure.NewResourceGraph(c) },
	} {
		cfg := defaults()
		cfg.CacheTTL = time.Hour
		s := startFrom(t, simulator.Demo(), cfg, azure.Config{}, source)
		s.scrape(t, "10")
		snapshot := s.exporter.snapshot.Load()
		registry := prometheus.NewRegistry()
		registry.MustRegister(snapshot)
		for _, accept := range []string{"", text, openMetrics, "*/*", openMetrics + ";q=0.5," + text + ";q=0.9", "text/plain;version=1.0.0;escaping=allow-utf-8"} {
			for _, encoding := range []string{"", "identity", "gzip", "zstd", "gzip, deflate, br, zstd", "br", "gzip;q=0.1, zstd;q=0.9", "gzip;q=0"} {
				request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				request.Header.Set("Accept", accept)
				request.Header.Set("Accept-Encoding", encoding)
				want := httptest.NewRecorder()
				promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(want, request)

				got := httptest.NewRecorder()
				f := form{expfmt.Format(want.Header().Get("Content-Type")), want.Header().Get("Content-Encoding")}
				p, err := snapshot.part(f)
				if err != nil {
					t.Fatal(err)
				}
				if err := p.answer(got, f, nil); err != nil {
					t.Fatal(err)
				}
				gotText, wantText := decompress(t, f.encoding, got.Body), decompress(t, f.encoding, want.Body)
				if gotText != wantText {
					t.Errorf("%s, %q, %q: differs:\n%s", name, accept, encoding, difference(wantText, gotText))
				}
				if strings.Contains(gotText, `connector="contoso-aws`) != (name == "resourcegraph") {
					t.Errorf("%s: connectors: %s", name, gotText)
				}

				// The headers are promhttp's, and the whole is one stream.
				status, header, body := s.get(t, "/metrics", "Accept", accept, "Accept-Encoding", encoding)
				for _, key := range []string{"Content-Type", "Content-Encoding", "Vary"} {
					if strings.Join(header.Values(key), ",") != strings.Join(want.Header().Values(key), ",") {
						t.Errorf("%s, %q, %q: %s is %q, want %q", name, accept, encoding, key, header.Values(key), want.Header().Values(key))
					}
				}
				whole := decompress(t, header.Get("Content-Encoding"), strings.NewReader(body))
				if status != http.StatusOK || !strings.Contains(whole, "azure_secure_score_up 1") || !strings.Contains(whole, "go_goroutines") {
					t.Errorf("%s, %q, %q: status %d, incomplete", name, accept, encoding, status)
				}
				if ends := strings.Count(whole, "# EOF"); f.format.FormatType() == expfmt.TypeOpenMetrics && (ends != 1 || !strings.HasSuffix(whole, "# EOF\n")) {
					t.Errorf("%s: %d ends of OpenMetrics", name, ends)
				}
			}
		}
	}
}

// decompress reads one stream and insists that nothing is behind it.
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
		z, err := zstd.NewReader(rest)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
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

// What is unusual goes through promhttp.
func TestUnusualForms(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), defaults(), azure.Config{})
	_, header, _ := s.get(t, "/metrics", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if expfmt.Format(header.Get("Content-Type")).FormatType() != expfmt.TypeProtoDelim {
		t.Errorf("no protobuf: %q", header.Get("Content-Type"))
	}
	_, _, body := s.get(t, "/metrics?name[]=azure_secure_score_up&name[]=go_goroutines")
	if strings.Count(body, "# TYPE") != 2 || !strings.Contains(body, "azure_secure_score_up 1") {
		t.Errorf("name[]: %s", body)
	}
}

// Only the forms that were asked for are held.
func TestPartsOnDemand(t *testing.T) {
	s := start(t, simulator.Generate(2, 1), defaults(), azure.Config{})
	s.scrape(t, "10")
	if n := len(s.exporter.snapshot.Load().parts.byKey); n != 1 {
		t.Errorf("%d forms are held after one was asked for", n)
	}
}
