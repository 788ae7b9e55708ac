# `make demo` and `make test` need Python 3.11 or newer, make and git; each makes its own
# environments under .venv/ the first time, and again when what they were made from changed.

.DEFAULT_GOAL := help
.PHONY: help demo test tests-langchain tests-llamaindex constraints clean

TEST := .venv/test/bin
NAMESPACED := packages/llama-index-observability-llm-metering

help: ## show this list
	@echo "usage: make TARGET [PYTHON=/path/to/python3]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: ## meter a real language model on this machine, offline, and compare with its own counters
	@scripts/setup_env.sh demo
	@.venv/demo/bin/llm-metering demo

# pytest comes last: its own last line says how many tests were skipped, and why.
test: ## lint, types, layers, tests, examples and docs
	@$(MAKE) --no-print-directory -j2 env-test env-langchain env-llamaindex env-llamaindex-anthropic
	@scripts/setup_browser.sh
	@$(TEST)/ruff check
	@$(TEST)/ruff format --check
	@$(TEST)/mypy
	@MYPYPATH=$(NAMESPACED) $(TEST)/mypy -p llama_index.observability.llm_metering
	@$(TEST)/lint-imports
	@$(MAKE) --no-print-directory -j2 -Otarget tests-langchain tests-llamaindex
	@$(TEST)/pytest

# The front ends beside each other, each on one core; the rest kills processes and wants the machine
# for itself.
tests-langchain:
	@.venv/langchain/bin/pytest tests/langchain

tests-llamaindex:
	@.venv/llamaindex/bin/pytest tests/llamaindex
	@.venv/llamaindex-anthropic/bin/pytest tests/llamaindex/anthropic

# Two at a time: each is downloads, and then one core's work.
env-%:
	@scripts/setup_env.sh $*

# certifi stays free: the newest list of certificate authorities is the right one.
constraints: ## pin the newest versions that fit together
	@for name in constraints langchain llamaindex llamaindex-anthropic; do \
		env=.venv/new-$$name && rm -rf $$env && scripts/setup_env.sh new-$$name && \
		sed '/^$$/q' requirements/$$name.txt > $$env/new.txt && \
		$$env/bin/pip freeze --exclude-editable | grep -v '^certifi==' >> $$env/new.txt && \
		cp $$env/new.txt requirements/$$name.txt || exit 1; \
	done

clean: ## remove the environments and what the tools left behind
	@rm -rf .venv .nox docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
