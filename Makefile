# Everything happens in .venv. constraints.txt holds the versions that the suite was last run with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test lint format clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip # an old one fails to build seqeval

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[all,demo,dev]"
	touch $@ $(VENV)/.demo

# Real text, real weights: margin against random on SMS spam, five seeds each, then one final model and a page of curves.
demo: $(VENV)/.demo
	$(BIN)/python recipes/text_classification.py --config configs/text_classification/sms_spam.yaml \
		--sweep.strategy margin,random --sweep.loop.seed 0,1,2,3,4 --training.final none
	$(BIN)/nlp-al finish runs/sms-spam-margin-0
	$(BIN)/nlp-al compare runs/sms-spam-margin-? runs/sms-spam-random-?
	$(BIN)/nlp-al report runs/sms-spam-margin-? runs/sms-spam-random-?

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-bare .mypy_cache .pytest_cache .ruff_cache
