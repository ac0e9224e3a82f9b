# `make check` is what CI runs, no more and no less. Every target can be run by hand.

GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
MODULE   := github.com/defib-dev/defib
# What chooses: no clock, no files, no network; see .golangci.yml.
PURE     := ./watcher/policy ./watcher/mask
ENGINE   := ./cmd/defib/internal/itest

# What the image stands on: glibc 2.34 or newer and nothing else; another one has to be as new as the
# builder's.
BASE     ?= gcr.io/distroless/base-debian12
# NVML marks half of itself as deprecated. The rest of cgo's flags stay as they are: the driver's
# symbols are found when they are first called, so a build with `-z now` would not start.
export CGO_CFLAGS := -g -O2 -Wno-deprecated-declarations

.PHONY: build build-nogpu test race lint pure nogpu fuzz golden integration bench image check

build: ## bin/defib, which needs glibc and a C compiler to build; the driver's library is found at run time
	CGO_ENABLED=1 go build -trimpath -tags=netgo,osusergo -ldflags='-s -w' -o bin/defib ./cmd/defib

build-nogpu: ## bin/defib as one static binary, for hosts without GPUs: it cannot talk to the driver
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/defib ./cmd/defib

test: ## everything; what needs a Docker engine skips without one
	go test ./...

race: ## everything that needs no Docker engine, with the race detector, and without it what it would distort
	go test -race $$(go list ./... | grep -v '/internal/itest$$')
	go test -run=TestTenThousand ./actions/notify

lint: pure
	$(GOLANGCI) run
	go mod tidy -diff

pure: ## nothing that $(PURE) import, however indirectly, reaches outside
	@deps=$$(go list -deps $(PURE)) || exit 1; \
	  echo "$$deps" | grep -E '\.|^(net|plugin|os/exec|os/signal|math/rand|crypto/rand)(/|$$)' | \
	  grep -vxE '$(MODULE)/(watcher/policy|watcher/mask|gpu)' || exit 0; echo 'make pure: $(PURE) must not import these' >&2; exit 1

nogpu: ## what is built without a C compiler still builds
	CGO_ENABLED=0 go build ./...
	CGO_ENABLED=0 go vet ./gpu/... ./cmd/defib/...

fuzz: ## each fuzz target for FUZZTIME
	@grep -rnoE '^func Fuzz\w+' --include='*_test.go' . | while IFS=: read -r file _ target; do \
	  echo "$$file $${target#func }"; \
	  go test -run='^$$' -fuzz="^$${target#func }$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")" || exit 1; done

golden: ## write the transcripts anew; read the diff
	go test ./watcher/policy -run Transcript -update

integration: ## real engines, started by the tests; REQUIRE_ENGINE=1 fails instead of skipping
	go test -count=1 -timeout=20m $(ENGINE)

bench: ## the figures: of the policy, and of the program beside a floor on a real engine
	go test -run='^$$' -bench=. -benchmem -timeout=60m ./...

image: build ## an image of the binary on BASE
	docker build --build-arg BASE=$(BASE) -t defib .

check: lint nogpu race build integration
