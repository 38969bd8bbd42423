# `make demo` and `make test` set up everything they need in $(VENV); nothing else is installed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Tracing holds Python's lock, so two processes halve the time; a file's fixtures stay in one of them.
# In pytest's own order, dear files (export, recipes) do not come last, where one process waits.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: $(VENV)/recipes  ## train a translation model on real data, score, export and use it
	$(BIN)/python -m recipes.translation --output saved_models/demo-en-de --minutes 6 \
		--vocabulary_size 4000 --dropout 0.1 \
		--batch_tokens 2048 --warmup_steps 300 --learning_rate 0.002 --average 2 --resume

test: $(VENV)/test  ## the whole test suite; the PyTorch references are skipped
	$(BIN)/python -m pytest $(PARALLEL)

check: $(VENV)/dev  ## what CI runs: lint, format, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(PARALLEL)

# Debian's python3 without python3-venv has no ensurepip, hence the second way; the third needs
# neither venv nor a pip that knows --python.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("kzoo needs Python \
	3.10 to 3.13, as TensorFlow 2.21 does; $(PYTHON) is " + sys.version.split()[0] + ". Name another: \
	make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) \
		|| { $(PYTHON) -m venv --without-pip $(VENV) \
			&& $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } \
		|| $(PYTHON) -m virtualenv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

SIZE_recipes := about 700 MB with TensorFlow
SIZE_test := about 1.2 GB with TensorFlow, KServe and librosa
SIZE_dev := TensorFlow and PyTorch; on Linux PyTorch may bring gigabytes of CUDA libraries

# One stamp for each extra of setup.cfg. Of every editable installation setuptools warns at length.
$(VENV)/recipes $(VENV)/test $(VENV)/dev: $(VENV)/%: $(BIN)/pip setup.cfg
	@echo "Installing kzoo[$*] into $(VENV): $(SIZE_$*)"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --progress-bar on --quiet --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
