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
lacked=0
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

install="bash examples/seq2seq/install.sh catch2 python3 installs what libtrain is built with"

# find_device: names it, or exits
find_device() {
  local tool line missing= which=()
  for tool in nvcc cmake ninja python3 nvidia-smi; do
    command -v $tool >/dev/null || missing+=" $tool"
  done
  [ -z "$missing" ] || refuse "not here:$missing; $install, nvcc comes with CUDA's toolkit, nvidia-smi with its driver"
  export CUDA_DEVICE_ORDER=PCI_BUS_ID  # CUDA's first device is then the first that nvidia-smi names
  [ -z "${CUDA_VISIBLE_DEVICES-}" ] || which=(-i "${CUDA_VISIBLE_DEVICES%%,*}")
  within 20 "$results/nvidia-smi.log" "$results/nvidia-smi.log" nvidia-smi "${which[@]}" --format=csv,noheader \
    --query-gpu=compute_cap,name,driver_version,clocks.max.sm,power.limit
  line=$(grep -m 1 -E '^[0-9]+\.[0-9]+, ' "$results/nvidia-smi.log") ||
    refuse "nvidia-smi names no device: $(told "$results/nvidia-smi.log"); tests/run.sh needs none"
  capability=${line%%,*}
  capability=${capability/./}
  device=$(json "${line#*, }")
  echo "device: $device"
}

# json TEXT: as it stands between quotes; printable ASCII alone, for a line of a log may hold anything, JSON may not
json() {
  local text
  text=$(LC_ALL=C tr -cd '[:print:]' <<<"$1")
  text=${text//\\/\\\\}
  echo "${text//\"/\\\"}"
}

# say NAME passed|failed|"not run" REMARK
say() {
  parts+=("{\"part\":\"$1\",\"outcome\":\"$2\",\"remark\":\"$(json "$3")\"}")
  echo "$1: $2 ${3:+($3)}"
  [ "$2" != failed ] || failed=1
}

# enough NAME SECONDS: whether so many are left for part NAME; says it if not
enough() {
  [ $((limit - SECONDS)) -lt "$2" ] || return 0
  say "$1" "not run" "less than $2 s of $limit left"
  lacked=1
  return 1
}

# told LOG: its first error with the line below it, where CMake's say what, and its last line
told() {
  local error last
  error=$(grep -m 1 -A 1 -E 'CMake Error|[Ee]rror ?:|ptxas fatal|undefined reference|^failed' "$1" | cut -c 1-200)
  last=$(grep -v '^ *$' "$1" | tail -n 1 | cut -c 1-200)
  [[ $error == *"$last" ]] || error+=${error:+; }$last
  tr -s ' \n' ' ' <<<"${error:-it printed nothing}" | sed 's/ $//'
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

# part NAME SECONDS COMMAND…: runs it, keeps what it prints in NAME.log, or its standard output in $output if set
part() {
  local name=$1 seconds=$2 began=$SECONDS status=0 log=$results/$1.log left=$((limit - SECONDS)) took ended
  shift 2
  enough "$name" 5 || return
  [ "$seconds" -le $left ] || seconds=$left
  within "$seconds" "${output:-$log}" "$log" "$@" || status=$?
  took=$((SECONDS - began))
  if [ $status -eq 0 ]; then
    say "$name" passed "$took s"
    return
  fi
  ended="status $status"
  if [ $status -eq 124 ] || { [ $status -eq 137 ] && [ $took -ge "$seconds" ]; }; then  # timeout's
    ended="cut off"
    if [ "$name" = build ] || [ "$seconds" -eq $left ]; then lacked=1; fi
  fi
  say "$name" failed "$ended after $took s: $(told "$log"); $log"
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
  [ $lacked = 0 ] || echo "$script/gpu.sh: not everything had the time; run it again, the build is kept"
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
  part configure 60 cmake -S . -B "$build" -G Ninja "${options[@]}" || { echo "$install"; finish; }
  part build 300 cmake --build "$build" --target "$@" || finish
}
