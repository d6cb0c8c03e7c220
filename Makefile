# SPDX-License-Identifier: MIT
# Thin: each target says what it runs. CMake builds; tests/ holds everything else.
.PHONY: help build install demo demo-lab check bench lab format clean
PREFIX ?= /usr/local
help:
	@echo 'make build   build/tenon, for use (release)'
	@echo 'make install PREFIX=/usr/local DESTDIR='
	@echo '             the program, libtenon, -kvm and -migration with headers, pkg-config and CMake files, manual pages'
	@echo 'make demo    install what is missing, build, and show a VM with a device on this machine (in the lab without /dev/kvm)'
	@echo 'make demo-lab  the same with Linux, an NVMe, an IOMMU and VFIO, in an emulated host'
	@echo 'make check   install what is missing, build, run every test, the lab included'
	@echo 'make bench   figures beside QEMU, one line each; build/bench.json'
	@echo 'make lab     list the lab scenarios; tests/lab/lab run NAME runs one'
	@echo 'make format  clang-format every source'
	@echo 'make clean   remove build/ (the cached lab kernel stays)'

build:
	@tests/install build
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release

# ld.so learns of the new library where the prefix is one that it searches.
install: build
	@cmake --install build --prefix '$(PREFIX)'
	@[ -n '$(DESTDIR)' ] || /sbin/ldconfig 2>/dev/null || true

demo:
	@tests/install build
	@tests/demo

demo-lab:
	@tests/install build lab
	@tests/demo-lab

check:
	@tests/install build lab test
	@tests/check

bench:
	@tests/install build lab
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release
	@tests/bench/bench

lab:
	@tests/lab/lab list

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build
