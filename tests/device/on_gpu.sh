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

# within SECONDS OUTPUT ERRORS COMMAND…: as timeout has it, but a signal to this script is heard at once, and the command
# leaves no process behind. Writes to the files OUTPUT and ERRORS, which may be one.
within() {
  local status=0 pid
  : >"$2" >"$3"
  timeout -k 5 "$1" "${@:4}" >>"$2" 2>>"$3" &
  pid=$!
  wait "$pid" 2>/dev/null || status=$?
  kill -KILL -- "-$pid" 2>/dev/null  # timeout leads a group of its own
  return $status
}

interrupted() {
  local pid
  trap '' INT TERM HUP
  pid=$(jobs -p)
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null  # timeout passes it on, and kills what has not ended in 5 s
    wait "$pid" 2>/dev/null
    kill -KILL -- "-$pid" 2>/dev/null
  fi
  say interrupted failed "after $SECONDS s"
  finish
}
trap interrupted INT TERM HUP

# part NAME SECONDS COMMAND…: runs it, keeps what it prints in NAME.log, or its standard output in $output where that is set
part() {
  local name=$1 seconds=$2 began=$SECONDS status=0 log=$results/$1.log left=$((limit - SECONDS))
  shift 2
  if [ $left -lt 5 ]; then say "$name" "not run" "no time left of $limit s"; return 1; fi
  within $((seconds < left ? seconds : left)) "${output:-$log}" "$log" "$@" || status=$?
  if [ $status -eq 0 ]; then
    say "$name" passed "$((SECONDS - began)) s"
  else
    say "$name" failed "status $status after $((SECONDS - began)) s; $(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-200)"
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
