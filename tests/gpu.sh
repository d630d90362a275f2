#!/usr/bin/env bash
# Proves the CUDA kernels on this machine's GPU and measures them: gpu.sh [DEPENDENCIES]
#
# Needs nvcc, CMake, Ninja, Python and a C++20 compiler, and no package registry: what else libtrain is built with (fmt,
# nlohmann-json, xxHash, Catch2, an OpenMP OpenBLAS) comes from the system or from DEPENDENCIES, a folder of unpacked
# Debian packages that tests/device/fetch_packages.sh makes on a machine that has a registry. Writes to results-tests in
# $OUT, or in build-gpu, which it clears of an earlier run's:
#   results.json   device, commit, and for each part whether it passed, failed, or was not run and why
#   bench.jsonl    gpu_bench: kernels and steps with their share of the roofs (bench/gpu.sh makes a table of it)
#   *.log          what each part printed
# and all of it to one file beside that folder, results-tests.tar.gz. The exit status is 0 when nothing failed, 2 when
# nothing was begun. Within 8 minutes; a part that takes longer than it may is cut off and has failed. compute-sanitizer
# comes last, with the time that is left.
set -uo pipefail
script=tests
limit=480
source "$(dirname "${BASH_SOURCE[0]}")/device/on_gpu.sh"
read_dependencies "$@"
begin
find_device

# ---- Build -----------------------------------------------------------------------------------------------------------
build_for_device libtrain_device_tests sanitized gpu_bench
part ptxas 20 python3 tests/device/ptxas.py "$build" kernels/cuda/*.cu

# ---- Right -----------------------------------------------------------------------------------------------------------
program=$build/tests/device/libtrain_device_tests
part device_tests 150 python3 tests/device/run_each.py "$program" "~[fragments]"  # which is a part of its own
if [ "$capability" = 90 ]; then
  # Here attention of long sequences has kernels of its own, so that "[device]" leaves those of other devices out.
  # (Tests of Hopper's kernels switch them on themselves.)
  part attention_without_wgmma 60 env LIBTRAIN_HOPPER_ATTENTION=0 python3 tests/device/run_each.py "$program" \
    "device: bf16*,device attention*"
  if command -v cuobjdump >/dev/null; then
    part sass 20 python3 tests/device/sass.py "$build"
  else
    say sass "not run" "cuobjdump is not here"
  fi
fi
part fragments 20 env LIBTRAIN_WRITE_FRAGMENTS="$results/fragments.txt" "$program" "[fragments]"

# ---- Measured --------------------------------------------------------------------------------------------------------
output=$results/bench.jsonl part bench 120 "$build/bench/gpu_bench"

# ---- Sanitized -------------------------------------------------------------------------------------------------------
# sanitize TOOL BUG FINDING TESTS OPTION…: compute-sanitizer must report FINDING of the planted bug, and nothing in
# TESTS. Of our kernels alone: NVIDIA's take the time of all of them.
sanitize() {
  local tool=$1 bug=$2 finding=$3 tests=$4 planted=$results/$1-planted.log
  local status=0 command=(compute-sanitizer --tool "$tool" --kernel-regex kns=libtrain --error-exitcode 9 "${@:5}")
  if ! command -v compute-sanitizer >/dev/null; then say "$tool" "not run" "compute-sanitizer is not here"; return; fi
  enough "$tool" 90 || return
  within 30 "$planted" "$planted" "${command[@]}" "$build/tests/device/sanitized" "$bug" || status=$?
  if grep -q "$finding" "$planted"; then
    part "$tool" 60 "${command[@]}" "$program" "$tests"
  elif grep -qiE 'not supported|unable to|failed to initialize|error: .*attach' "$planted"; then
    say "$tool" "not run" "$(grep -iE 'not supported|unable|failed|error' "$planted" | head -n 1)"
  elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
    say "$tool" failed "cut off after 30 s at the planted bug '$bug'; $planted"
  else
    say "$tool" failed "did not find the planted bug '$bug'; $planted"
  fi
}
# The rows of the table that are not big: forward in f32, backward in f64; attention in bf16.
small_rows="device: a NaN in the input*,device: a second backward*,device attention*"
# A call of the driver that fails where it may, as a query does, is no fault.
sanitize memcheck "write past the end" "Invalid __global__ write" "$small_rows" --report-api-errors no
sanitize racecheck "missing barrier in a block's sum" "Race reported" "$small_rows"
sanitize synccheck "barriers on two lines" "Barrier error" "$small_rows"
# Without matrix products: what NVIDIA's kernels write would not be seen.
sanitize initcheck uninitialized "Uninitialized __global__" "device: clip_by*,device: convert*,device attention*"
finish
