# `make demo` and `make test` build a virtual environment if there is none, install what they need, and run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test unit coverage test-slow lint docs hooks clean

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

# the lint and then the documentation, beside the tests: they have one process
test: $(VENV)/installed
	$(MAKE) --no-print-directory --jobs 2 lint unit docs

unit: $(VENV)/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# the same with the share of statements that the tests run
coverage: $(VENV)/installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term

test-slow: $(VENV)/installed $(VENV)/notebooks
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

# what runs the notebooks is needed by the slow tests alone
$(VENV)/notebooks: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[notebooks]'
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

# the documentation site, build/site/index.html; a link that leads nowhere is an error
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# ruff and mypy before every commit
hooks: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) demo-output build/site *.egg-info
