package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
)

// verifier verifies one point after the other; later ones use what earlier ones found.
type verifier struct {
	client     *azure.Client
	options    options
	anonymizer *anonymizer
	report     *report

	listed    []string // IDs of the subscriptions that ARM lists
	responses int      // pages of Microsoft.Security
	headers   map[string]*headerValues
}

func (v *verifier) run(ctx context.Context) {
	if !v.authenticate(ctx) {
		return
	}
	v.readSubscriptionList(ctx)
	v.readMicrosoftSecurity(ctx)
	v.queryScores(ctx)
	v.queryConnectors(ctx)
	v.queryDynamicKeys(ctx)
	v.querySubscriptions(ctx)
}

func (v *verifier) authenticate(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := v.client.Authenticate(ctx); err != nil {
		// Not the text of the error, which can name the tenant.
		v.report.set(pointToken, different, nil, "%s; run azure-secure-score-exporter check for the cause", azure.ReasonOf(err))
		return false
	}
	v.report.set(pointToken, asAssumed, nil, "")
	return true
}

// list is one page or all pages of an ARM list.
type list struct {
	Status   int    `json:"status"` // 0 without a response
	Code     string `json:"code,omitempty"`
	Pages    []int  `json:"items_by_page"`
	NextLink string `json:"next_link,omitempty"` // where it leads

	items []map[string]any
}

// maxPages bounds the pages to read of one list.
const maxPages = 500

// readList reads all pages of an ARM list. It passes on the headers of each.
func (v *verifier) readList(ctx context.Context, target string, onPage func(http.Header)) list {
	var all list
	for range maxPages {
		resp, ok := v.get(ctx, target)
		if !ok {
			return list{Code: "no response"}
		}
		all.Status, all.Code = resp.Status, errorCode(resp.Body)
		var page struct {
			Value    []map[string]any `json:"value"`
			NextLink string           `json:"nextLink"`
		}
		if resp.Status != http.StatusOK {
			return all
		}
		onPage(resp.Header)
		if err := decode(resp.Body, &page); err != nil {
			all.Code = "not a JSON list"
			return all
		}
		all.items = append(all.items, page.Value...)
		all.Pages = append(all.Pages, len(page.Value))
		if page.NextLink == "" {
			return all
		}
		if all.NextLink, target = v.followNextLink(page.NextLink); target == "" {
			return all
		}
	}
	return all
}

// followNextLink describes where a nextLink leads, and returns its target on ARM's host.
func (v *verifier) followNextLink(nextLink string) (description, target string) {
	u, err := url.Parse(nextLink)
	switch {
	case err != nil:
		return "not a URL", ""
	case u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return linkRelative, u.RequestURI()
	case !strings.EqualFold(u.Hostname(), v.armHost()):
		return "another host", ""
	}
	return linkSameHost, u.RequestURI()
}

// Where a nextLink can lead that the exporter follows.
const (
	linkSameHost = "the same host"
	linkRelative = "a relative path"
)

func (v *verifier) armHost() string {
	for _, service := range v.options.azure.Cloud.Services {
		if u, err := url.Parse(service.Endpoint); err == nil {
			return u.Hostname()
		}
	}
	return ""
}

func (v *verifier) get(ctx context.Context, target string) (azure.RawResponse, bool) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := v.client.Get(ctx, target)
	return resp, err == nil
}

// decode keeps numbers as they are written.
func decode(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
	decoder.UseNumber()
	return decoder.Decode(into)
}

var safeCode = regexp.MustCompile(`^[A-Za-z][A-Za-z_. ]{1,63}$`)

// errorCode returns the error codes of a body, the outer one first.
func errorCode(body []byte) string {
	var document struct {
		Code  string `json:"code"`
		Error struct {
			Code    string `json:"code"`
			Details []struct {
				Code string `json:"code"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &document) // another shape has no code
	codes := []string{document.Code, document.Error.Code}
	for _, detail := range document.Error.Details {
		codes = append(codes, detail.Code)
	}
	var safe []string
	for _, code := range codes {
		if safeCode.MatchString(code) {
			safe = append(safe, code)
		}
	}
	return strings.Join(safe, ", ")
}

// headerValues are the values of one header in all responses of Microsoft.Security.
type headerValues struct {
	Responses int `json:"responses"`
	Min       int `json:"min"`
	Max       int `json:"max"`
	Other     int `json:"not_an_integer"`
}

var limitHeader = regexp.MustCompile(`^(?:x-ms-ratelimit-[a-z-]{1,60}|retry-after)$`)

func (v *verifier) countHeaders(header http.Header) {
	v.responses++
	for name, values := range header {
		name = strings.ToLower(name)
		if !limitHeader.MatchString(name) {
			continue
		}
		h := v.headers[name]
		if h == nil {
			h = &headerValues{}
			v.headers[name] = h
		}
		h.Responses++
		n, err := strconv.Atoi(values[0])
		switch {
		case err != nil:
			h.Other++
		case h.Responses-h.Other == 1: // the first integer
			h.Min, h.Max = n, n
		default:
			h.Min, h.Max = min(h.Min, n), max(h.Max, n)
		}
	}
}
