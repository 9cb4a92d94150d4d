# `make` lists the targets. Each sets up .venv first when it is missing or older than its pins.

PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/benchmarks
RUNS := $(patsubst %/cells,%,$(wildcard results/*/cells))
REPORTED := $(filter-out results/reference,$(RUNS)) $(wildcard results/benchmarks/cpu.json)

.DEFAULT_GOAL := help
.PHONY: help demo test bench check docs report

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready  ## compare six methods on a small model and two compiled programs, with figures
	@echo "demo: six methods on the bundled model and two compiled programs, into runs/quick"
	@$(BIN)/edgewise run quick --jobs 2 --out runs/quick
	@$(BIN)/edgewise report runs/quick

test: .venv/.ready  ## run the tests
	@echo "test: running the tests; what is skipped is listed at the end with the reason"
	@$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder --benchmark-disable

bench: .venv/.ready  ## time the methods, with tables and figures, into runs/benchmarks or OUT=DIR
	@echo "bench: timing the methods; close other programs for steady numbers"
	@mkdir -p $(OUT)
	@$(BIN)/pytest --benchmark --benchmark-columns=median,rounds --benchmark-json $(OUT)/cpu.json
	@$(BIN)/edgewise report $(OUT)/cpu.json

check: .venv/.ready  ## check format, lint and types
	@echo "check: format, lint and types"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

docs: .venv/.ready  ## write the pages of docs/ that come from the code
	@$(BIN)/python -m benchmarks.docs docs

report: .venv/.ready  ## draw the tables and figures of results/ again
	@echo "report: tables and figures of results/ from the stored cells and timings"
	@for results in $(REPORTED); do $(BIN)/edgewise report $$results || exit 1; done

# The two variables hold the build of the package itself to the pins, too: the first for pip
# before 25.3, the second from there on.
.venv/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Edgewise needs Python 3.11 or newer; '$(PYTHON)' is not that." \
	    "Name one that is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "set-up: installing the pinned packages into .venv (minutes the first time)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  $(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@
