# Two commands matter: `make serve` and `make test`. Both install what is missing, say what they do, and are quick the second time.

DATA ?= data
HOST ?= 127.0.0.1
PORT ?= 8080
# A folder of DICOM files to import before serving: make serve IMPORT=/path/to/folder
IMPORT ?=

.PHONY: help serve build bench test packages test-packages clean

help:
	@echo "make serve [IMPORT=folder] [DATA=data] [PORT=8080]   build and serve on http://$(HOST):$(PORT)"
	@echo "make test                                            build and run all tests"
	@echo "make bench                                           the short benchmark profile beside the peers: artefacts/bench.html"
	@echo "make build                                           build the release binary .build/release/tomos"

packages:
	@scripts/install-packages.sh build

test-packages:
	@scripts/install-packages.sh build test

build: packages
	@echo "==> Building Tomos (release; the first time takes several minutes, most of it for the network libraries)"
	swift build -c release --product tomos

serve: build
	@echo "==> Serving"
	exec .build/release/tomos serve --data "$(DATA)" --host "$(HOST)" --port "$(PORT)" $(if $(IMPORT),--import "$(IMPORT)")

.venv/installed: Tests/requirements.txt | test-packages
	@echo "==> Installing the Python packages of the tests into .venv"
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r Tests/requirements.txt
	touch $@

test: test-packages .venv/installed
	@echo "==> Building Tomos and its tests (debug; the first time takes several minutes)"
	swift build --build-tests
	@echo "==> Searching for inputs that break the import (half a minute; more: Fuzz/README.md)"
	@$(MAKE) --no-print-directory -j2 -C Fuzz smoke
	@echo "==> Running the tests"
	@scripts/run-tests.sh

bench: build
	@echo "==> Measuring, ten to fifteen minutes (the first time installs the peers and builds the worker)"
	Benchmarks/tomos-bench run

# Twenty readers for MINUTES (60 by default): memory, sessions and pictures. The data are a folder of one DICOM series.
MINUTES ?= 60
SOAK_DATA ?= ../shared/data/ct_chest_contrast
soak: build .venv/installed
	.venv/bin/python3 Benchmarks/Streaming/soak.py soak --import "$(SOAK_DATA)" --minutes $(MINUTES) --report artefacts/soak.json

clean:
	rm -rf .build .venv .venv-bench Benchmarks/.build artefacts
