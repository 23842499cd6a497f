# Everything happens in .venv. constraints.txt holds the versions that the suite was last run with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo demo-ner demo-dialogue demo-annotate test test-page lint format clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip # an old one fails to build seqeval

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[all,demo,dev]"
	touch $@ $(VENV)/.demo

$(VENV)/.page: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[server,page,dev]"
	touch $@

$(VENV)/.annotate: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[demo,server]"
	touch $@

# Real text, real weights: margin against random on SMS spam, five seeds each, then one final model and a page of curves.
demo: $(VENV)/.demo
	$(BIN)/python recipes/text_classification.py --config configs/text_classification/sms_spam.yaml \
		--sweep.strategy margin,random --sweep.loop.seed 0,1,2,3,4 --training.final none
	$(BIN)/nlp-al finish runs/sms-spam-margin-0
	$(BIN)/nlp-al compare runs/sms-spam-margin-? runs/sms-spam-random-?
	$(BIN)/nlp-al report runs/sms-spam-margin-? runs/sms-spam-random-?

# Entities in tweets: mnlp and token entropy against random, eight seeds each, the cost counted in words.
demo-ner: $(VENV)/.demo
	$(BIN)/python recipes/ner.py --config configs/ner/tweets.yaml \
		--sweep.strategy mnlp,token_entropy,random --sweep.loop.seed 0,1,2,3,4,5,6,7 --training.final none
	$(BIN)/nlp-al compare runs/tweets-mnlp-? runs/tweets-token_entropy-? runs/tweets-random-?
	$(BIN)/nlp-al report runs/tweets-mnlp-? runs/tweets-token_entropy-? runs/tweets-random-?

# Which of ten responses fits a conversation: margin against random, five seeds each.
demo-dialogue: $(VENV)/.demo
	$(BIN)/python recipes/data/chitchat.py
	$(BIN)/python recipes/response_selection.py --config configs/response_selection/chitchat.yaml \
		--sweep.strategy margin,random --sweep.loop.seed 0,1,2,3,4 --training.final none
	$(BIN)/nlp-al compare runs/chitchat-margin-? runs/chitchat-random-?
	$(BIN)/nlp-al report runs/chitchat-margin-? runs/chitchat-random-?

# Real messages in the page of an Argilla server, which it starts; label them there, and it trains and asks for more.
demo-annotate: $(VENV)/.annotate
	$(BIN)/python recipes/text_classification.py --config configs/text_classification/sms_annotate.yaml

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

# The page of the Argilla server in chromium (Debian: apt-get install chromium); without one all of it is skipped.
# NLP_AL_PICTURES=docs/images make test-page takes the pictures of docs/server.md anew.
test-page: $(VENV)/.page
	$(BIN)/python -m pytest tests/page

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-bare .mypy_cache .pytest_cache .ruff_cache
