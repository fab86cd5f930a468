# Each target sets up what it needs first; the second time that is offline and takes a second.
#   DCE_CACHE_DIR     where what is fetched lives (~/.cache/dce)
#   DCE_TEST_BOOTSTRAP=host:port make test     uses that Kafka instead of starting one
#   ORT_DYLIB_PATH    an ONNX Runtime library of your own
#   ARGS              more arguments: make demo ARGS="--events 2000"
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-models eval eval-monitor chaos bench bench-streams gpu-check lint clean cargo packages packages-test

CARGO ?= cargo
BUILT := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=

# The shell words that set ORT_DYLIB_PATH for what follows in a recipe.
ORT = ORT_DYLIB_PATH="$$(deploy/setup/onnxruntime.sh | tail -n 1)"; export ORT_DYLIB_PATH

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1#\2/p' $(MAKEFILE_LIST) | while IFS='#' read -r target text; do printf '%-15s %s\n' "$$target" "$$text"; done

setup: packages-test ## fetch all that building, the demo and the tests need
	@$(ORT)
	@[[ -n "$${DCE_TEST_BOOTSTRAP:-}" ]] || deploy/setup/kafka.sh >/dev/null
	@deploy/setup/python-clients.sh >/dev/null
	@deploy/setup/apicurio.sh >/dev/null
	@deploy/setup/promtool.sh >/dev/null
	@deploy/setup/lint-tools.sh >/dev/null

demo: cargo packages ## the whole pipeline in the terminal, with a broker inside: no Kafka needed
	@$(ORT)
	echo "building dce (release)"
	$(CARGO) build --release
	echo "running: $(BUILT)/release/dce demo $(ARGS)"
	$(BUILT)/release/dce demo $(ARGS)

test: cargo packages-test ## fast tests, documentation's and alert rules' tests, then those on a real Kafka and in a browser
	@$(ORT)
	[[ -n "$${DCE_TEST_BOOTSTRAP:-}" ]] || deploy/setup/kafka.sh >/dev/null
	DCE_TEST_PYTHON="$$(deploy/setup/python-clients.sh | tail -n 1)"; export DCE_TEST_PYTHON
	deploy/setup/apicurio.sh >/dev/null
	echo "== the fast tests"
	$(CARGO) test --lib --bins --tests
	echo "== the documentation's tests"
	$(CARGO) test --doc
	echo "== the alert rules"
	promtool="$$(deploy/setup/promtool.sh | tail -n 1)"
	"$$promtool" test rules deploy/prometheus/*.test.yml
	echo "== on a real Kafka"
	$(CARGO) build --examples
	$(CARGO) test --no-run --test integration
	integration/kafka.sh run -- $(CARGO) test --test integration

test-models: cargo packages ## the models' own tests, with PyTorch (fetched once, 3 GB), none skipped where the public sets are
	@$(ORT)
	python="$$(deploy/setup/models-python.sh | tail -n 1)"
	echo "building dce (release)"
	$(CARGO) build --release
	export DCE="$(abspath $(BUILT))/release/dce"
	cd models
	echo "== ruff"
	"$$python" -m ruff check --quiet --no-cache .
	"$$python" -m ruff format --check --quiet --no-cache .
	echo "== mypy"
	"$$python" -m mypy --no-incremental --cache-dir=/dev/null dce_models tests
	echo "== pytest"
	"$$python" -m pytest -p no:cacheprovider -q -rs $(ARGS)

eval: cargo packages ## trains the zoo on the public sets (DCE_DATA) and a generated bank, and judges it: one table (an hour)
	@$(ORT)
	echo "building dce (release)"
	$(CARGO) build --release
	DCE="$(abspath $(BUILT))/release/dce" models/eval.sh

eval-monitor: cargo packages ## how often the monitor is wrong and how soon it tells, beside Evidently and River (10 minutes)
	@$(ORT)
	python="$$(integration/peers/python.sh | tail -n 1)"
	echo "building dce and the evaluation (release)"
	$(CARGO) build --release
	$(CARGO) build --release --bench eval_monitor
	bench="$$($(CARGO) build --release --bench eval_monitor --message-format=json 2>/dev/null | sed -n 's/.*"name":"eval_monitor".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"
	integration/peers/monitor.sh "$(BUILT)/release/dce" "$$bench" "$$python" "$(BUILT)/eval-monitor" $(ARGS)

FAULTS ?= 50
SEED ?= 1

chaos: cargo packages-test ## workers, broker and disks killed at random: FAULTS=50 SEED=1 (some 3 s a fault, and a minute)
	@$(ORT)
	# Kafka 4.3.1 forgets markers when it is killed at the wrong moment: docs/operations.md, A transaction that hangs.
	export DCE_TEST_KAFKA_VERSION="$${DCE_TEST_KAFKA_VERSION:-4.1.1}"
	export FAULTS=$(FAULTS) SEED=$(SEED) CHAOS_RESULT="$(abspath $(BUILT))/chaos.json"
	rm -f "$$CHAOS_RESULT"
	status=0
	DCE_TEST_BOOTSTRAP=its-own $(CARGO) test --test integration chaos::long -- --ignored --nocapture || status=$$?
	cat "$$CHAOS_RESULT"
	exit $$status

# A broker as for work, not for a quick start: compiled in full, and a garbage collection (its pause is in each latency) every 40 s.
BROKER_AT_WORK = -Xms3g -Xmx3g -Xmn2500m -XX:+UseParallelGC

bench: cargo packages-test ## each stage and the whole beside its limit, on a Kafka that it starts (5 minutes)
	@$(ORT)
	echo "building dce (release)"
	$(CARGO) build --release
	export DCE_TEST_KAFKA_JAVA_OPTS="$${DCE_TEST_KAFKA_JAVA_OPTS:-$(BROKER_AT_WORK)}"
	if [[ -n "$${DCE_TEST_BOOTSTRAP:-}" ]]; then run=(env); else run=(integration/kafka.sh run --); fi
	"$${run[@]}" bash -c '"$(BUILT)/release/dce" bench --set "kafka.bootstrap=$$DCE_TEST_BOOTSTRAP" --set log.level=warn $(ARGS)'

bench-streams: cargo packages-test ## dce beside the same work in Kafka Streams (Java; needs a JDK), in turn on a Kafka that it starts (8 minutes)
	@$(ORT)
	jars="$$(deploy/setup/streams.sh | tail -n 1)"
	python="$$(deploy/setup/python-clients.sh | tail -n 1)"
	echo "building dce (release)"
	$(CARGO) build --release
	export DCE_TEST_KAFKA_JAVA_OPTS="$${DCE_TEST_KAFKA_JAVA_OPTS:-$(BROKER_AT_WORK)}"
	env -u DCE_TEST_BOOTSTRAP integration/kafka.sh run -- "$$python" benches/kafka_streams/compare.py "$(BUILT)/release/dce" "$$jars" $(ARGS)

gpu-check: ## on a machine with an NVIDIA GPU: the GPU beside the CPU, agreement and speed (docs/gpu.md)
	@CARGO="$(CARGO)" deploy/gpu-check.sh $(ARGS)

lint: cargo packages ## formatting, clippy, the documentation's links, shell scripts, Python
	@for component in fmt clippy; do
	  $(CARGO) $$component --version >/dev/null 2>&1 || { echo "error: 'cargo $$component' is missing: add the components rustfmt and clippy to the Rust toolchain" >&2; exit 1; }
	done
	echo "== cargo fmt"
	$(CARGO) fmt --check
	echo "== cargo clippy"
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --test integration --bench eval_monitor --bench gpu_check -- -D warnings
	echo "== cargo doc"
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
	tools="$$(deploy/setup/lint-tools.sh | tail -n 1)"
	echo "== shellcheck"
	find . \( -name .git -o -name .venv -o -path ./target \) -prune -o \( -name '*.sh' -o -path ./.ci/run \) -print0 | xargs -0 "$$tools/shellcheck"
	echo "== ruff"
	"$$tools/ruff" check --quiet --no-cache .
	"$$tools/ruff" format --check --quiet --no-cache .

clean: ## remove what was built and a test broker left in target/; what was fetched stays in the cache
	@integration/kafka.sh stop
	@integration/registry.sh stop
	rm -rf target

cargo:
	@command -v $(CARGO) >/dev/null || { echo "error: no cargo. A Rust toolchain, $$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer with rustfmt and clippy, is needed: install one with rustup or from your distribution, and see that its bin folder is in PATH" >&2; exit 1; }

packages:
	@deploy/setup/packages.sh build

packages-test:
	@deploy/setup/packages.sh build test
.ONESHELL:
