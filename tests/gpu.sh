#!/usr/bin/env bash
# Proves the CUDA kernels on this machine's GPU and measures them: gpu.sh [DEPENDENCIES]
#
# Needs nvcc, CMake, Ninja and a C++20 compiler, and no package registry: what else libtrain is built with (fmt, nlohmann-json, xxHash,
# Catch2, an OpenMP OpenBLAS) comes from the system or from DEPENDENCIES, a folder of unpacked Debian packages that
# tests/device/fetch_packages.sh makes on a machine that has a registry. Writes to $OUT, or build-gpu/results:
#   results.json   device, commit, and for each part whether it passed, failed, or was not run and why
#   bench.jsonl    gpu_bench: kernels and steps with their share of the roofs (bench/gpu.sh makes a table of it)
#   *.log          what each part printed
# The exit status is 0 when nothing failed. Within 8 minutes; a part that takes longer is cut off and has failed.
set -uo pipefail
dependencies=${1:-}
[ -z "$dependencies" ] || dependencies=$(realpath "$dependencies")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
limit=480
source tests/device/on_gpu.sh
find_device

# ---- Build -------------------------------------------------------------------------------------------------------------
build_for_device "$dependencies" libtrain_device_tests sanitized gpu_bench
part ptxas 20 python3 tests/device/ptxas.py "$build" kernels/cuda/*.cu

# ---- Right -------------------------------------------------------------------------------------------------------------
program=$build/tests/device/libtrain_device_tests
part device_tests 150 "$program" "[device]"
if [[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) == 9.* ]]; then
  # "[device]" has tests of these kernels that turn them on; here everything that attends does.
  part hopper_attention 60 env LIBTRAIN_HOPPER_ATTENTION=1 "$program" "device: bf16*,device attention*,device hopper*"
  if command -v cuobjdump >/dev/null; then
    part sass 20 python3 tests/device/sass.py "$build"
  else
    say sass "not run" "cuobjdump is not here"
  fi
fi
part fragments 20 env LIBTRAIN_WRITE_FRAGMENTS="$results/fragments.txt" "$program" "[fragments]"

# sanitize TOOL BUG: compute-sanitizer must find the planted bug, and nothing where there is none.
sanitize() {
  local tool=$1 bug=$2
  if ! command -v compute-sanitizer >/dev/null; then say "$tool" "not run" "compute-sanitizer is not here"; return; fi
  timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/device/sanitized" "$bug" >"$results/$tool-planted.log" 2>&1
  if grep -qiE 'not supported|unable to|failed to initialize|error: .*attach' "$results/$tool-planted.log"; then
    say "$tool" "not run" "$(grep -iE 'not supported|unable|failed|error' "$results/$tool-planted.log" | head -n 1)"
    return
  fi
  if ! grep -qE 'ERROR SUMMARY: [1-9]|RACECHECK SUMMARY: [1-9]' "$results/$tool-planted.log"; then
    say "$tool" failed "did not find the planted bug '$bug'"
    return
  fi
  part "$tool" 90 compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" "device: f32 agrees with f64 on the CPU"
}
sanitize memcheck "write past the end"
sanitize racecheck "missing barrier in a block's sum"
sanitize synccheck "barriers on two lines"
sanitize initcheck uninitialized

# ---- Measured ------------------------------------------------------------------------------------------------------------
output=$results/bench.jsonl part bench 120 "$build/bench/gpu_bench"
finish
