# Thin wrappers: the work is in scripts/ and in the CMake presets.
JOBS := $(shell nproc)
PREFIX := /usr/local

.DEFAULT_GOAL := help
.PHONY: help setup build install deb wheel demo test test-large faults lint \
        format bench asan tsan fuzz serve-load serve-schema lm-eval interop \
        vllm chroots container nightly clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install the Debian packages that are missing
	@scripts/setup.sh develop

build: ## Build build/release/mobe
	@scripts/setup.sh build
	cmake --preset release
	cmake --build --preset release -j$(JOBS) --target mobe manual

install: ## Install what was built, below PREFIX (/usr/local)
	@test -e build/release/install/mobe.1 || \
	  { echo "install: nothing is built; run: make build" >&2; exit 1; }
	cmake --install build/release --prefix $(PREFIX) --strip

deb: build ## Make build/mobe_*.deb, for this release of Debian or Ubuntu
	@scripts/setup.sh package
	cd build && cpack --config release/CPackConfig.cmake

wheel: ## Make build/mobe-*.whl, which pip installs on any Linux with glibc
	@scripts/setup.sh package
	python3 -m venv build/package
	build/package/bin/pip wheel --no-deps --wheel-dir build .

demo: build ## Show the program on the bundled model
	scripts/demo.sh

test: setup ## Build release and ASan+UBSan, run every test
	scripts/test.sh

test-large: setup build ## Compress and run a layer of each model at full width
	scripts/venv.sh
	build/venv/bin/python scripts/test_large.py

faults: build ## Damage, kill and starve the program (FAULTS='--only kills --count 50')
	tests/faults/faults.py $(FAULTS)

lint: setup ## Check format and clang-tidy
	scripts/lint.sh

format: setup ## Format the C++ sources in place
	scripts/format.sh

bench: setup ## Run the benchmarks
	cmake --preset release
	cmake --build --preset release -j$(JOBS)
	scripts/bench.sh

tsan: setup ## Run the unit tests under ThreadSanitizer
	cmake --preset tsan
	cmake --build --preset tsan -j$(JOBS) --target unit_tests
	TSAN_OPTIONS=suppressions=$(CURDIR)/scripts/tsan.supp \
	  ctest --test-dir build/tsan --output-on-failure -j$(JOBS)

fuzz: setup ## Run each fuzz target for FUZZ_SECONDS (60)
	scripts/fuzz.sh

serve-load: setup build ## Many clients and hostile requests against a sanitized server
	cmake --preset release -DMOBE_ASAN_TESTS=ON
	cmake --build --preset release -j$(JOBS) --target mobe_asan
	tests/serve_load.py --clients 64 --seconds 120
	@# What was freed is kept for a while, up to 256 MB if nothing is said.
	ASAN_OPTIONS=quarantine_size_mb=16 MOBE=build/release/mobe_asan \
	  tests/serve_load.py --clients 64 --seconds 120
	MOBE=build/release/mobe_asan tests/serve_fuzz.py --seconds 180

serve-schema: setup build ## Thousands of requests from the server's own OpenAPI file
	cmake --preset release -DMOBE_ASAN_TESTS=ON
	cmake --build --preset release -j$(JOBS) --target mobe_asan
	scripts/serve_schema.sh

lm-eval: setup build ## Hold the server against transformers by lm-eval (DATA=folder)
	scripts/lm_eval.sh $(or $(DATA),../shared/data)

interop: build ## Load native folders in the newest transformers
	scripts/interop.sh

vllm: build ## Run native folders in vLLM on the CPU
	scripts/vllm.sh

asan: setup ## Run all unit tests under ASan and UBSan
	cmake --preset asan
	cmake --build --preset asan -j$(JOBS)
	ctest --test-dir build/asan --output-on-failure -j$(JOBS)

chroots: ## Build, install and run on Debian 12, 13, Ubuntu (needs root)
	scripts/chroot_test.sh

container: ## Build the Containerfile and run it (needs root)
	scripts/container_test.sh

nightly: ## What takes too long for each change: an hour and more
	$(MAKE) lint
	$(MAKE) asan
	$(MAKE) tsan
	$(MAKE) fuzz FUZZ_SECONDS=600
	$(MAKE) serve-load
	$(MAKE) serve-schema
	$(MAKE) interop
	$(MAKE) vllm
	$(MAKE) chroots
	$(MAKE) container
	$(MAKE) test-large

clean: ## Remove build/
	rm -rf build
