# make demo        install, edit the small example model, draw before and after
# make demo-full   the same with more pictures and steps
# make test        install, lint, types, tests
# make lint        install, lint, types
# make suite       install, tests
# make quick       the tests of what has changed, as many as fit into a minute
# make oldest      some tests with the oldest versions that pyproject.toml allows

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

MANIFEST := edits/picturebook/blue-roses.toml
MODEL := examples/picturebook/picturebook.safetensors
EDITED := demo/blue-roses.safetensors

# torch stays at the version of constraints.txt: older ones are not built for the CPU on every index, and with CUDA they
# are gigabytes. Where there is one: make oldest TORCH=2.6.0 PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
OLDEST_TESTS := tests/test_cli.py tests/test_manifest.py tests/test_plan.py tests/test_edit.py tests/test_init.py

.PHONY: demo demo-full test suite quick lint oldest install clean

demo: DRAWN := --seeds 2 --steps 6
demo-full: DRAWN := --seeds 8 --steps 25
demo demo-full: install
	mkdir -p demo
	@echo "On two cores the demo takes less than a minute when they are quiet; demo-full draws 17 times as much."
	$(BIN)/timecli edit $(MANIFEST) $(MODEL) -o $(EDITED) --force
	$(BIN)/timecli verify $(MANIFEST) $(MODEL) $(EDITED) -o demo/verify $(DRAWN) --guidance 3 --force
	@echo
	@echo "A page to look at:              demo/verify/report.html"
	@echo "Before and after, side by side: demo/verify/sheet.png"
	@echo "The numbers:                    demo/verify/report.md"
	@echo "The command:                    . .venv/bin/activate && timecli --help"

# Files in the order of their names: by default those with the fewest tests come last, which are the longest ones.
suite: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: install
	$(BIN)/ruff check .
	QUICK=30 $(BIN)/python -m pytest -q -n 2 --dist loadfile $$($(BIN)/python tests/quick.py)

test: lint suite

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

oldest:
	rm -rf .oldest
	$(PYTHON) -m venv .oldest
	.oldest/bin/python -m pip install tomli
	.oldest/bin/python tests/oldest.py torch==$(TORCH) > .oldest/constraints.txt
	.oldest/bin/python -m pip install -c .oldest/constraints.txt . pytest hypothesis jsonschema
	.oldest/bin/python -m pytest $(OLDEST_TESTS)

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv .oldest demo
