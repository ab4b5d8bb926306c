# Everything works from a fresh clone with Python 3.10+ and make; see CONTRIBUTING.md.

PYTHON ?= python3
DAGY = .venv/bin/python -m dagy

# Python writes no bytecode when this is not empty, and then every start compiles everything again.
export PYTHONDONTWRITEBYTECODE =
export NO_MKDOCS_2_WARNING = 1

.PHONY: run test check soak bench docs

run: .venv/.ready
	$(DAGY) run examples/nyc_flights.py:flights_report --max-workers 4

test: .venv/.ready
	$(MAKE) check
	.venv/bin/python -m pytest -q -m slow -n 2

# Lint, types, import contracts and the fast tests: the habit before every commit.
check: .venv/.ready
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -q -m "not slow" -n 2

# The random tests, kills and fuzzing in full.
soak: .venv/.ready
	DAGY_TEST_SCALE=1 .venv/bin/python -m pytest -q -n 2

bench: .venv/.ready
	.venv/bin/python benchmarks/start_up.py
	.venv/bin/python benchmarks/local_engine.py
	.venv/bin/python benchmarks/authoring.py

docs: .venv/.ready
	.venv/bin/python -m mkdocs build --strict

.venv/.ready: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m uv --version >/dev/null 2>&1 || .venv/bin/python -m pip install --quiet uv
	.venv/bin/python -m uv pip install --quiet --python .venv/bin/python --compile-bytecode -c constraints.txt -e ".[dev]"
	touch .venv/.ready
