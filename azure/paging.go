package azure

import (
	"context"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// listLimits bound all pages of a list together. The number of pages is not bounded, because Azure
// chooses their size: it sends subscriptions in pages of 50.
type listLimits struct{ items, bytes int }

var (
	// scoreLimits are far above a list of scores or controls, which has some 20 items and 20 KiB.
	// Small items take far more memory than bytes.
	scoreLimits = listLimits{items: 20_000, bytes: 16 << 20}
	// subscriptionLimits leave room: tenants of 20,000 subscriptions exist, at up to 1 KiB each.
	subscriptionLimits = listLimits{items: 100_000, bytes: 128 << 20}
)

// maxEmptyPages bounds empty pages in a row, which the limits of a list do not.
const maxEmptyPages = 100

// pager reads the pages of an ARM list in order. After a failure it stays at the same page.
type pager struct {
	client    *Client
	operation string
	limits    listLimits
	next      string // the address of the next page, "" after the last
	pages     int    // read so far, as are items and bytes
	items     int
	bytes     int
	empty     int // pages in a row
	seen      map[string]bool
}

func newPager(c *Client, operation, path, apiVersion string, limits listLimits) *pager {
	return &pager{client: c, operation: operation, limits: limits, next: c.url(path, apiVersion), seen: map[string]bool{}}
}

// listAll reads all pages of an ARM list. Every failure is an [*Error].
func listAll[T any](ctx context.Context, p *pager) ([]T, error) {
	var items []T
	for p.next != "" {
		page, err := readPage[T](ctx, p)
		if err != nil {
			return nil, err
		}
		items = append(items, page...)
	}
	return items, nil
}

// readPage reads the next page. Every failure is an [*Error].
func readPage[T any](ctx context.Context, p *pager) ([]T, error) {
	body, err := p.client.get(ctx, p.operation, p.next)
	if err != nil {
		return nil, err
	}
	var page struct {
		Value    *[]T       `json:"value"`
		NextLink string     `json:"nextLink"`
		Error    *errorBody `json:"error"`
	}
	if err := decode(body, &page, p.limits.items); err != nil {
		return nil, err
	}
	items, err := listOf(page.Value, page.Error, body)
	if err != nil {
		return nil, err
	}
	return items, p.advance(len(items), len(body), page.NextLink)
}

// advance moves to the next page after one with so many items and bytes.
func (p *pager) advance(items, bytes int, nextLink string) error {
	next, err := resolveNextLink(p.client.endpoint, p.next, nextLink)
	if err != nil {
		return err
	}
	empty := p.empty + 1
	if items > 0 {
		empty = 0
	}
	bytes += len(next) // also remembered
	switch {
	case p.items+items > p.limits.items:
		return invalidBecause(causeTooLarge, "more than %d items", p.limits.items)
	case p.bytes+bytes > p.limits.bytes:
		return invalidBecause(causeTooLarge, "more than %d bytes", p.limits.bytes)
	case empty > maxEmptyPages:
		return invalidResponse("more than %d empty pages in a row", maxEmptyPages)
	case next == p.next || p.seen[next]:
		return invalidResponse("nextLink points back to a page already read")
	}
	if next != "" {
		p.seen[p.next] = true
	}
	p.next, p.empty = next, empty
	p.pages++
	p.items += items
	p.bytes += bytes
	return nil
}

// resolveNextLink returns nextLink as an absolute URL, or "" for none. A relative one is relative
// to the endpoint, or to the current page if it is only a query. The result is an https URL on the
// endpoint's host and port, because the request will carry the bearer token.
func resolveNextLink(endpoint *url.URL, current, nextLink string) (string, error) {
	if nextLink == "" {
		return "", nil
	}
	encoded, err := runtime.EncodeQueryParams(nextLink)
	if err != nil {
		return "", invalidResponse("nextLink is not a URL")
	}
	base := endpoint.JoinPath("/")
	if strings.HasPrefix(nextLink, "?") {
		if base, err = url.Parse(current); err != nil {
			return "", invalidResponse("nextLink is relative to an invalid URL")
		}
	}
	u, err := base.Parse(encoded)
	switch {
	case err != nil:
		return "", invalidResponse("nextLink is not a URL")
	case u.Scheme != "https":
		return "", invalidResponse("nextLink is not https")
	case u.User != nil || !strings.EqualFold(u.Hostname(), endpoint.Hostname()) || port(u) != port(endpoint):
		return "", invalidResponse("nextLink points to another host")
	}
	u.Host = endpoint.Host // Azure also writes the default port
	return u.String(), nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}
