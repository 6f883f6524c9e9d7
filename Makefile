# make demo   from a fresh clone to a promoted model, a report and two files it drew
# make test   from a fresh clone to the tests
# `make` alone lists everything. Needs python3 (3.11 or 3.12, with venv), git and the network for packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# optional parts to install: dev, serve, team, credentials, lora, pretrained, gpu, cluster, kubernetes (comma separated)
EXTRAS ?= dev
# faults of `make drill`; none named: all
FAULTS ?=
VENV := .venv
INSTALLED := $(VENV)/.installed

# With it every process compiles again what it imports: seconds for each of the dozens of processes of a run.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1

.PHONY: help install install-pip demo pictures test platform test-all lint sbom audit smoke drill clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## the environment in .venv, from the pins in constraints.txt

# uv installs in seconds what takes pip minutes. It does not read pip's configuration, hence the find-links: where pip
# knows a folder of wheels (say of the CPU build of torch), uv is told of the same one.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else \
	  "Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@echo "installing into $(VENV) ..."
	@start=$$SECONDS; \
	"$(PYTHON)" -m venv $(VENV) || { echo "No venv module: on Debian, apt-get install python3-venv" >&2; exit 1; }; \
	$(VENV)/bin/python -m pip install -q uv; \
	links="$${UV_FIND_LINKS:-$$($(VENV)/bin/python -m pip config get global.find-links 2>/dev/null || true)}"; \
	UV_FIND_LINKS="$${links:-$${PIP_FIND_LINKS:-}}" $(VENV)/bin/uv pip install -q --python $(VENV)/bin/python \
	  -c constraints.txt -e '.[$(EXTRAS)]'; \
	touch $(INSTALLED); \
	echo "installed in $$((SECONDS - start)) s, $$(du -sh $(VENV) | cut -f1)"

install-pip: ## the same with pip alone (minutes instead of seconds)
	"$(PYTHON)" -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(INSTALLED)

demo: install ## the whole line on the embedded default; the second time nothing is left to do
	@start=$$SECONDS; \
	dvc repro; \
	goku report; \
	$(draw-pictures); \
	echo; \
	echo "done in $$((SECONDS - start)) s after installation. Look at:"; \
	echo "  reports/index.html   everything that happened, with pictures (open it in a browser)"; \
	echo "  out.png, out.mp4     drawn by the champion; draw your own: .venv/bin/goku generate \"PROMPT\" --out FILE.png"; \
	echo "  .venv/bin/goku registry history   which model is champion, and why"

pictures: install ## out.png and out.mp4, drawn by the champion
	@$(draw-pictures)

# Drawn again only for another champion: drawing costs more than all else in a run that has nothing to do.
define draw-pictures
champion=$$(cat ledger/*.json 2>/dev/null | grep '"champion"' | tail -n 1 || true); \
	if [ -f out.png ] && [ -f out.mp4 ] && [ "$$champion" = "$$(cat .goku/pictures-of 2>/dev/null || true)" ]; then \
	  echo "out.png and out.mp4: drawn by this champion already"; \
	else \
	  goku generate "a red circle left of a blue square" --out out.png; \
	  goku generate "a green triangle moving right" --frames 17 --out out.mp4; \
	  echo "$$champion" > .goku/pictures-of; \
	fi
endef

# A test file stays with one worker, so that what its tests share is made once. Workers share the cores: one thread each.
workers := -n auto --maxprocesses 4 --dist loadfile

test: install ## the tests that are quick
	OMP_NUM_THREADS=1 pytest -q -m "not slow and not platform" $(workers)

platform: install ## the tests that start servers, browsers and several hosts
	OMP_NUM_THREADS=1 pytest -q -m "platform and not slow" -n 2 --dist loadfile

test-all: install ## all tests
	OMP_NUM_THREADS=1 pytest -q $(workers)

lint: install ## style and errors that a reader of code finds without running it
	ruff check .
	ruff format --check .

sbom: install ## everything that is installed, with versions, as CycloneDX (sbom.json)
	cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	  -o sbom.json $(VENV)/bin/python
	@echo "sbom.json: $$(grep -c '"purl"' sbom.json) components"

audit: install ## known holes in what constraints.txt pins; needs the advisories of pypi.org or osv.dev
	$(VENV)/bin/python infra/audit.py

smoke: install ## the line as committed, from nothing, in a temporary clone (KEEP=1 leaves it there)
	@start=$$SECONDS; \
	place=$$(mktemp -d); \
	if [ -n "$${KEEP:-}" ]; then echo "in $$place"; else trap 'rm -rf "$$place"' EXIT; fi; \
	git clone -q . "$$place/goku"; \
	cd "$$place/goku"; \
	export PYTHONPATH="$$PWD"; \
	goku params use smoke; \
	dvc repro; \
	goku report; \
	goku generate "a red circle" --out out.png; \
	goku generate "a green triangle moving right" --frames 5 --out out.mp4; \
	goku inspect out.png && goku inspect out.mp4; \
	test -s reports/index.html && test -s out.png && test -s out.mp4; \
	goku registry verify; \
	python tests/workspaces/artifact_inspector.py .; \
	echo "smoke: the whole line in $$((SECONDS - start)) s"

drill: install ## every fault (FAULTS="--only hang": one) injected into a small training of two ranks
	goku drill $(FAULTS)

clean: ## remove what the line made, the ledger and the registry too; keeps .venv
	@if [ -d .goku/services ] && [ -x $(VENV)/bin/goku ]; then goku down; fi
	rm -rf data models reports records metrics plots ledger .goku mlruns mlflow.db mlartifacts dvc_plots out.png out.mp4

distclean: clean ## remove .venv as well
	rm -rf $(VENV) *.egg-info
