package azure

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure/simulator"
)

// forms refuses forms of the query and counts all of them. The simulator does not know pack, which
// is bag_pack by another name.
type forms struct {
	mu      sync.Mutex
	refused map[queryForm]bool
	seen    []queryForm
}

func (f *forms) refuse(forms ...queryForm) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused, f.seen = map[queryForm]bool{}, nil
	for _, form := range forms {
		f.refused[form] = true
	}
}

func (f *forms) fault(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, _ := io.ReadAll(r.Body)
	form := formPlain
	switch {
	case bytes.Contains(body, []byte("(bag_pack(")):
		form = formBagPack
	case bytes.Contains(body, []byte("(pack(")):
		form = formPack
		body = bytes.Replace(body, []byte("(pack("), []byte("(bag_pack("), 1)
	}
	f.mu.Lock()
	f.seen = append(f.seen, form)
	refused := f.refused[form]
	f.mu.Unlock()
	if refused {
		simulator.Error(400, "BadRequest", "…")(w, r, next)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	next.ServeHTTP(w, r)
}

func TestResourceGraphQuery_Forms(t *testing.T) {
	t.Parallel()
	tenant := simulator.Generate(3, 2)
	tenant.ResourceGraph.Queries = 1000
	var clock clock
	var logged bytes.Buffer
	sim, client := start(t, tenant, Config{now: clock.now, Logger: log.NewLogfmtLogger(&logged)})
	g := newResourceGraph(client, graphPageSize, newGraphQuota(1000))
	var forms forms
	sim.SetGraphFault(forms.fault)
	const bagPack, pack, plain = formBagPack, formPack, formPlain
	for _, step := range []struct {
		name    string
		refused []queryForm
		later   time.Duration
		want    []queryForm // the queries sent
		log     string
	}{
		{"all forms are accepted", nil, 0, []queryForm{bagPack}, ""},
		{"bag_pack is refused", []queryForm{bagPack}, 0, []queryForm{bagPack, pack}, `rejects the preferred form`},
		{"pack is remembered", []queryForm{bagPack}, 2 * retryFormAfter, []queryForm{pack}, ""},
		{"pack is also refused", []queryForm{bagPack, pack}, 0, []queryForm{pack, plain}, `form="plain rows`},
		{"plain is remembered", nil, retryFormAfter - time.Minute, []queryForm{plain}, ""},
		{"an hour later they are still refused", []queryForm{bagPack, pack}, time.Minute, []queryForm{bagPack, pack, plain}, ""},
		{"and not tried again at once", nil, time.Minute, []queryForm{plain}, ""},
		{"another hour later they are accepted", nil, retryFormAfter, []queryForm{bagPack}, "accepts a better form"},
		{"and remembered", nil, 0, []queryForm{bagPack}, ""},
		{"all are refused", []queryForm{bagPack, pack, plain}, 0, []queryForm{bagPack, pack, plain}, ""},
		{"which nothing is concluded from", nil, 0, []queryForm{bagPack}, ""},
	} {
		clock.advance(step.later)
		forms.refuse(step.refused...)
		logged.Reset()
		results := g.SecureScores(within(t, time.Minute), ids(tenant))
		if !slices.Equal(forms.seen, step.want) {
			t.Errorf("%s: sent %v, want %v", step.name, forms.seen, step.want)
		}
		if !strings.Contains(logged.String(), step.log) || step.log == "" && logged.Len() > 0 {
			t.Errorf("%s: logged %q", step.name, logged.String())
		}
		wantErr := len(step.refused) == 3
		for _, result := range results {
			if (result.Err != nil) != wantErr || !wantErr && len(result.Scores) != 1 {
				t.Errorf("%s: %+v", step.name, result)
			}
		}
	}
}

// These errors do not reject the form of the query, and one query is enough to know.
func TestResourceGraphQuery_OtherRefusals(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"throttled":         simulator.Error(400, "TooManyRequests", "…"),
		"payload too large": simulator.PayloadTooLarge(0),
		"none readable":     simulator.Error(400, "NoValidSubscriptionsInQueryRequest", "…"),
		"server error":      simulator.Error(400, "InternalServerError", "…"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := simulator.Generate(1, 2)
			sim, g := startGraph(t, tenant, Config{})
			var forms forms
			forms.refuse()
			sim.SetGraphFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				forms.fault(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fault(w, r, nil) }))
			})
			g.SecureScores(within(t, 3*time.Second), ids(tenant))
			if !slices.Equal(forms.seen, []queryForm{formBagPack}) {
				t.Errorf("sent %v", forms.seen)
			}
		})
	}
}
