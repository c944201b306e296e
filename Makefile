# What one does with the project; `make` alone lists it. Needs python3 (3.11 or newer, with venv) and nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
UV := .deps/uv/bin/uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo serve test soak check docs protos gen schema clients bench release-protos release-image wheel sbom lock audit clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## show the service at work, on a database of its own
	$(BIN)/python -m service demo

serve: $(INSTALLED) ## run the server
	$(BIN)/python -m service serve

test: protos ## run the tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

soak: protos ## run the tests, with those that take minutes
	EVBRIDGE_SOAK=1 $(BIN)/pytest

check: protos ## lint, types, layers, which tests are collected, and the contract against its last release
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.collected
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf breaking protos --against gen/released.binpb --exclude-imports
	$(BIN)/python -m tools.generate --check
	$(BIN)/python -m tools.docs --check

docs: $(INSTALLED) ## build the documentation as a site in site/, to be served by any web server
	$(BIN)/python -m tools.site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

protos: $(INSTALLED) ## copy third-party protos to .deps/proto, for buf and protoc
	@$(BIN)/python -m tools.third_party

gen: $(INSTALLED) ## generate gen/ from protos/, and the tables of docs/
	$(BIN)/python -m tools.generate
	$(BIN)/python -m tools.docs

schema: $(INSTALLED) ## write service/storage/schema.sql from the migrations
	$(BIN)/python -m tools.schema

clients: $(INSTALLED) ## generate and compile the clients in Go and TypeScript; LANGUAGES='cpp java' makes those
	$(BIN)/python -m tools.clients $(or $(LANGUAGES),go typescript)

bench: $(INSTALLED) ## measure, in two minutes; `.venv/bin/python -m bench --full` fills larger tables too
	$(BIN)/python -m bench

release-protos: $(INSTALLED) ## pack the protos with their imports and a descriptor image, into dist/
	$(BIN)/python -m tools.release_protos

release-image: protos ## make the present contract the one that `make check` compares with
	$(BIN)/buf build protos --exclude-source-info --output gen/released.binpb

wheel: $(INSTALLED) ## build the wheel, into dist/: the same bytes from the same sources
	$(BIN)/python -m hatchling build --target wheel --directory dist

sbom: $(INSTALLED) ## write the bill of materials of what ships (CycloneDX), into dist/
	$(BIN)/python -m tools.sbom

lock: $(UV) ## write the lock files from pyproject.toml; UPGRADE=1 takes the newest versions
	$(LOCK) pyproject.toml --extra embedded --group dev --group docs --group bench --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	@! grep -nE '://|--(index|extra-index|find-links)' requirements*.lock

audit: $(INSTALLED) ## look the locked versions up in the vulnerability databases (informational)
	-$(BIN)/pip-audit --requirement requirements-dev.lock --require-hashes --disable-pip

clean: ## remove what can be made again; keeps .data, the database
	rm -rf clients/*/gen clients/cpp/build clients/go/bin clients/java/target clients/typescript/dist clients/typescript/node_modules
	rm -rf .venv .deps dist site .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("evbridge needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo 'evbridge: installing its packages into .venv, once: a minute or two'
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv .venv || { \
		rm -rf .venv; echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check || { echo 'pyproject.toml and the lock files disagree: make lock' >&2; exit 1; }
	@touch $@

$(UV):
	$(PYTHON) -m venv .deps/uv
	.deps/uv/bin/pip install --quiet uv==0.13.8
