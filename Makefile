# `make check` is what CI runs, no more and no less. Every target can be run by hand.

GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
MODULE   := github.com/defib-dev/defib
# What chooses: no clock, no files, no network; see .golangci.yml.
PURE     := ./watcher/policy ./watcher/mask
ENGINE   := ./cmd/defib/internal/itest

.PHONY: build test race lint pure fuzz golden integration bench image check

build: ## one static binary, bin/defib
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/defib ./cmd/defib

test: ## everything; what needs a Docker engine skips without one
	go test ./...

race: ## everything that needs no Docker engine, with the race detector
	go test -race $$(go list ./... | grep -v '/internal/itest$$')

lint: pure
	$(GOLANGCI) run
	go mod tidy -diff

pure: ## nothing that $(PURE) import, however indirectly, reaches outside
	@deps=$$(go list -deps $(PURE)) || exit 1; \
	  echo "$$deps" | grep -E '\.|^(net|plugin|os/exec|os/signal|math/rand|crypto/rand)(/|$$)' | \
	  grep -vxE '$(MODULE)/(watcher/policy|watcher/mask|gpu)' || exit 0; echo 'make pure: $(PURE) must not import these' >&2; exit 1

fuzz: ## each fuzz target for FUZZTIME
	@grep -rnoE '^func Fuzz\w+' --include='*_test.go' . | while IFS=: read -r file _ target; do \
	  echo "$$file $${target#func }"; \
	  go test -run='^$$' -fuzz="^$${target#func }$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")" || exit 1; done

golden: ## write the transcripts anew; read the diff
	go test ./watcher/policy -run Transcript -update

integration: ## real engines, started by the tests; REQUIRE_ENGINE=1 fails instead of skipping
	go test -count=1 -timeout=12m $(ENGINE)

bench: ## the figures: of the policy, and of the program beside a floor on a real engine
	go test -run='^$$' -bench=. -benchmem -timeout=60m ./...

image: build ## an image that holds nothing but the binary
	docker build -t defib .

check: lint race build integration
