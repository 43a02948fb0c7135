# What people do: look (demo), check (lint, quick, test), re-make the figures (results).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-thorough quick test-arithmetic test-quantize lint docs dist results install clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     compare a plain sample, best-of-n, FK and dmd2+prune side by side (outputs/demo/report.html)"
	@echo "make test     run the test suite (under 10 minutes on two cores)"
	@echo "make quick    run the tests that need no process, browser or training, and none that is slow"
	@echo "make test-thorough  run what make test leaves out: each family and pipeline class where it takes a few"
	@echo "make test-arithmetic  run what trains or hangs on the last bits again, as another processor computes"
	@echo "make test-quantize  test --quantize with bitsandbytes and torchao, which nothing else needs"
	@echo "make lint     linter, formatter and type checker"
	@echo "make docs     build the documentation site (dist/site/); a broken link is an error"
	@echo "make dist     build the wheel and the source archive, and try the wheel in an environment of its own"
	@echo "make results  re-make all of docs/results.md from scratch (under two hours on two CPU cores; goes on where it was)"

install: $(VENV)/installed

# a changed pyproject.toml may bring new entry points, which are unseen until reinstalled
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "steer needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	rm -rf outputs/demo
	$(BIN)/steer compare prompts/demo.txt -m shapes --method plain:particles=1 --method best-of-n --method fk:preset=glass,particles=8 \
		--method dmd2+prune:particles=56,at=0,keep=0.14 --steps 10 -r clip:shapes --judge shapes --success 1 --budget nfe=80 \
		--out outputs/demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not thorough"

# every family of models and class of pipelines where `make test` takes a few, and what takes longest
test-thorough: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m thorough

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not (process or browser or training or arithmetic or slow)"

# as a processor without AVX computes; what trains, and what could hang on the last bits
test-arithmetic: install
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "(training or arithmetic) and not (process or slow)"

# every process that imports diffusers would import these too, which takes 5 s: so they are not among [dev]
test-quantize: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --constraint constraints.txt \
		--target $(VENV)/quantize bitsandbytes torchao
	PYTHONPATH=$(VENV)/quantize OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/models/test_quantize.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/make_api.py
	PYTHONPATH=tests $(BIN)/python docs/make_pipelines.py
	$(BIN)/python docs/make_commands.py
	$(BIN)/zensical build --strict --clean

# the same sources give the same bytes: file times in the archives are those of the last commit
dist: install
	rm -rf dist/*.whl dist/*.tar.gz dist/try dist/again
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --wheel --outdir dist/again
	cmp dist/*.whl dist/again/*.whl
	$(PYTHON) -m venv dist/try
	dist/try/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd dist && try/bin/steer generate "a red circle" --plugin fk --reward shapes --steps 10 --out try/demo
	rm -rf dist/try dist/again

results: install
	$(BIN)/python benchmarks/results.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
