package exporter

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
)

var (
	//go:embed status.css
	pageCSS string
	//go:embed page.html landing.html error.html status.html statusdetail.html statusfixnext.html
	pageFiles embed.FS

	pages = template.Must(template.New("pages").Funcs(statusFormats).ParseFS(pageFiles, "*.html"))

	// pagePolicy forbids scripts and external resources. It allows the page's own style, and forms
	// that are sent to the exporter.
	pagePolicy = func() string {
		hash := sha256.Sum256([]byte(pageCSS))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	}()
)

// page is the content that all web pages share.
type page struct {
	Style   template.CSS
	Version string
	Demo    bool
	Root    string // the relative link to the landing page
}

func newPage(cfg Config) page {
	return page{
		Style:   template.CSS(pageCSS), //nolint:gosec // G203: the program's own style
		Version: version.Info(), Demo: cfg.Demo, Root: "./",
	}
}

// errorPage explains an HTTP error and links back.
type errorPage struct {
	page
	Title, Text string
}

var errNoSuchPage = errors.New("page not found")

// serveLanding serves the page that links to all others.
func (h *handlers) serveLanding(w http.ResponseWriter, r *http.Request) {
	text, err := renderPage("landing.html", newPage(h.cfg))
	h.servePage(w, r, text, err)
}

// serveNotFound serves every other path.
func (h *handlers) serveNotFound(w http.ResponseWriter, r *http.Request) {
	h.servePage(w, r, nil, errNoSuchPage)
}

// servePage serves a rendered page, or the error that prevented it.
func (h *handlers) servePage(w http.ResponseWriter, r *http.Request, text []byte, err error) {
	switch {
	case err == nil:
		writePage(w, http.StatusOK, text)
	case errors.Is(err, errNoSuchPage):
		h.serveError(w, r, http.StatusNotFound, err.Error())
	default:
		level.Error(h.cfg.Logger).Log("msg", "cannot render a page", "err", err)
		h.serveError(w, r, http.StatusInternalServerError, "cannot render the page, see the log")
	}
}

// serveError serves browsers a page that links back, and other clients one line.
func (h *handlers) serveError(w http.ResponseWriter, r *http.Request, status int, text string) {
	w.Header().Add("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		content := errorPage{newPage(h.cfg), http.StatusText(status), text}
		content.Root = relativeRoot(r)
		if html, err := renderPage("error.html", content); err == nil {
			writePage(w, status, html)
			return
		}
	}
	http.Error(w, text, status)
}

// relativeRoot is the link from a request's path to the landing page. It is relative because the
// exporter does not know below which path a proxy serves it.
func relativeRoot(r *http.Request) string {
	if depth := strings.Count(r.URL.EscapedPath(), "/"); depth > 1 {
		return strings.Repeat("../", depth-1)
	}
	return "./"
}

// renderPage renders a page before it is served, so that an error never leaves half a page.
func renderPage(name string, content any) ([]byte, error) {
	var text bytes.Buffer
	err := pages.ExecuteTemplate(&text, name, content)
	return text.Bytes(), err
}

func writePage(w http.ResponseWriter, status int, text []byte) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	setWriteDeadline(w)
	w.WriteHeader(status)
	_, _ = w.Write(text) //nolint:gosec // G705: html/template escapes; fails only when the client is gone
}
