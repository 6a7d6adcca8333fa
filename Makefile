# One word for each wish. Each target installs what it lacks (Debian, as root), builds, and does it.
#   make demo    the main job on real input: two real Windows programs and three Linux programs
#   make test    everything that can be tested here; ends with "N passed, N failed"
#   make build   build/linux-release and build/windows-x64-release
#   make bench   measured side by side with other allocators
#   make dist    one archive per platform in build/dist
#   make format  formats the sources      make lint   format, static analysis, layers
.PHONY: help demo test build bench dist format lint clean
help:
	@sed -n 's/^#   //p' Makefile
demo: build
	@scripts/setup.sh demo
	@python3 scripts/demo.py
test:
	@scripts/setup.sh build test
	@python3 scripts/genuine.py >/dev/null || true # what cannot be had it says, and so do the tests that go without
	@python3 scripts/test.py
build:
	@scripts/setup.sh build
	@scripts/build.sh linux-release windows-x64-release
bench:
	@scripts/setup.sh build bench
	@scripts/build.sh linux-release
	@cmake --build build/linux-release --target bench/all >/dev/null
	@PATH=/usr/bin:$$PATH python3 bench/run.py # the python that has Debian's matplotlib
dist:
	@scripts/setup.sh build dist
	@python3 scripts/dist.py
format:
	@scripts/setup.sh lint
	@scripts/format.sh
lint:
	@scripts/setup.sh build lint
	@scripts/lint.sh
clean:
	rm -rf build
