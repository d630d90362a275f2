#!/usr/bin/env bash
# Installs what is missing, builds, trains words-to-phonemes on CMUdict, and shows the model on words that it has never seen.
# Arguments go to `seq2seq train`; `run.sh --help` lists them. Results are on stdout, all else on stderr.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
small=()  # arguments that come before those of the user

# On a GPU where this machine has one, and CUDA's compiler; else on the CPU.
export PATH=$PATH:/usr/local/cuda/bin
gpu=no
if nvidia-smi -L >/dev/null 2>&1; then gpu=yes; fi
if [ $gpu = yes ] && command -v nvcc >/dev/null; then
  build=$here/build/cuda
  cuda=(-DLIBTRAIN_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native)
elif [ $gpu = no ] && [[ " $* " == *" --device cuda "* || " $* " == *" --device=cuda "* ]]; then
  build=$here/build/executed
  cuda=(-DLIBTRAIN_CUDA=EXECUTED)
  echo "run.sh: there is no GPU here. The CUDA kernels are executed on the CPU instead, thread by thread: that shows that they work," >&2
  echo "and is thousands of times slower." >&2
  if [ $# -le 2 ]; then  # nothing but --device cuda
    echo "run.sh: so a small model trains on a few hundred words, which teaches it little; give options of your own for more." >&2
    mkdir -p "$build"
    pairs() { awk -v every="$1" -v first="$2" '!/\(/ && NR % every == first { word = $1; $1 = ""; print word "\t" substr($0, 2) }' \
      "$here/examples/seq2seq/data/cmudict-en-us.dict"; }
    pairs 300 1 >"$build/small_train.tsv"
    pairs 3000 2 >"$build/small_test.tsv"
    small=(--train "$build/small_train.tsv" --test "$build/small_test.tsv" --target-tokens words --size 32 --feed-forward 64 --heads 2
      --encoder-layers 1 --decoder-layers 1 --batch-pairs 16 --epochs 1)
  fi
else
  build=$here/build/release
  cuda=(-DLIBTRAIN_CUDA=OFF)
fi
program=$build/examples/seq2seq/seq2seq

bash "$here/examples/seq2seq/install.sh"
if [ ! -f "$build/build.ninja" ]; then
  cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${cuda[@]}" -DLIBTRAIN_TESTS=OFF -DLIBTRAIN_BENCH=OFF >&2
fi
cmake --build "$build" --target seq2seq >&2

# Where there is no AVX2, BLAS does the products. The reference BLAS is ten to fifty times slower than it need be.
blas=$(ldd "$program" | awk '/blas/ { print $3; exit }')
if [ -n "$blas" ]; then blas=$(readlink -f "$blas"); fi
flags=$(grep -m 1 '^flags' /proc/cpuinfo || true)
if [[ ("$flags " != *" avx2 "* || "${LIBTRAIN_ISA:-}" == baseline) && $blas == */blas/libblas.so* ]]; then
  {
    echo "run.sh: $blas is the reference BLAS, too slow to train with. Install OpenBLAS, or choose it where it is there already:"
    echo "  apt-get install libopenblas-openmp-dev"
    echo "  update-alternatives --config libblas.so.3-$(uname -m)-linux-gnu"
  } >&2
  exit 2
fi

# GCC's OpenMP lets a thread that waits keep its core for milliseconds. Where other programs want the cores too, that made training
# four times slower (docs/guide.md, "Cores that others use too"); some microseconds are enough.
if [ -z "${OMP_WAIT_POLICY:-}" ]; then export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"; fi

# Without --out, each run starts anew; the one before it is kept.
out=$build/quick_run
arguments=("${small[@]}" "$@")
case " $* " in
  *" --out "* | *" --out="* | *" --help "* | *" -h "*) ;;
  *" --resume "*) arguments+=(--out "$out") ;;
  *)
    if [ -e "$out" ]; then rm -rf "$out.before" && mv "$out" "$out.before"; fi
    arguments+=(--out "$out")
    ;;
esac
exec "$program" train "${arguments[@]}"
