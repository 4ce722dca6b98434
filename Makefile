# Everything sets up what it needs; a second run reinstalls nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
TABLES_VENV := .venv-bench-tables
TABLES_STAMP := $(TABLES_VENV)/.installed
TABLE_RIVALS = OMP_NUM_THREADS=1 $(BIN)/python benchmarks/table_rivals/run.py
OLDEST_STAMP := .venv-oldest/.installed
NEWEST_STAMP := .venv-newest/.installed
FOR_TESTS = pytest pytest-xdist hypothesis sympy polars ipykernel nbclient beartype jaxtyping
DATA ?= data
DEVICE ?= cpu
THROUGHPUT = $(BIN)/python benchmarks/throughput/run.py --device $(DEVICE)
RIVALS = --rivals $(BENCH_VENV)/bin/python
TEST_WORKERS ?= 2
# every call of these rooms is checked against the shapes that it declares, which costs a third of the time: in their own tests alone
SHAPED = tests/functional tests/likelihoods tests/latents
SHAPES = $(SHAPED) --jaxtyping-packages=calibrae.functional,calibrae.likelihoods,calibrae.latents,beartype.beartype
IGNORED = $(SHAPED:%=--ignore=%)

.PHONY: help train test whole quick oldest newest sdist lint docs bench bench-data bench-full bench-tables clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(STAMP): pyproject.toml constraints.txt
	@echo "== setting up $(VENV) (once)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

train: $(STAMP)  ## train a calibrated VAE on the bundled digits and look at its numbers
	$(BIN)/calibrae train digits --out runs/digits --latent-dim 10 --epochs 40 --overwrite
	$(BIN)/calibrae evaluate runs/digits

lint: $(STAMP)  ## format, style, strict types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# each worker has one thread, and so has what it starts
test whole quick oldest newest: export OMP_NUM_THREADS = 1
test: lint docs  ## all checks, the site, and the tests, the slow ones too
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(SHAPES)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal --durations=8 -m "not whole" $(IGNORED)

whole: $(STAMP)  ## the tests of whole programs: processes, machines, kills, damages, tutorials
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --durations=8 -m whole

# each in an environment of its own; warnings of old packages about their own neighbours are no faults of ours
$(OLDEST_STAMP): pyproject.toml constraints-oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[all]' $(FOR_TESTS)
	@touch $@

oldest: $(OLDEST_STAMP)  ## the fast tests with the oldest version of each package (torch 2.6: gigabytes are downloaded)
	.venv-oldest/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow and not whole" -W ignore::DeprecationWarning

$(NEWEST_STAMP): pyproject.toml
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[all]' $(FOR_TESTS)
	@touch $@

newest: $(NEWEST_STAMP)  ## the fast tests with the newest version of each package and of Python: make newest PYTHON=python3.13
	.venv-newest/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow and not whole"

quick: $(STAMP)  ## the fast tests alone
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow and not whole" $(SHAPES)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow and not whole" $(IGNORED)

sdist: $(STAMP)  ## build the source distribution; install, try and test what is in it in an environment of its own
	rm -rf build/sdist && mkdir -p build/sdist/own
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --sdist --outdir build/sdist . > build/sdist/log
	tar -xzf build/sdist/calibrae-*.tar.gz -C build/sdist/own --strip-components 1
	$(PYTHON) -m venv build/sdist/venv
	build/sdist/venv/bin/python -m pip install --quiet --constraint constraints.txt 'build/sdist/own[all]' pytest pytest-xdist hypothesis sympy jaxtyping beartype
	cd build/sdist && venv/bin/calibrae self-test
	cd build/sdist && venv/bin/calibrae train digits --out run --latent-dim 10 --epochs 2 && venv/bin/calibrae evaluate run
	cd build/sdist/own && ../venv/bin/python -m pytest -q -n $(TEST_WORKERS) $(SHAPED) tests/objectives tests/models

docs: $(DOCS_STAMP)  ## build the site, strictly
	$(BIN)/mkdocs build --strict

$(BENCH_STAMP):
	@echo "== setting up $(BENCH_VENV) with the rivals (once)"
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt pythae==0.1.2 lightning
	@touch $@

bench-data:
	@test -d $(DATA)/mnist -a -d $(DATA)/cifar10 || { echo "$(DATA) must hold mnist/ and cifar10/ and does not: make bench DATA=path/to/data" >&2; exit 2; }

bench: bench-data $(STAMP) $(BENCH_STAMP)  ## images a second beside other trainers; DATA is a folder with mnist/ and cifar10/, DEVICE cpu or cuda
	$(THROUGHPUT) mlp $(DATA)/mnist $(RIVALS) --compile on --precision auto --repeats 7
	$(THROUGHPUT) conv $(DATA)/cifar10 $(RIVALS) --compile on --precision auto --repeats 7

$(TABLES_STAMP):
	@echo "== setting up $(TABLES_VENV) with the rivals (once)"
	$(PYTHON) -m venv $(TABLES_VENV)
	$(TABLES_VENV)/bin/python -m pip install --quiet --constraint constraints-rivals.txt torch ctgan hyperimpute pyod
	@touch $@

bench-tables: $(STAMP) $(TABLES_STAMP)  ## tables beside TVAE, MIWAE and pyod, half an hour; DATA is a folder with adult/
	@test -f $(DATA)/adult/adult.csv || { echo "$(DATA) must hold adult/adult.csv and does not: make bench-tables DATA=path/to/data" >&2; exit 2; }
	$(TABLE_RIVALS) synthesis $(DATA)/adult/adult.csv --rivals $(TABLES_VENV)/bin/python
	$(TABLE_RIVALS) imputation --rivals $(TABLES_VENV)/bin/python
	$(TABLE_RIVALS) alarm --rivals $(TABLES_VENV)/bin/python
	$(TABLE_RIVALS) large --rivals $(TABLES_VENV)/bin/python

bench-full: bench  ## all of docs/speed.md: float32, not compiled, scaling, importance sampling, time to a test ELBO; hours
	$(THROUGHPUT) mlp $(DATA)/mnist $(RIVALS)
	$(THROUGHPUT) conv $(DATA)/cifar10 $(RIVALS)
	$(THROUGHPUT) mlp $(DATA)/mnist $(RIVALS) --compile on
	$(THROUGHPUT) conv $(DATA)/cifar10 $(RIVALS) --compile on
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/importance.py $(DATA)/mnist $(RIVALS)
	$(BIN)/python benchmarks/throughput/data_path.py $(DATA)
	$(BIN)/python benchmarks/precision.py $(DATA)/cifar10 --device $(DEVICE) --compile on
	$(BIN)/python benchmarks/precision.py --check --network conv
	$(BIN)/python benchmarks/time_to_elbo.py $(DATA)/cifar10

clean:  ## remove the environment and the caches
	rm -rf $(VENV) $(BENCH_VENV) $(TABLES_VENV) .mypy_cache .ruff_cache .pytest_cache site
