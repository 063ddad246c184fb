# Every target makes its own environment first: Python 3.11, git and make are all that a machine needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := @.venv/bin/python
PYTEST := $(RUN) -m pytest -q -n 2 --dist loadscope
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help environment book test site smoke paper bench update lint clean

help:  ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+): .*## /make \1\t/' | expand -t 14

environment:
	@test -n "$(PYTHON)" || { echo "make: no python3 found; Python 3.11 is needed" >&2; exit 1; }
	@$(PYTHON) workflow/environment.py

book: environment  ## execute every chapter, check every claim, build the site into _build/html
	$(RUN) workflow/build.py book

test: environment  ## build the site from the committed outputs, then run every test and compare every notebook
	$(RUN) workflow/build.py site
	$(PYTEST) tests
	@echo "re-executing the committed notebooks"
	@CMLIB_OUTPUT=$(CURDIR)/_build/nbval .venv/bin/python -m pytest -q -n 2 --dist loadscope --nbval \
	  --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg book

site: environment  ## build the site from the outputs committed with the chapters, executing nothing
	$(RUN) workflow/build.py site

smoke: environment  ## execute every chapter at its smallest values and check its claims
	$(RUN) workflow/build.py smoke

paper: environment  ## as book, with the papers' own training protocol: hours without a GPU
	$(RUN) workflow/build.py paper

bench: environment  ## time each fast route against its plain twin
	@for file in benchmarks/*.py; do echo "$$file"; .venv/bin/python "$$file" || exit 1; done

update: environment  ## execute every chapter and put the new outputs into book/
	$(RUN) workflow/build.py update

lint: environment  ## check style of code and notebooks, and format of the code
	$(RUN) -m ruff check cmlib tests workflow benchmarks book
	$(RUN) -m ruff format --check cmlib tests workflow benchmarks

clean:  ## remove what was built; .venv stays
	@rm -rf _build .snakemake cmlib-output
