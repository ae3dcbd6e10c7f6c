# Everything a contributor or an operator on trial needs. Each target does its own set-up.
#
#   make demo    simulated Exchange and SharePoint, tasksync between them, an honest summary
#   make test    everything the gate runs
#   make scenario NAME=skew   one load scenario with its report; without NAME they are listed
#   make calamity             the acceptance trial: everything is killed twice under load
#   make move-trial           a thousand people move between both kinds of registry; no write at the next sync
#   make upgrade-trial OLD=REVISION   a rolling upgrade from that revision, and back, under load
#   make bench   what things cost, each against its baseline in the same run
#   make image IMAGE=registry.example/tasksync:0.1.0   the container image; image-push pushes it, image-save saves it

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# One build for every clone of this user: dependencies are compiled once.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tasksync/target
# Cargo compares the age of files, and so takes the builds of another clone for this one's. Sources that another clone
# built last get a new age first.
$(shell mkdir -p "$(CARGO_TARGET_DIR)"; \
	if ! grep -qsxF "$(CURDIR)" "$(CARGO_TARGET_DIR)/checkout"; then \
		find common scheduler worker loadtest deploy/tasksync -type f -exec touch {} + && \
		echo "$(CURDIR)" > "$(CARGO_TARGET_DIR)/checkout"; \
	fi)
export CARGO_TERM_COLOR ?= auto

# Microsoft's schema of EWS, if it lies beside the checkout; the tests say so when they skip it.
ifneq ($(wildcard ../shared/ews-xsd/driver.xsd),)
export TASKSYNC_EWS_XSD ?= $(abspath ../shared/ews-xsd)
endif

.PHONY: demo calamity move-trial scenario upgrade-trial test bench format lint docs doc-links unit deploy-files setup docs-generated man image image-push image-save

demo:
	@echo "Building tasksync and the simulated servers: minutes the first time, seconds afterwards."
	cargo build --locked --bin tasksync --bin tasksync-loadtest
	"$(CARGO_TARGET_DIR)/debug/tasksync-loadtest" demo --tasksync "$(CARGO_TARGET_DIR)/debug/tasksync"

# Optimised, so that figures can be compared. Reports are written to reports/.
scenario: setup
	cargo build --locked --quiet --release --workspace --all-features --bin tasksync --bin tasksync-loadtest
	"$(CARGO_TARGET_DIR)/release/tasksync-loadtest" run $(NAME) --tasksync "$(CARGO_TARGET_DIR)/release/tasksync"

calamity:
	$(MAKE) scenario NAME=calamity

# Optimised, because a thousand first syncs take minutes otherwise.
move-trial: setup
	deploy/dev/services.sh --redis --rabbitmq --postgres -- cargo test --locked --release --all-features -p tasksync \
		--test whole moves:: -- --ignored --nocapture

# A rolling upgrade under load, from the revision OLD to this tree and back. Not part of `make test`.
upgrade-trial: setup
	@test -n "$(OLD)" || { echo "Name the older revision: make upgrade-trial OLD=REVISION"; exit 2; }
	@deploy/dev/upgrade-trial.sh "$(OLD)"

test: setup format doc-links lint docs unit deploy-files

# Of the whole workspace, so that dependencies are built once for all of them.
BENCH := cargo bench --locked --quiet --workspace --all-features

bench: setup
	cargo build --locked --quiet --release --workspace --all-features --bin tasksync-loadtest
	$(BENCH) --bench parse
	TASKSYNC_LOADTEST="$(CARGO_TARGET_DIR)/release/tasksync-loadtest" $(BENCH) --bench idle
	$(BENCH) --bench sign_in
	$(BENCH) --bench select
	"$(CARGO_TARGET_DIR)/release/tasksync-loadtest" services --redis --rabbitmq --redis-volatile -- \
		$(BENCH) --bench redis_schedule --bench amqp_queue
	"$(CARGO_TARGET_DIR)/release/tasksync-loadtest" services --redis --rabbitmq --postgres --redis-volatile -- \
		$(BENCH) --bench coordination

setup:
	@deploy/dev/setup.sh

format:
	cargo fmt --all -- --check

lint:
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet

# Every relative link of the Markdown pages; the tests, types and paths that they name; and the settings, commands, error
# codes, metrics and alerts.
doc-links:
	@python3 deploy/check/links.py

# Starts Redis, RabbitMQ and PostgreSQL for the tests and stops them afterwards. The benchmarks run once without
# measuring, so that a broken one shows here.
unit: setup
	cargo build --locked --quiet --workspace --all-features --bin tasksync-loadtest
	"$(CARGO_TARGET_DIR)/debug/tasksync-loadtest" services -- cargo test --locked --workspace --all-features
	@echo "The benchmarks rehearse; their figures mean nothing."
	"$(CARGO_TARGET_DIR)/debug/tasksync-loadtest" services --redis --rabbitmq --postgres -- \
		cargo test --locked --workspace --all-features --bench '*'

# The image's recipe, compose, Kubernetes, alerts, dashboard, and what must agree between them.
deploy-files: setup
	cargo build --locked --quiet --bin tasksync
	@deploy/check/check.sh "$(CARGO_TARGET_DIR)/debug/tasksync"

# The container image. With a Docker engine from deploy/docker/Dockerfile; without one by cargo and buildah.
image:
	@deploy/docker/image.sh build "$(IMAGE)"

image-push:
	@deploy/docker/image.sh push "$(IMAGE)"

# For clusters that take images from a file: make image-save IMAGE=… FILE=tasksync.tar
image-save:
	@deploy/docker/image.sh save "$(IMAGE)" "$(FILE)"

# One man page for each command. They are built and not kept: DIR=/usr/local/share/man/man1 installs them.
man:
	cargo build --locked --quiet --bin tasksync
	"$(CARGO_TARGET_DIR)/debug/tasksync" docs man "$(or $(DIR),$(CARGO_TARGET_DIR)/man)"

# Pages generated from the code; a test compares them.
docs-generated:
	cargo build --locked --quiet --bin tasksync
	for page in errors settings tenant api doctor commands metrics; do \
		"$(CARGO_TARGET_DIR)/debug/tasksync" docs $$page > docs/$$page.md; \
	done
