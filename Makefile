# `make demo` and `make test` build a virtual environment if there is none, install what they need, and run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# packages are installed uncompiled (below): without what Python keeps, each of many interpreters would compile TensorFlow
export PYTHONDONTWRITEBYTECODE :=
# one more than two cores: tests that wait for processes of their own leave a fifth of the time idle
JOBS ?= 3

.PHONY: demo test unit coverage test-slow lint docs hooks weights clean

# The stamp is renewed when the requirements change, and only after everything is installed. Python compiles what it imports,
# four in ten of the modules: pip would compile them all, which takes 40 s.
$(VENV)/installed: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[test]'
	touch $@

# a search that finds a signal, one of background alone that does not, a tuned model, and weights that come with the package
DEMO := demo-output
demo: $(VENV)/installed
	rm -rf $(DEMO) && mkdir $(DEMO)
	@echo "--- 24,000 simulated QCD dijets, and 240 events of a resonance among them; nothing below sees which ---"
	$(BIN)/zoo data split lhco_sim_test $(DEMO)/background.h5 $(DEMO)/signals.h5 --events 4000 --label 0
	$(BIN)/zoo data split $(DEMO)/signals.h5 $(DEMO)/twoprong.h5 $(DEMO)/threeprong.h5 --events 1000 --label 1
	$(BIN)/zoo data mix $(DEMO)/sample.h5 --background lhco_sim_train --background $(DEMO)/background.h5 \
	    --signal $(DEMO)/twoprong.h5 --s-over-b 0.01
	@echo "--- windows slide over the masses; a classifier is trained for each, without labels ---"
	$(BIN)/zoo hunt cwola --scan --set classifier=trees --window-step 1 --data $(DEMO)/sample.h5 --mass-range 2500 5000 \
	    --ignore-labels --out $(DEMO)/hunt
	@echo "--- the same with background alone ---"
	$(BIN)/zoo hunt cwola --scan --set classifier=trees --window-step 1 --data lhco_sim_train --data $(DEMO)/background.h5 \
	    --mass-range 2500 5000 --out $(DEMO)/hunt_background
	@echo "--- a classifier of the window of the bump: tuned without labels, and its preset as it is ---"
	$(BIN)/tune --model cwola --trials 8 --objective argos --window $$($(BIN)/python examples/demo.py $(DEMO) --window) \
	    --data $(DEMO)/sample.h5 --mass-range 2500 5000 --out $(DEMO)/search --export $(DEMO)/served
	$(BIN)/zoo train cwola --preset collins2019 --window $$($(BIN)/python examples/demo.py $(DEMO) --window) \
	    --data $(DEMO)/sample.h5 --mass-range 2500 5000 --no-xla --out $(DEMO)/preset
	$(BIN)/zoo evaluate $(DEMO)/search/best --data lhco_sim_test --json \
	    --mass-range $$($(BIN)/python examples/demo.py $(DEMO) --window) > $(DEMO)/tuned.json
	$(BIN)/zoo evaluate $(DEMO)/preset --data lhco_sim_test --json \
	    --mass-range $$($(BIN)/python examples/demo.py $(DEMO) --window) > $(DEMO)/preset.json
	@echo "--- raw events of the LHC Olympics as they were published, scored by weights that come with the package ---"
	@echo "jets by FastJet (fastjet.fr, EPJC 72 (2012) 1896), whose own words are in $(DEMO)/fastjet.txt"
	$(BIN)/zoo data cluster lhco_rnd_real $(DEMO)/real.h5 2> $(DEMO)/fastjet.txt || (cat $(DEMO)/fastjet.txt >&2; false)
	$(BIN)/zoo evaluate gan_ae/lhco_sim --data $(DEMO)/real.h5
	@$(BIN)/python examples/demo.py $(DEMO)

# the lint and then the documentation, beside the tests: they have one process
test: $(VENV)/installed
	$(MAKE) --no-print-directory --jobs 2 lint unit docs

# imported once before, so that workers that start together do not all compile the same modules
unit: $(VENV)/installed
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -c "import zoo.conformance, tuning.kerastuner, distributed, uproot, sklearn.svm"
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

# train the weights in zoo/weights anew, and write docs/weights.md
weights: $(VENV)/installed
	$(BIN)/python benchmarks/weights.py

clean:
	rm -rf $(VENV) demo-output build/site *.egg-info
