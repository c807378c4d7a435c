# Two commands for a newcomer: `make demo` shows what Skylark does, `make test` proves it.
# Both prepare .venv, the project's own Python environment; nothing is installed outside this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

BASE ?= python:3.11-slim-bookworm
IMAGE ?= dev.local/skylark:dev

.PHONY: demo test docs image install format clean

demo: install
	$(BIN)/skylark demo

test: $(VENV)/.tox
	$(BIN)/tox run

# docs/reference/ from the code.
docs: install
	$(BIN)/python -m docs.generator

# The image of every role, for this machine; the base image is pinned by the digest that BASE has now.
image:
	docker buildx build --file deployment/Containerfile --load --tag $(IMAGE) \
		--build-arg PYTHON=$(BASE)@$$(docker buildx imagetools inspect $(BASE) --format '{{.Manifest.Digest}}') \
		--build-arg REVISION=$$(git rev-parse HEAD) .

install: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.created setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[firewatch]'
	@touch $@

# tox installs the project into an environment of its own: here it is not needed.
$(VENV)/.tox: $(VENV)/.created
	$(BIN)/pip install --quiet --disable-pip-version-check tox
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Skylark needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv is missing; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

format: $(VENV)/.tox
	$(BIN)/tox exec -- ruff format .

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis
