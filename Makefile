# Thin wrappers: the work is in scripts/ and in the CMake presets.
JOBS := $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-large faults lint format bench tsan fuzz clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install the Debian packages that are missing
	@scripts/setup.sh

build: setup ## Build build/release/mobe
	cmake --preset release
	cmake --build --preset release -j$(JOBS)

demo: build ## Show the program on the bundled model
	scripts/demo.sh

test: setup ## Build release and ASan+UBSan, run every test
	scripts/test.sh

test-large: build ## Compress and run a layer of each model at full width
	scripts/venv.sh
	build/venv/bin/python scripts/test_large.py

faults: build ## Damage, kill and starve the program (FAULTS='--only kills --count 50')
	tests/faults/faults.py $(FAULTS)

lint: setup ## Check format and clang-tidy
	scripts/lint.sh

format: setup ## Format the C++ sources in place
	scripts/format.sh

bench: build ## Run the benchmarks
	scripts/bench.sh

tsan: setup ## Run the unit tests under ThreadSanitizer
	cmake --preset tsan
	cmake --build --preset tsan -j$(JOBS) --target unit_tests
	ctest --test-dir build/tsan --output-on-failure -j$(JOBS)

fuzz: setup ## Run each fuzz target for FUZZ_SECONDS (60)
	scripts/fuzz.sh

clean: ## Remove build/
	rm -rf build
