package exporter

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// Whatever names and numbers Azure has, expfmt and Prometheus' own parsers read back what went in,
// in both formats.
func FuzzSampleWriter(f *testing.F) {
	f.Add("Enable MFA", "Contoso", "aws-prod", 3.5, 10.0, 7.0)
	f.Add("\"} 1\nfake 2", `back\slash`, "", 0.0, 1e6, 1e9)
	f.Add("\\n", "#", "tab\tand\rreturn", 1e-9, 999999.5, 123456.0)
	f.Fuzz(func(t *testing.T, control, name, connector string, current, maximum, healthy float64) {
		for _, text := range []*string{&control, &name, &connector} {
			*text = strings.ToValidUTF8(*text, "?") // as after decoding JSON
		}
		for _, number := range []*float64{&current, &maximum, &healthy} {
			if math.IsNaN(*number) || *number < 0 || *number > 1e9 {
				*number = 1 // package azure refuses such numbers
			}
		}
		sub := &subscription{Subscription: azure.Subscription{ID: "20ff7fc3-e762-44dd-bd96-b71116dcdc23", Name: name}}
		points := azure.Points{Current: current, Max: maximum}
		sub.record(azure.Result{
			Scores:   []azure.Score{{Initiative: azure.DefaultInitiative, Environment: "Azure", Connector: connector, Points: points}},
			Controls: []azure.Control{{ID: "c", Name: control, Initiative: azure.DefaultInitiative, Environment: "Azure", Connector: connector, Points: points, HasPoints: true, Healthy: healthy}},
		}, time.Now())
		s := (&snapshot{subscriptions: []*subscription{sub}, families: families}).seal(cutoffs{}, nil)

		var text, open bytes.Buffer
		if err := s.write(&text, encoding{}); err != nil {
			t.Fatal(err)
		}
		if err := s.write(&open, encoding{openMetrics: true}); err != nil {
			t.Fatal(err)
		}
		open.WriteString("# EOF\n")
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text.Bytes()))
		if err != nil {
			t.Fatalf("expfmt: %v in\n%s", err, text.String())
		}
		if got := families[namespace+"_control_resources"].GetMetric(); len(got) != 3 || got[0].GetGauge().GetValue() != healthy {
			t.Errorf("expfmt reads %v, want %g healthy resources", got, healthy)
		}
		for format, body := range map[string][]byte{"text/plain; version=0.0.4": text.Bytes(), "application/openmetrics-text; version=1.0.0": open.Bytes()} {
			series := parseSeries(t, format, body)
			for metric, want := range map[string]struct{ label, text string }{
				"control_current":   {"control", control},
				"current":           {"connector", connector},
				"subscription_info": {"subscription_name", name},
			} {
				if got := series[namespace+"_"+metric]; got.Get(want.label) != want.text {
					t.Errorf("%s: %s of %s is %q, want %q", format, want.label, metric, got.Get(want.label), want.text)
				}
			}
			if len(series) != 14 {
				t.Errorf("%s: %d metrics: %v", format, len(series), series)
			}
		}
	})
}

// The writer does not escape HELP.
func TestSampleWriter_HelpNeedsNoEscapes(t *testing.T) {
	t.Parallel()
	for _, f := range slices.Concat(families, ownershipFamilies(nil), fullFamilies, probeFamilies(true, 0)) {
		if strings.ContainsAny(f.help, "\\\"\n") {
			t.Errorf("%s: %s", f.name, f.help)
		}
	}
}

// parseSeries returns the labels of the last series of each metric.
func parseSeries(t *testing.T, format string, body []byte) map[string]labels.Labels {
	t.Helper()
	parser, err := textparse.New(body, format, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]labels.Labels{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return series
		}
		if err != nil {
			t.Fatalf("%s: %v in\n%s", format, err, body)
		}
		if entry == textparse.EntrySeries {
			var l labels.Labels
			parser.Labels(&l)
			series[l.Get(model.MetricNameLabel)] = l
		}
	}
}
