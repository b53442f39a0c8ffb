# Every target first makes or refreshes .venv; the only network it needs is the package registries.
PYTHON ?= python3
BIN := .venv/bin
BABEL := $(BIN)/python -m babel.messages.frontend
SETUP := $(PYTHON) services/bootstrap.py
LANGUAGES := uz ru en
# What marks a text for translation; tests/test_catalogs.py reads it from here.
KEYWORDS := -k _ -k T -k N_ -k translate:2 -k translate_plural:2,3 -k ngettext:1,2
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench screenshots migrate check messages clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## set up and start; prints the panel's address (ARGS="--role web" and the like)
	@$(SETUP)
	@exec $(BIN)/python bot.py run $(ARGS)

test: ## set up with Chromium, lint, and run every test on SQLite and PostgreSQL (ARGS="-k name")
	@$(SETUP) --dev
	@$(MAKE) --no-print-directory lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 --dist worksteal $(ARGS)

lint: ## formatting, lint and strict types
	@$(SETUP) --dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .

format: ## format the code and mend what can be mended
	@$(SETUP) --dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: ## measure throughput, latency, memory and start on this machine
	@$(SETUP) --dev
	$(BIN)/python -m bench $(ARGS)

screenshots: ## take pictures of every page into docs/screenshots, and look for what is wrong with one (ARGS="--only inbox")
	@$(SETUP) --dev
	$(BIN)/python -m bench.screenshots $(ARGS)

migrate: ## bring the database to the newest schema
	@$(SETUP)
	@$(BIN)/python bot.py migrate

check: ## try every key and connection; say what is missing
	@$(SETUP)
	@$(BIN)/python bot.py check

messages: ## collect the texts of the code into locales/*/LC_MESSAGES/messages.po, to be translated there
	@$(SETUP)
	$(BABEL) -q extract -F babel.cfg $(KEYWORDS) --no-default-keywords --add-location=file --sort-output \
		--project=BotFactory --version=1 --copyright-holder=BotFactory --msgid-bugs-address=- --last-translator=- --no-wrap --header-comment='# Texts of BotFactory.' \
		-o locales/messages.pot .
	@for language in $(LANGUAGES); do \
		catalog=locales/$$language/LC_MESSAGES/messages.po; \
		if [ -f $$catalog ]; then \
			$(BABEL) -q update -i locales/messages.pot -o $$catalog -l $$language --no-fuzzy-matching \
				--ignore-obsolete --ignore-pot-creation-date --no-wrap; \
		else \
			$(BABEL) -q init -i locales/messages.pot -o $$catalog -l $$language --no-wrap; \
		fi; \
	done

clean: ## remove caches and what set-up made, never data/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache locales/messages.pot
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find web/static -name '*.gz' -delete
