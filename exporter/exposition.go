package exporter

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd" // lets promhttp negotiate zstd
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// exposition is the response to a scrape: a snapshot, followed by the exporter's own metrics.
type exposition struct {
	snapshot *snapshot
	header   http.Header // as negotiated with the client
	encoding encoding
}

// negotiator negotiates format and compression with a client. promhttp does that even if it has
// nothing to serve.
var negotiator = promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{EnableOpenMetrics: true})

func newExposition(s *snapshot, r *http.Request) *exposition {
	negotiated := discardBody{}
	negotiator.ServeHTTP(negotiated, withoutProtobuf(r))
	header := http.Header(negotiated)
	return &exposition{s, header, encoding{
		openMetrics: formatOf(header).FormatType() == expfmt.TypeOpenMetrics,
		compression: header.Get("Content-Encoding"),
	}}
}

func formatOf(header http.Header) expfmt.Format { return expfmt.Format(header.Get("Content-Type")) }

// withoutProtobuf returns the request without protobuf among the formats that the client
// accepts. Gauges gain nothing from it, and it needs an object per series.
func withoutProtobuf(r *http.Request) *http.Request {
	formats := slices.DeleteFunc(strings.Split(strings.Join(r.Header["Accept"], ","), ","), func(format string) bool {
		return strings.Contains(strings.ToLower(format), "protobuf")
	})
	return &http.Request{Method: r.Method, URL: r.URL, Header: http.Header{
		"Accept":          {strings.Join(formats, ",")}, // promhttp reads one header
		"Accept-Encoding": r.Header["Accept-Encoding"],
	}}
}

// discardBody is a response that keeps only its headers.
type discardBody http.Header

// Header implements [http.ResponseWriter].
func (d discardBody) Header() http.Header { return http.Header(d) }

// Write implements [http.ResponseWriter].
func (d discardBody) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements [http.ResponseWriter].
func (d discardBody) WriteHeader(int) {}

// prepare renders and compresses the snapshot unless another scrape has done so. Uncompressed
// text is streamed to the client instead: it is many times as large.
func (e *exposition) prepare() {
	if e.encoding.compression != "" {
		e.snapshot.rendering(e.encoding)
	}
}

// serve writes the response.
func (e *exposition) serve(w http.ResponseWriter, self prometheus.Gatherer) error {
	own, err := self.Gather()
	if err != nil && len(own) == 0 {
		http.Error(w, "cannot gather metrics", http.StatusInternalServerError)
		return err
	}
	if e.encoding.openMetrics {
		own = withoutOpenMetricsClashes(own)
	}
	writeOwn := func(w io.Writer) error { return encodeFamilies(w, formatOf(e.header), own) }
	maps.Copy(w.Header(), e.header)
	if e.encoding.compression != "" {
		return e.snapshot.rendering(e.encoding).serve(w, writeOwn)
	}
	if err := e.snapshot.write(w, e.encoding); err != nil {
		return err
	}
	return writeOwn(w)
}

// withoutOpenMetricsClashes drops gauges named like a counter without its _total: in OpenMetrics
// both would be one family. Of the Go collector's that is go_memstats_alloc_bytes, which equals
// go_memstats_heap_alloc_bytes.
func withoutOpenMetricsClashes(all []*dto.MetricFamily) []*dto.MetricFamily {
	counters := map[string]bool{}
	for _, f := range all {
		if f.GetType() == dto.MetricType_COUNTER {
			counters[strings.TrimSuffix(f.GetName(), "_total")] = true
		}
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool {
		return f.GetType() != dto.MetricType_COUNTER && counters[f.GetName()]
	})
}

// encodeFamilies writes the last families of a response.
func encodeFamilies(w io.Writer, format expfmt.Format, all []*dto.MetricFamily) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range all {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok { // writes OpenMetrics' # EOF
		return closer.Close()
	}
	return nil
}
