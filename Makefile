# `make demo` and `make test` build a virtual environment if there is none, install what they need, and run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test unit coverage test-slow lint hooks weights clean

# The stamp is renewed when the requirements change, and only after everything is installed. Python compiles what it imports,
# four in ten of the modules: pip would compile them all, which takes 40 s.
$(VENV)/installed: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[test]'
	touch $@

# from raw events to a tuned, evaluated and exported GAN-AE, and a bump hunt with it
demo: $(VENV)/installed
	rm -rf demo-output && mkdir demo-output
	$(BIN)/tune --model gan_ae --trials 8 --mass-range 2700 5000 --out demo-output/search --export demo-output/served
	$(BIN)/zoo data cluster lhco_rnd_real demo-output/real.h5
	$(BIN)/zoo score demo-output/search/best --data demo-output/real.h5 --out demo-output/scores.h5
	@echo "--- real LHC Olympics events, judged with their labels ---"
	$(BIN)/zoo evaluate demo-output/search/best --data demo-output/real.h5
	@echo "--- simulated test sample ---"
	$(BIN)/zoo evaluate demo-output/search/best --data lhco_sim_test
	@echo "--- a bump hunt in that sample, labels not used ---"
	$(BIN)/zoo hunt demo-output/search/best --data lhco_sim_test --percentile 90 --widths 2 4 --out demo-output/hunt

# the lint, beside the tests: it has one process
test: $(VENV)/installed
	$(MAKE) --no-print-directory --jobs 2 lint unit

unit: $(VENV)/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# the same with the share of statements that the tests run
coverage: $(VENV)/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

# ruff and mypy before every commit
hooks: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

# train the weights in zoo/weights anew, and write docs/weights.md
weights: $(VENV)/installed
	$(BIN)/python benchmarks/weights.py

clean:
	rm -rf $(VENV) demo-output *.egg-info
