# Every target makes its own environment first: Python 3.11, git and make are all that a machine needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := @.venv/bin/python
PYTEST := $(RUN) -m pytest -q -n 2 --dist loadscope
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help environment book test check site smoke paper figure lab test-slurm drift sabotage calibrate bench update poster pdf pages release lock lint clean

help:  ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+): .*## /make \1\t/' | expand -t 18

environment:
	@test -n "$(PYTHON)" || { echo "make: no python3 found; Python 3.11 is needed" >&2; exit 1; }
	@$(PYTHON) workflow/environment.py

book: environment  ## execute every chapter, judge every claim, build the site into _build/html
	$(RUN) workflow/build.py book

test: environment  ## build the site from the committed outputs, then run every test and compare every notebook
	$(RUN) workflow/build.py site
	$(PYTEST) tests
	@echo "re-executing the committed notebooks"
	@rm -rf _build/nbval
	@CMLIB_OUTPUT=$(CURDIR)/_build/nbval .venv/bin/python -m pytest -q -n 2 --dist loadscope --nbval \
	  --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg book
	$(RUN) workflow/compare.py _build/nbval/figures

check: environment  ## what takes longer: reports on the zoo, small values on other machines and seeds, broken libraries, rows trained again
	$(RUN) workflow/zoo.py
	$(RUN) workflow/drift.py --slice
	$(RUN) workflow/sabotage.py --today 3
	$(RUN) workflow/train.py --today 3

site: environment  ## build the site from the outputs committed with the chapters, executing nothing
	$(RUN) workflow/build.py site

smoke: environment  ## execute every chapter at its smallest values and judge its claims
	$(RUN) workflow/build.py smoke

paper: environment  ## as book, with the papers' own training protocol: hours without a GPU
	$(RUN) workflow/build.py paper

figure: environment  ## one figure with other values, beside the book's: ID=B-F2 ARGS="-p exponent 2"
	$(RUN) workflow/figure.py $(ID) $(ARGS)

lab: environment  ## compute the jobs that the tables of results/ lack, and say before how long: ENSEMBLE=B-F2 EXECUTOR=slurm DEVICE=cuda
	@EXECUTOR=$(or $(EXECUTOR),local) CMLIB_DEVICE=$(or $(DEVICE),cpu) .venv/bin/python workflow/build.py lab $(ENSEMBLE)

test-slurm: environment  ## a few jobs of the tables again, through a SLURM that is started here for them; as root, on Debian
	$(RUN) workflow/loopback_slurm.py

drift: environment  ## the book on other instruction sets, threads and seeds: writes results/drift.csv, 45 minutes
	$(RUN) workflow/drift.py

sabotage: environment  ## every chapter on broken libraries: writes results/sabotage.csv
	$(RUN) workflow/sabotage.py

calibrate: environment  ## judge decay on thousands of curves whose law is known: writes results/calibration.csv, minutes
	$(RUN) workflow/calibrate.py

bench: environment  ## time each fast route against its plain twin
	@for file in benchmarks/*.py; do echo "$$file"; .venv/bin/python "$$file" || exit 1; done

update: environment  ## execute what changed and put the new outputs into book/; CHAPTER=linear/plateaus for one
	$(RUN) workflow/build.py update $(CHAPTER)

poster: environment  ## fit the networks of the first page's figure again, after an edit of the library moved them
	$(RUN) workflow/poster.py

pdf: site  ## print the whole book from the committed outputs into _build/curse-of-memory.pdf; needs chromium
	$(RUN) workflow/pdf.py

release: environment  ## what a release holds, into _build/release: site, PDF and notebooks to read offline, the library, checksums
	$(RUN) workflow/release.py

pages: site  ## put the site on the branch gh-pages of origin, in place of what is there
	$(RUN) workflow/pages.py

lock: environment  ## write requirements.lock anew with the newest versions; PACKAGE=ruff renews or adds one alone
	$(RUN) -m pip install --quiet --disable-pip-version-check --target _build/uv --upgrade uv
	@cp requirements.lock _build/requirements.lock
	@_build/uv/bin/uv pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --no-annotate --no-header \
	  $(if $(PACKAGE),--upgrade-package $(PACKAGE),--upgrade) --output-file _build/requirements.lock >/dev/null
	@# of what torch's build for CUDA brings, no version is pinned: other builds do without
	@{ grep '^#' requirements.lock; sed -E '/^(nvidia|cuda)-|^triton==/d; s/\+cpu$$//' _build/requirements.lock; } >_build/lock.new
	@mv _build/lock.new requirements.lock

lint: environment  ## check style of code and notebooks, format of the code, types of the library and of the README's code
	$(RUN) -m ruff check cmlib tests workflow benchmarks book
	$(RUN) -m ruff format --check cmlib tests workflow benchmarks
	@mkdir -p _build
	$(RUN) workflow/snippets.py README.md >_build/readme.py
	$(RUN) -m basedpyright --pythonpath .venv/bin/python cmlib _build/readme.py

clean:  ## remove what was built; .venv stays
	@rm -rf _build .snakemake cmlib-output
