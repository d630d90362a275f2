#!/usr/bin/env bash
# Proves the library right: installs what is missing, builds, runs every test. The exit status is CTest's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash examples/seq2seq/install.sh catch2 libbenchmark-dev ccache python3
# Without these, CTest lists the tests that need them as skipped.
bash examples/seq2seq/install.sh clang clang-format || echo "tests/run.sh: going on without clang"

launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B build-tests -G Ninja -DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_WERROR=ON "${launcher[@]}"
cmake --build build-tests --parallel "$(nproc)"
exec ctest --test-dir build-tests --output-on-failure -j2
