# shellcheck shell=bash
# Sourced by tests/gpu.sh and bench/gpu.sh: builds for this machine's GPU, runs parts within a time limit and keeps what
# each came to. The caller sets `script`, its folder, and `limit`, the seconds for everything; it reads its arguments
# and calls begin. Sets root, build, dependencies, results, device, capability (90 is Hopper).
# shellcheck disable=SC2154
export PATH=$PATH:/usr/local/cuda/bin
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
build=$root/build-gpu
dependencies=
output=
device=
parts=()
failed=0
SECONDS=0

# refuse TEXT: before anything is begun
refuse() {
  echo "$script/gpu.sh: $1" >&2
  exit 2
}

# folder VARIABLE PATH
folder() {
  [ -d "$2" ] || refuse "there is no folder $2"
  printf -v "$1" %s "$(realpath "$2")"
}

# read_dependencies [FOLDER]: what both scripts take
read_dependencies() {
  case ${1-} in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$root/$script/gpu.sh"  # what its head says
      exit 0
      ;;
    -*) refuse "unknown option $1; --help tells what there is" ;;
    ?*) folder dependencies "$1" ;;
  esac
  [ $# -le 1 ] || refuse "one argument too many: $2; --help tells what there is"
}

# begin: makes the folder of results, clears it of an earlier run's, and goes to the root of the project
begin() {
  results=${OUT:-$build}/results-$script
  if ! mkdir -p "$results" || ! [ -w "$results" ]; then refuse "cannot write to $results; OUT names another place"; fi
  results=$(realpath "$results")
  rm -f "$results"/{results.json,table.json,table.md,fragments.txt} "$results"/*.{log,jsonl} "$results.tar.gz"
  cd "$root" || exit 2
  trap interrupted INT TERM HUP
}

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

# within SECONDS OUTPUT ERRORS COMMAND…: as timeout has it, but a signal to this script is heard at once, and the
# command leaves no process behind. Writes to the files OUTPUT and ERRORS, which may be one.
within() {
  local status=0 pid
  : >"$2"
  : >"$3"
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

# part NAME SECONDS COMMAND…: runs it, keeps what it prints in NAME.log, or its standard output in $output if that is set
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

# commit: what is measured, with "-dirty" where it differs from that; also where the sources are another user's
commit() {
  git -c safe.directory="$root" describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown
}

# finish: writes results.json, packs the results into one file and exits
finish() {
  local IFS=,
  printf '{"device":"%s","cuda":"%s","commit":"%s","date":"%s","parts":[%s]}\n' "$device" \
    "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')" "$(commit)" "$(date -u +%FT%TZ)" \
    "${parts[*]}" >"$results/results.json"
  tar -czf "$results.tar.gz" -C "$(dirname "$results")" "results-$script"
  echo "results: $results/results.json, all in $results.tar.gz"
  exit $failed
}

# build_for_device TARGET…: with the unpacked Debian packages in $dependencies, if that is set
build_for_device() {
  local options=(-DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$capability-real"
    -DLIBTRAIN_EXAMPLES=OFF -DLIBTRAIN_INSTALL=OFF -DCMAKE_CUDA_FLAGS=-Xptxas=-v
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
