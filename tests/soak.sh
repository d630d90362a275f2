#!/usr/bin/env bash
# The long form of what docs/reliability.md promises: soak.sh --minutes N [--seed S]
# Builds like run.sh, tries to break each promise for its share of the time, and prints one table of promise and figure. Another seed tries
# other instants, batches and bytes. The exit status is 1 when a promise did not hold.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/build.sh
install_test_packages
build_cpu_and_executed
exec python3 tests/trust/soak.py $build "$@"
