# Every developer command. `make demo` and `make test` set up what they need from a bare checkout.
PYTHON ?= python3
BIN := .venv/bin
DEMO_DATA ?= data/demo
# make demo TEACHER_URL=https://api.openai.com/v1 TEACHER_MODEL=gpt-4.1-mini: a real teacher, its key in OPENAI_API_KEY
# or in the variable that TEACHER_KEY_ENV names.
TEACHER = $(if $(TEACHER_URL),--teacher-url '$(TEACHER_URL)') \
	$(if $(TEACHER_MODEL),--teacher-model '$(TEACHER_MODEL)') \
	$(if $(TEACHER_KEY_ENV),--teacher-key-env '$(TEACHER_KEY_ENV)')

.PHONY: demo test check lint types unit browser lock clean

demo: .venv/.ready
	$(BIN)/python -m examples.demo --data $(DEMO_DATA) $(TEACHER)

test: .venv/.ready chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.ready
	$(BIN)/mypy

unit: .venv/.ready
	$(BIN)/pytest --ignore=tests/browser

browser: .venv/.ready chromium
	$(BIN)/pytest tests/$@

# torch first and unhashed: its CPU and CUDA builds share a version but not a hash (docs/dependencies.md).
.venv/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The browser tests drive Debian's chromium.
.PHONY: chromium
chromium:
	command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y chromium; }

lock:
	$(PYTHON) scripts/lock.py

clean:
	rm -rf .venv build dist *.egg-info data
