# Everything on a fresh machine with Python >= 3.10: environment, dependencies, then the job.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A CPU build where the package index offers one; override for a GPU, e.g. make TORCH=torch demo
TORCH ?= torch==2.13.0
OUT ?= out
# Processes of `make test`: as many as there are cores, four at most; JOBS=0 is one, without helpers.
JOBS ?= logical

.PHONY: demo test test-slow bench lint environment clean

demo: $(VENV)/.installed
	$(BIN)/dose-prediction predict Resources/SampleData/openkbp/pt_235.npz \
		Resources/SampleData/simulated_pelvis --output $(OUT) --report

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m "not slow" --durations=20 \
		-n $(JOBS) --maxprocesses=4 --dist=loadfile

# Also with the instructions of an older processor, where bfloat16 is emulated.
test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m slow --timeout=1800
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -q --timeout=1800 \
		Testing/test_casting.py Testing/test_predict.py Testing/test_shipped_model.py \
		Testing/test_networks.py

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

environment: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[training,scene,dev]"
	@# Alone: the packages of its language-model assistant, a hundred, plan nothing.
	$(BIN)/python -m pip install --quiet --no-deps pyRadPlan==0.5.0
	touch $@

clean:
	rm -rf $(OUT) build dist
