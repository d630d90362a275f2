#!/usr/bin/env bash
# Measures libtrain on this machine's GPU, within 9 minutes:
#   gpu.sh [DEPENDENCIES]   DEPENDENCIES, and what is needed: as tests/gpu.sh says
#   gpu.sh --small BUILD    that it would run: on the executed device of the build folder BUILD
#
# PYTHON names a Python that has PyTorch with CUDA (default python3); without one the comparison is not run. Writes to
# results-bench in $OUT, or in build-gpu (or BUILD), which it clears of an earlier run's:
#   results.json   device, commit, and for each part whether it passed, failed, or was not run and why
#   bench.jsonl    gpu_bench: kernels and steps with their share of the roofs of the same process
#   tuned.jsonl    the steps and products again, with cuBLASLt's algorithms chosen by timing
#   table.json     predicted and measured, a row a case; table.md: the table of docs/performance.md
#   compare-*.log  libtrain against PyTorch; *.log: what each part printed
# and all of it to one file beside that folder, results-bench.tar.gz. The exit status is 0 when nothing failed, 2 when
# nothing was begun. A part that takes longer than it may is cut off and has failed; a comparison is begun only where
# the time it may take is left. torch.compile is taken in mode reduce-overhead: max-autotune had not compiled one shape
# in 466 s (bench/compare_pytorch.py --variants compile --only 0).
set -uo pipefail
script=bench
limit=540
source "$(dirname "${BASH_SOURCE[0]}")/../tests/device/on_gpu.sh"
small=()
if [ "${1-}" = --small ]; then
  [ $# -eq 2 ] || refuse "--small takes a build folder"
  small=(--small)
  folder build "$2"
  [ -x "$build/bench/gpu_bench" ] || refuse "no gpu_bench in $build; cmake --build $build --target gpu_bench makes it"
else
  read_dependencies "$@"
fi
python=${PYTHON:-python3}
case $python in /*) ;; */*) python=$PWD/$python ;; esac  # begin goes elsewhere
begin

# measure NAME SECONDS ARGUMENT…: gpu_bench into NAME.jsonl
measure() {
  local name=$1 seconds=$2
  shift 2
  output=$results/$name.jsonl part "$name" "$seconds" "$build/bench/gpu_bench" "${small[@]}" "$@"
}
# table NAME: of NAME.jsonl
table() {
  output=$results/table.md part table 20 \
    python3 bench/gpu_table.py --bench "$results/$1.jsonl" --json "$results/table.json"
}
# tuned FILTER: appends to tuned.jsonl
tuned() {
  LIBTRAIN_TUNE_GEMM=1 LIBTRAIN_CACHE=$results/choices measure "tuned-$1" 90 --filter "$1" || return
  cat "$results/tuned-$1.jsonl" >>"$results/tuned.jsonl"
}
# has_torch NAME: whether $python has PyTorch to compare with; says of part NAME if not. Asked once: imports take long
no_torch=unknown
has_torch() {
  local log=$results/torch.log
  if [ "$no_torch" = unknown ]; then
    no_torch=
    within 60 "$log" "$log" "$python" -c \
      'import sys, torch; torch.cuda.is_available() or sys.exit("it finds no CUDA device")' ||
      no_torch="no PyTorch with CUDA in $python: $(told "$log"); PYTHON names one that has it"
  fi
  [ -n "$no_torch" ] || return 0
  say "$1" "not run" "$no_torch"
  return 1
}
# compare NAME CONFIG SECONDS PROCESS VARIANTS OPTION…: libtrain against PyTorch; each process may take PROCESS
# seconds, so that what the others gave is told where one hangs
compare() {
  local name=compare-$1 config=$2 seconds=$3 process=$4 variants=$5
  shift 5
  if [ ${#small[@]} -gt 0 ]; then say "$name" "not run" "PyTorch has no executed device"; return; fi
  if ! enough "$name" "$seconds" || ! has_torch "$name" || ! enough "$name" "$seconds"; then return; fi
  part "$name" "$seconds" "$python" bench/compare_pytorch.py --device cuda --configs "$config" --variants "$variants" \
    --python "$python" --libtrain "$build/bench/train_step_bench" --timeout "$process" "$@"
}

if [ ${#small[@]} -gt 0 ]; then
  device="executed on the CPU"
else
  find_device
  build_for_device gpu_bench train_step_bench
fi
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$build/inductor}  # so that a second run compiles less
# What matters most comes first.
measure bench 150
table bench
compare base base 100 50 eager,packed --rounds 2
compare base-quick base 120 85 compile-quick --only 0 --rounds 1  # each shape is compiled anew
compare big big 100 50 eager,packed --rounds 2
compare big-quick big 160 125 compile-quick --only 0 --rounds 1
tuned step
[ ${#small[@]} -gt 0 ] || tuned linear
finish
