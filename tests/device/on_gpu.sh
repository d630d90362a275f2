# shellcheck shell=bash
# Sourced by tests/gpu.sh and bench/gpu.sh, from the root of the project: builds for this machine's GPU, runs parts within a time limit and keeps
# what each came to. Sets build, results, device, capability (90 is Hopper); the caller sets `limit`, the seconds for everything.
export PATH=$PATH:/usr/local/cuda/bin
build=${build:-$PWD/build-gpu}
results=${OUT:-$build/results}
mkdir -p "$results"
results=$(realpath "$results")
parts=()
failed=0

# find_device: names it, or exits
find_device() {
  local tool
  for tool in nvcc cmake ninja nvidia-smi; do
    command -v $tool >/dev/null || { echo "gpu.sh: $tool is not here" >&2; exit 2; }
  done
  device=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader | head -n 1)
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  if [ -z "$device" ] || [ -z "$capability" ]; then echo "gpu.sh: nvidia-smi names no device" >&2; exit 2; fi
  echo "device: $device"
}

# say NAME passed|failed|"not run" REMARK   (printable ASCII of it: a line of a log may hold anything, JSON may not)
say() {
  local remark
  remark=$(LC_ALL=C tr -cd '[:print:]' <<<"$3")
  remark=${remark//\\/\\\\}
  remark=${remark//\"/\\\"}
  parts+=("{\"part\":\"$1\",\"outcome\":\"$2\",\"remark\":\"$remark\"}")
  echo "$1: $2 ${3:+($3)}"
  [ "$2" != failed ] || failed=1
}

# part NAME SECONDS COMMAND…: runs it, keeps what it prints in NAME.log, or its standard output in $output where that is set
part() {
  local name=$1 seconds=$2 began=$SECONDS status=0 to=${output:-$results/$1.log} left=$((limit - SECONDS)) run
  shift 2
  if [ $left -lt 5 ]; then say "$name" "not run" "no time left of $limit s"; return 1; fi
  run=(timeout -k 5 $((seconds < left ? seconds : left)) "$@")
  if [ "$to" = "$results/$name.log" ]; then
    "${run[@]}" >"$to" 2>&1 || status=$?
  else
    "${run[@]}" >"$to" 2>"$results/$name.log" || status=$?
  fi
  if [ $status -eq 0 ]; then
    say "$name" passed "$((SECONDS - began)) s"
  else
    say "$name" failed "status $status after $((SECONDS - began)) s; $(grep -v '^ *$' "$results/$name.log" | tail -n 1 | cut -c 1-200)"
  fi
  return $status
}

# finish: writes results.json, packs the results into one file and exits
finish() {
  local IFS=,
  printf '{"device":"%s","cuda":"%s","commit":"%s","date":"%s","parts":[%s]}\n' "$device" \
    "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')" "$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$(date -u +%FT%TZ)" "${parts[*]}" >"$results/results.json"
  tar -czf "$results.tar.gz" -C "${results%/*}" "${results##*/}"
  echo "results: $results/results.json, all in $results.tar.gz"
  exit $failed
}

# build_for_device DEPENDENCIES TARGET…: DEPENDENCIES is a folder of unpacked Debian packages, or empty
build_for_device() {
  local dependencies=$1
  shift
  options=(-DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$capability-real" -DLIBTRAIN_EXAMPLES=OFF
    -DLIBTRAIN_INSTALL=OFF -DCMAKE_CUDA_FLAGS=-Xptxas=-v
    "-DCMAKE_CUDA_COMPILER_LAUNCHER=$PWD/tests/device/keep_ptxas_report.sh")
  if [ -n "$dependencies" ]; then
    options+=("-DCMAKE_PREFIX_PATH=$dependencies/usr" "-DCMAKE_INCLUDE_PATH=$dependencies/usr/include"
      "-DBLAS_LIBRARIES=$(find "$dependencies" -name 'libopenblas*.so*' | sort | head -n 1)")
    LD_LIBRARY_PATH=$(find "$dependencies" -name '*.so*' -printf '%h\n' | sort -u | paste -s -d :):${LD_LIBRARY_PATH:-}
    export LD_LIBRARY_PATH
  fi
  part configure 60 cmake -S . -B "$build" -G Ninja "${options[@]}" || finish
  part build 300 cmake --build "$build" --target "$@" || finish
}
