#!/usr/bin/env bash
# Installs what is missing, builds, trains words-to-phonemes on CMUdict, and shows the model on words that it has never seen.
# Arguments go to `seq2seq train` (see `build/release/examples/seq2seq/seq2seq train --help`). Results are on stdout, all else on stderr.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=$PWD
build=$here/build/release

bash examples/seq2seq/install.sh
if [ ! -f "$build/build.ninja" ]; then
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_TESTS=OFF -DLIBTRAIN_BENCH=OFF >&2
fi
cmake --build "$build" --target seq2seq >&2

program=$build/examples/seq2seq/seq2seq
blas=$(ldd "$program" | awk '/blas/ { print $3; exit }')
blas=$(readlink -f "$blas")
echo "BLAS    $blas" >&2
if [[ $blas == */blas/libblas.so* ]]; then
  echo "run.sh: this is the reference BLAS, ten to fifty times slower than it need be. Install OpenBLAS and rebuild:" >&2
  echo "  apt-get install libopenblas-openmp-dev && rm -r '$build' && bash examples/seq2seq/run.sh" >&2
  exit 2
fi

arguments=("$@")
case " $* " in *" --out "* | *" --out="*) ;; *)
  rm -rf "$build/quick_run"  # the quick run starts anew each time
  arguments+=(--out "$build/quick_run")
  ;;
esac
exec "$program" train "${arguments[@]}"
