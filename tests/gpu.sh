#!/usr/bin/env bash
# Proves the CUDA kernels on this machine's GPU and measures them: gpu.sh [DEPENDENCIES]
#
# Needs nvcc, CMake, Ninja and a C++20 compiler, and no package registry: what else libtrain is built with (fmt, nlohmann-json, xxHash,
# Catch2, an OpenMP OpenBLAS) comes from the system or from DEPENDENCIES, a folder of unpacked Debian packages that
# tests/device/fetch_packages.sh makes on a machine that has a registry. Writes to $OUT, or build-gpu/results:
#   results.json   device, commit, and for each part whether it passed, failed, or was not run and why
#   bench.jsonl    gpu_bench: kernels with their share of the roofs
#   *.log          what each part printed
# The exit status is 0 when nothing failed. Within 8 minutes; a part that takes longer is cut off and has failed.
set -uo pipefail
dependencies=${1:-}
[ -z "$dependencies" ] || dependencies=$(realpath "$dependencies")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PATH=$PATH:/usr/local/cuda/bin
build=$PWD/build-gpu
results=${OUT:-$build/results}
mkdir -p "$results"
results=$(realpath "$results")
parts=()
failed=0

for tool in nvcc cmake ninja nvidia-smi; do
  command -v $tool >/dev/null || { echo "gpu.sh: $tool is not here" >&2; exit 2; }
done
device=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader | head -n 1)
[ -n "$device" ] || { echo "gpu.sh: nvidia-smi names no device" >&2; exit 2; }
echo "device: $device"

# say NAME passed|failed|"not run" REMARK
say() {
  local remark=${3//\\/\\\\}
  remark=${remark//\"/\\\"}
  parts+=("{\"part\":\"$1\",\"outcome\":\"$2\",\"remark\":\"$remark\"}")
  echo "$1: $2 ${3:+($3)}"
  [ "$2" != failed ] || failed=1
}
# part NAME SECONDS COMMAND…: runs it, keeps what it prints in NAME.log
part() {
  local name=$1 limit=$2 began=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$results/$name.log" 2>&1 || status=$?
  if [ $status -eq 0 ]; then
    say "$name" passed "$((SECONDS - began)) s"
  else
    say "$name" failed "status $status after $((SECONDS - began)) s; $(grep -v '^ *$' "$results/$name.log" | tail -n 1 | cut -c 1-200)"
  fi
  return $status
}
finish() {
  local IFS=,
  printf '{"device":"%s","cuda":"%s","commit":"%s","date":"%s","parts":[%s]}\n' "$device" \
    "$(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')" "$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$(date -u +%FT%TZ)" "${parts[*]}" >"$results/results.json"
  echo "results: $results/results.json"
  exit $failed
}

# ---- Build -------------------------------------------------------------------------------------------------------------
options=(-DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DLIBTRAIN_EXAMPLES=OFF
  -DLIBTRAIN_INSTALL=OFF -DCMAKE_CUDA_FLAGS=-Xptxas=-v
  "-DCMAKE_CUDA_COMPILER_LAUNCHER=$PWD/tests/device/keep_ptxas_report.sh")
if [ -n "$dependencies" ]; then
  options+=("-DCMAKE_PREFIX_PATH=$dependencies/usr" "-DCMAKE_INCLUDE_PATH=$dependencies/usr/include"
    "-DBLAS_LIBRARIES=$(find "$dependencies" -name 'libopenblas*.so*' | sort | head -n 1)")
  LD_LIBRARY_PATH=$(find "$dependencies" -name '*.so*' -printf '%h\n' | sort -u | paste -s -d :):${LD_LIBRARY_PATH:-}
  export LD_LIBRARY_PATH
fi
part configure 60 cmake -S . -B "$build" -G Ninja "${options[@]}" || finish
part build 300 cmake --build "$build" --target libtrain_device_tests sanitized gpu_bench || finish
part ptxas 20 python3 tests/device/ptxas.py "$build" kernels/cuda/*.cu

# ---- Right -------------------------------------------------------------------------------------------------------------
program=$build/tests/device/libtrain_device_tests
part device_tests 150 "$program" "[device]"
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
if timeout 120 "$build/bench/gpu_bench" >"$results/bench.jsonl" 2>"$results/bench.log"; then
  say bench passed "$(wc -l <"$results/bench.jsonl") lines"
else
  say bench failed "$(tail -n 1 "$results/bench.log")"
fi
finish
