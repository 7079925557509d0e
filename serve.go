package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/azure"
	"github.com/azure-secure-score-exporter/azure-secure-score-exporter/exporter"
)

const (
	// stopTimeout is the time from the signal to the end of the process: Kubernetes kills after
	// 30 s, systemd after 90 s, and people lose patience after about 10 s.
	stopTimeout = 10 * time.Second

	// maxHeaderBytes bounds the memory that a client can use before it authenticates.
	maxHeaderBytes = 16 << 10
)

// serve serves the metrics until ctx is done.
func serve(ctx context.Context, cfg *config, client *azure.Client, api *exporter.APIMetrics, logger log.Logger) int {
	graph := azure.NewResourceGraph(client)
	var source exporter.Source = azure.NewARM(graph)
	if cfg.source == sourceResourceGraph {
		source = graph
	}
	var reader *azure.RecommendationReader
	if cfg.exporter.Recommendations != exporter.RecommendationsOff {
		reader = azure.NewRecommendationReader(graph)
	}
	cfg.exporter.Logger = logger
	exp, err := exporter.New(source, reader, api, cfg.exporter)
	if err != nil {
		level.Error(logger).Log("msg", "cannot start", "err", err)
		return exitFailure
	}

	if cfg.demo && *cfg.web.WebConfigFile == "" && !*cfg.web.WebSystemdSocket {
		_, port, _ := net.SplitHostPort((*cfg.web.WebListenAddresses)[0]) // was validated
		level.Info(logger).Log("msg", "demo", "metrics", "http://localhost:"+port+"/metrics")
	}
	level.Info(logger).Log("msg", "starting", "version", version.Info(), "build_context", version.BuildContext())
	server := &http.Server{
		Handler:           exp.Handler(),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      cfg.exporter.ScrapeTimeout + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          httpLogger(logger),
	}
	defer tryCredential(ctx, client, logger)()
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, cfg.web, toolkitLogger(logger)) }()

	select {
	case err := <-served:
		level.Error(logger).Log("msg", "cannot serve", "err", err)
		return exitFailure
	case <-ctx.Done():
	}
	level.Info(logger).Log("msg", "stopping")
	shutdown(exp, server, logger)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		level.Error(logger).Log("msg", "server stopped unexpectedly", "err", err)
	}
	return exitOK
}

// shutdown lets the scrapes in flight finish. Those that take too long get what is known, which is
// better than a broken connection.
func shutdown(exp *exporter.Exporter, server *http.Server, logger log.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_ = exp.Shutdown(ctx) // what it could not wait for, server.Shutdown reports
	if err := server.Shutdown(ctx); err != nil {
		level.Warn(logger).Log("msg", "shutdown timed out with open connections", "err", err)
		_ = server.Close()
	}
}
