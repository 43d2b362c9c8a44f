# What people type. Everything real is in meson.build; this installs what is missing and calls it.
#
#   make          build mixd, mixctl and libmixclient in build/
#   make demo     train a small language model on real text whose mix shifts by itself
#   make test     every test: gcc and clang without warnings, sanitizers, integration
#   make bench    measure, print a table, write build/bench.json
#   make results  train what docs/results.md needs and isn't measured yet (40 minutes), write it
#   make soak     the crash test with SOAK_KILLS kills, the simulation with SOAK_SEEDS runs
#   make coverage report which lines the tests reach
#   make fuzz     every parser of outside bytes, FUZZ_S seconds each

BUILD := build
MESON := meson
JOBS  := $(shell nproc)
FUZZ_S := 60
SOAK_KILLS := 5000
SOAK_SEEDS := 20000
SOAK_SEED  := $(shell date +%-j)
TEST  := meson test --no-rebuild --print-errorlogs --num-processes $(JOBS)

.PHONY: build demo test bench results results-page soak coverage fuzz format clean packages

build: packages
	@test -f $(BUILD)/build.ninja || $(MESON) setup $(BUILD)
	@ninja -C $(BUILD)

# Installs the Debian packages of packages.txt that are missing (root), or names them and stops.
PACKAGES := packages.txt
packages:
	@missing=""; \
	for p in $$(sed 's/#.*//' $(PACKAGES)); do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q '^install ok' || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  else \
	    echo "missing packages; as root: apt-get install -y --no-install-recommends$$missing" >&2; \
	    exit 1; \
	  fi; \
	fi

demo: build
	@client/examples/demo/demo.sh $(BUILD)

# Four builds, so that each finds what the others can't. Closing lines of the unit tests at the end.
test: build
	@test -f $(BUILD)/gcc/build.ninja || $(MESON) setup -Dwerror=true $(BUILD)/gcc
	@test -f $(BUILD)/clang/build.ninja || CC=clang $(MESON) setup -Dwerror=true -Dfuzz=true \
	  -Db_sanitize=address,undefined -Db_lundef=false $(BUILD)/clang
	@test -f $(BUILD)/asan/build.ninja || $(MESON) setup -Dwerror=true \
	  -Db_sanitize=address,undefined $(BUILD)/asan
	@test -f $(BUILD)/tsan/build.ninja || $(MESON) setup -Dwerror=true -Db_sanitize=thread \
	  $(BUILD)/tsan
	@ninja -C $(BUILD)/gcc --quiet
	@ninja -C $(BUILD)/clang --quiet
	@ninja -C $(BUILD)/asan --quiet
	@ninja -C $(BUILD)/tsan --quiet
	$(TEST) -C $(BUILD)/gcc
	$(TEST) -C $(BUILD)/clang --suite unit --suite fuzz --timeout-multiplier 4
	$(TEST) -C $(BUILD)/asan --timeout-multiplier 4
	$(TEST) -C $(BUILD)/tsan --suite daemon --suite threads --timeout-multiplier 6
	@for b in gcc clang asan tsan; do \
	  grep -hE '^\[  (PASSED|FAILED)  \]|^(Ran [0-9]+ tests|OK)' \
	    $(BUILD)/$$b/meson-logs/testlog.txt | sed "s/^/$$b: /" ; done

bench: packages
	@test -f $(BUILD)/release/build.ninja || $(MESON) setup -Dbuildtype=release $(BUILD)/release
	@ninja -C $(BUILD)/release --quiet
	@$(BUILD)/release/tests/bench/bench $(BUILD)/release $(BUILD)/bench.json

# Adds to docs/results/*.jsonl what is missing there, run by run; it can be stopped at any time.
results: PACKAGES += tests/results/packages.txt
results: packages
	@test -f $(BUILD)/release/build.ninja || $(MESON) setup -Dbuildtype=release $(BUILD)/release
	@ninja -C $(BUILD)/release --quiet
	@tests/results/results.py --build $(BUILD)/release

# The page alone, from the measurements in the tree.
results-page:
	@tests/results/results.py

# Other scripts each day, as many as you like; SOAK_SEED plays those of another day.
soak: packages
	@test -f $(BUILD)/gcc/build.ninja || $(MESON) setup -Dwerror=true $(BUILD)/gcc
	@ninja -C $(BUILD)/gcc --quiet
	MX_TEST_SIM_SEEDS=$(SOAK_SEEDS) MX_TEST_SEED=$(SOAK_SEED)000000 \
	  MIXD_TEST_KILLS=$(SOAK_KILLS) MIXD_TEST_SEED=$(SOAK_SEED) \
	  $(TEST) -C $(BUILD)/gcc --timeout-multiplier 0 core-sim faults-crash
	@grep -hE '^(lockstep|async): seed|^\[  (PASSED|FAILED)  \]' \
	  $(BUILD)/gcc/meson-logs/testlog.txt

# Long runs of every fuzz target; what they find goes into tests/fuzz/corpus/.
fuzz: packages
	@test -f $(BUILD)/clang/build.ninja || CC=clang $(MESON) setup -Dwerror=true -Dfuzz=true \
	  -Db_sanitize=address,undefined -Db_lundef=false $(BUILD)/clang
	@ninja -C $(BUILD)/clang --quiet
	@for t in $(BUILD)/clang/tests/fuzz/fuzz_*[a-z]; do \
	  test -x $$t -a -f $$t || continue; n=$${t##*fuzz_}; mkdir -p $(BUILD)/corpus/$$n; echo "$$n:"; \
	  $$t -max_total_time=$(FUZZ_S) -error_exitcode=1 -rss_limit_mb=512 -timeout=5 \
	    -print_final_stats=1 $(BUILD)/corpus/$$n tests/fuzz/corpus/$$n >$(BUILD)/corpus/$$n.log 2>&1 || \
	    { tail -n 40 $(BUILD)/corpus/$$n.log; exit 1; }; \
	  grep stat::number $(BUILD)/corpus/$$n.log; \
	done

coverage: packages
	@test -f $(BUILD)/coverage/build.ninja || $(MESON) setup -Db_coverage=true $(BUILD)/coverage
	@ninja -C $(BUILD)/coverage --quiet
	$(TEST) -C $(BUILD)/coverage --timeout-multiplier 2
	@gcovr --root . --filter 'proto/|store/|daemon/|client/' --exclude 'client/examples/' \
	  --object-directory $(BUILD)/coverage --print-summary --html-details $(BUILD)/coverage.html
	@echo "the report: $(BUILD)/coverage.html"

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf $(BUILD)
