# Thin: sets the machine up, configures, builds, and hands over. Every target does all it
# needs on a fresh Debian 12 and is quick when there is nothing left to do.
#
#   make demo     a test CA and a sandbox of SCM, renewals from end to end
#   make test     every test, ends with "N passed, N failed"
#   make lint     clang-tidy, cppcheck, luacheck, clang-format
#   make bench    the numbers, each beside its reference, as a ratio
#   make soak     the longer counts
#   make fuzz     each parser against made-up input, SECONDS (20) a target, with clang
#   make install  to PREFIX (default /usr/local)

PREFIX ?= /usr/local
JOBS   ?= $(shell nproc)
SECONDS = 20

BUILD_PACKAGES = gcc make cmake pkg-config liblua5.4-dev libuv1-dev libcurl4-openssl-dev \
  libssl-dev libcjson-dev libmicrohttpd-dev libedit-dev libldns-dev libsqlite3-dev
DEMO_PACKAGES  = $(BUILD_PACKAGES) pebble
TEST_PACKAGES  = $(DEMO_PACKAGES) curl openssl nginx tmux tzdata lua-check clang-format valgrind \
  knot knot-dnsutils bind9
LINT_PACKAGES  = $(BUILD_PACKAGES) clang-tidy clang-format cppcheck lua-check
FUZZ_PACKAGES  = $(BUILD_PACKAGES) clang libclang-rt-14-dev
BENCH_PACKAGES = $(TEST_PACKAGES) uacme lua5.4 util-linux

.PHONY: all build demo test lint bench soak fuzz install clean
all: build

FUZZ_OPTIONS = -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS=-fsanitize=fuzzer-no-link \
  -DSR_SANITIZE=ON -DSR_FUZZ=ON

# $(call need,PACKAGES): install what is missing, and say so.
define need
@missing=""; for p in $(1); do \
  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
done; \
if [ -n "$$missing" ]; then \
  echo "installing:$$missing"; \
  if [ "$$(id -u)" = 0 ]; then as=""; elif command -v sudo >/dev/null; then as=sudo; else \
    echo "not root and no sudo: run  apt-get install$$missing  as root, then again" >&2; exit 1; fi; \
  $$as apt-get update -qq && \
  $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

# $(call compile,DIR,OPTIONS,TARGETS)
define compile
@[ -f $(1)/Makefile ] || { echo "configuring $(1)"; cmake -S . -B $(1) $(2) >$(1).log 2>&1 || { cat $(1).log; exit 1; }; rm -f $(1).log; }
@$(MAKE) --no-print-directory -s -C $(1) -j$(JOBS) $(3)
endef

build:
	$(call need,$(BUILD_PACKAGES))
	$(call compile,build,-DCMAKE_INSTALL_PREFIX=$(PREFIX),)

demo:
	$(call need,$(DEMO_PACKAGES))
	$(call compile,build,,secrun)
	@tests/demo/run.sh

test:
	$(call need,$(TEST_PACKAGES))
	$(call compile,build,,secrun secrun_crash unit_tests)
	$(call compile,build-asan,-DSR_SANITIZE=ON,secrun unit_tests)
	@tests/run.sh

lint:
	$(call need,$(LINT_PACKAGES))
	$(call compile,build,,secrun)
	@tests/static/lint.sh

bench:
	$(call need,$(BENCH_PACKAGES))
	$(call compile,build,,secrun bench_programs)
	@tests/bench/run.sh

soak:
	$(call need,$(TEST_PACKAGES))
	$(call compile,build,,secrun)
	@tests/soak/run.sh

fuzz:
	$(call need,$(FUZZ_PACKAGES))
	$(call compile,build-fuzz,$(FUZZ_OPTIONS),fuzz_programs)
	@tests/fuzz/run.sh build-fuzz $(SECONDS)

install: build
	@cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-asan build-fuzz
