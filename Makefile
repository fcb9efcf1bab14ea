# make demo   install, edit the small example model, draw before and after
# make test   install, lint, types, tests
# make lint   install, lint, types

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

MANIFEST := edits/picturebook/blue-roses.toml
MODEL := examples/picturebook/picturebook.safetensors
EDITED := demo/blue-roses.safetensors

.PHONY: demo test lint install clean

demo: install
	mkdir -p demo
	$(BIN)/timecli edit $(MANIFEST) $(MODEL) -o $(EDITED) --force
	$(BIN)/timecli verify $(MANIFEST) $(MODEL) $(EDITED) -o demo/verify --guidance 3 --force
	@echo
	@echo "Before and after, side by side: demo/verify/sheet.png"
	@echo "The numbers:                    demo/verify/report.md"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv demo
