# Needs Python 3.11 or newer with pip and venv, and a network that reaches a package index.
#   make demo       set-up, default model, a sweep of every method at batch 1 and 8, whether the simulator is right about
#                   this machine, table and report (Markdown, and one HTML file)
#   make validation only that: a small profile of this machine, and both engines on the same requests
#   make test       set-up, default model, tests
#   make lint       set-up, style, types, import rules
#   make docs       set-up, the pages of docs/ that are made from the code
#   make clean      removes what demo and tests left, not the environment (make distclean does)

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
VALIDATION ?= runs/validation
REPORT ?= $(DEMO)/report

PIP = $(VENV)/bin/pip --disable-pip-version-check
SPINBENCH = $(VENV)/bin/spinbench
STAMP = $(VENV)/.set-up

# Both sweeps of the demo: method x batch x repeat.
DEMO_SWEEP = replay -m experiment=demo hydra.sweep.dir=$(DEMO) scheduler.max_num_seqs=1,8 repeat=0,1
DEMO_DRAFTERS = smollm2-d128-general,smollm2-d576-slim-code-maths,smollm2-d576-slim-prose-chat,smollm2-d576-slim-general,smollm2-d576-general,smollm2-ngram,prompt_lookup
# Copies where it can and asks the n-gram table elsewhere, as far as both are worth it.
DEMO_BY_MATCH = selector=fixed selector.drafter=smollm2-ngram+prompt_lookup drafting=by_match_order drafting.num_speculative_tokens=[2,2,3,8] drafting.min_ngram_confidence=0.6 method="'ngram+lookup K by match'"
# A small profile of this machine for two drafters, and both engines on the same requests.
VALIDATION_MODELS = models.drafters=[smollm2-d576-slim-general,prompt_lookup]
VALIDATION_LIMITS = max_num_seqs=4 max_context_tokens=512 max_num_batched_tokens=512 max_num_speculative_tokens=4 layouts=[packed]
VALIDATION_RUNS = scheduler.max_num_seqs=4 trace.num_prompts=8 trace.sample_seed=526 trace.max_output_tokens=64 'loads=[0.7]' repeats=3

.DEFAULT_GOAL := help
.PHONY: help setup fetch demo validation test lint docs clean distclean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

# Once, and again when what is to be installed changes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

fetch: $(STAMP)
	$(SPINBENCH) fetch

demo: fetch
	rm -rf $(DEMO)
	$(SPINBENCH) $(DEMO_SWEEP) selector=plain,random,epsilon_greedy,spin
	$(SPINBENCH) $(DEMO_SWEEP) selector=fixed selector.drafter=$(DEMO_DRAFTERS)
	$(SPINBENCH) $(DEMO_SWEEP) $(DEMO_BY_MATCH)
	$(SPINBENCH) $(DEMO_SWEEP) selector=joint drafting=by_selector
	$(MAKE) validation
	$(SPINBENCH) report $(DEMO) --validation $(VALIDATION)/runs -o $(REPORT)

validation: fetch
	rm -rf $(VALIDATION)
	$(SPINBENCH) profile $(VALIDATION_MODELS) $(VALIDATION_LIMITS) repeats=3 precision=0.05 max_repeats=9 hydra.run.dir=$(VALIDATION)/profile
	$(SPINBENCH) validate $(VALIDATION_MODELS) $(VALIDATION_RUNS) simulation.profile=$(VALIDATION)/profile hydra.run.dir=$(VALIDATION)/runs

test: fetch
	$(VENV)/bin/python -m pytest -n auto

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/lint-imports

docs: $(STAMP)
	$(VENV)/bin/python -m docs.reference

clean:
	rm -rf $(DEMO) $(VALIDATION) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
