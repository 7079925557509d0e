# Tools are installed into bin/ if they are missing there, in these versions. Go must be installed;
# what else a target needs is in its line below.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
HELM          := helm.sh/helm/v3/cmd/helm@v3.22.0
HELM_DOCS     := github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
GORELEASER    := github.com/goreleaser/goreleaser/v2@v2.14.3
SYFT          := github.com/anchore/syft/cmd/syft@v1.57.0
ACTIONLINT    := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
PROMTOOL      := github.com/prometheus/prometheus/cmd/promtool@v0.316.0

CHART   := deploy/helm/azure-secure-score-exporter
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TOOL    := github.com/prometheus/common/version

export PATH := $(CURDIR)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build demo test check lint fmt golden bench e2e status chart chart-docs rules units workflows image snapshot clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

build: ## Build the binary
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $(TOOL).Version=$(VERSION)" .

demo: ## Run the exporter against a simulated tenant
	go run . --demo

test: ## Run the tests
	go test ./...

check: ## Run everything that a change must pass (needs Prometheus and Alertmanager)
	CI=false bash .ci/run

lint: bin/golangci-lint ## Lint the code
	golangci-lint run --build-tags e2e,helm ./...

fmt: bin/gofumpt ## Format the code
	gofumpt -l -w .

golden: bin/helm ## Rewrite the golden files: read their diff
	go test ./exporter -update
	go test -tags helm ./deploy/helm -update

bench: ## Run the benchmarks, and measure the built exporter
	go test -run '^$$' -bench . ./...
	go run ./scripts/figures

e2e: ## Run the end-to-end check (needs Prometheus and Alertmanager)
	go test -count=1 -tags e2e -parallel 4 -timeout 8m ./dashboards/

status: ## Open /status in Chromium (or CHROMIUM) and write screenshots to dist/status
	go run ./scripts/status-in-chromium dist/status

chart: bin/helm ## Lint, render and package the Helm chart
	go test -tags helm ./deploy/helm

chart-docs: bin/helm-docs ## Generate the chart's README from the comments of its values
	helm-docs --chart-search-root $(CHART) --sort-values-order file --log-level warning

rules: ## Check and test the rules with promtool, which is built if it is missing (12 minutes)
	command -v promtool >/dev/null || $(MAKE) bin/promtool
	promtool check rules --lint=all --lint-fatal $(filter-out %_test.yaml,$(wildcard dashboards/rules/*.yaml))
	promtool test rules dashboards/rules/*_test.yaml
	promtool check config dashboards/prometheus.yml dashboards/prometheus-http-sd.yml

units: build ## Verify the systemd units (needs systemd-analyze)
	bash scripts/units.sh

workflows: bin/actionlint ## Lint the workflows and check that every action is pinned by its hash
	actionlint
	! grep -rnE '^[- ]*uses:' .github/workflows | grep -vE '@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$$'

image: ## Build the image (needs Docker)
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) --tag azure-secure-score-exporter .

snapshot: bin/goreleaser bin/syft ## Build a release without publishing it
	goreleaser check
	goreleaser release --snapshot --clean --skip=publish,sign

clean: ## Remove what the other targets built
	rm -rf bin dist manual third_party_licenses azure-secure-score-exporter

bin/golangci-lint:
	GOBIN=$(CURDIR)/bin go install $(GOLANGCI_LINT)
bin/gofumpt:
	GOBIN=$(CURDIR)/bin go install $(GOFUMPT)
bin/helm:
	GOBIN=$(CURDIR)/bin go install $(HELM)
bin/helm-docs:
	GOBIN=$(CURDIR)/bin go install $(HELM_DOCS)
bin/goreleaser:
	GOBIN=$(CURDIR)/bin go install $(GORELEASER)
bin/syft:
	GOBIN=$(CURDIR)/bin go install $(SYFT)
bin/actionlint:
	GOBIN=$(CURDIR)/bin go install $(ACTIONLINT)
# go install refuses Prometheus' module because it excludes versions; a module that has promtool as
# a tool does not.
bin/promtool:
	mkdir -p bin/promtool-module
	cd bin/promtool-module && (test -f go.mod || go mod init promtool) && go get -tool $(PROMTOOL) && \
		go build -o ../promtool github.com/prometheus/prometheus/cmd/promtool
