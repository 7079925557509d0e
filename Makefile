# Tools are installed into bin/ when they are missing, in these versions. Go has to be
# there already, and what else a target needs is said in its line below.
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
.PHONY: help build demo test check status chart chart-docs rules units workflows image snapshot clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

build: ## Build the binary
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $(TOOL).Version=$(VERSION)" .

demo: ## Run the exporter against a simulated tenant
	go run . --demo

test: ## Run the tests
	go test ./...

check: ## Run everything that a change to the code has to pass
	bash .ci/run

status: ## Open /status in Chromium (or CHROMIUM) and write pictures of it into dist/status
	bash scripts/status-in-chromium dist/status

chart: bin/helm ## Lint, render and package the Helm chart, and compare
	go test -tags helm ./deploy/helm

chart-docs: bin/helm-docs ## Write the chart's README from the comments of its values
	helm-docs --chart-search-root $(CHART) --sort-values-order file --log-level warning

rules: ## Check and test the rules with promtool; without one in PATH, builds it (12 minutes)
	command -v promtool >/dev/null || $(MAKE) bin/promtool
	promtool check rules --lint=all --lint-fatal $(filter-out %_test.yaml,$(wildcard dashboards/rules/*.yaml))
	promtool test rules dashboards/rules/*_test.yaml
	promtool check config dashboards/prometheus.yml dashboards/prometheus-http-sd.yml

units: build ## Verify the systemd units (needs systemd-analyze)
	bash scripts/units.sh

workflows: bin/actionlint ## Lint the workflows, and see that every action is pinned by its hash
	actionlint
	! grep -rnE '^[- ]*uses:' .github/workflows | grep -vE '@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$$'

image: ## Build the image (needs Docker)
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) --tag azure-secure-score-exporter .

snapshot: bin/goreleaser bin/syft ## Build what a release has, without publishing it
	goreleaser check
	goreleaser release --snapshot --clean --skip=publish,sign

clean: ## Remove what the other targets made
	rm -rf bin dist manual third_party_licenses azure-secure-score-exporter

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
# Prometheus' module excludes versions, so that go install does not take it; a module
# that has it as a tool does.
bin/promtool:
	mkdir -p bin/promtool-module
	cd bin/promtool-module && (test -f go.mod || go mod init promtool) && go get -tool $(PROMTOOL) && \
		go build -o ../promtool github.com/prometheus/prometheus/cmd/promtool
