# Sourced by run.sh and soak.sh, from the root of the project: installs what tests need, and builds.
export PATH=$PATH:/usr/local/cuda/bin
build=build-tests

install_test_packages() {
  bash examples/seq2seq/install.sh catch2 libbenchmark-dev ccache python3
  # Without these, CTest lists the tests that need them as skipped.
  bash examples/seq2seq/install.sh clang clang-format doxygen valgrind || echo "${0##*/}: going on without clang, doxygen or valgrind"
}

# configure_and_build FOLDER OPTION…
configure_and_build() {
  local folder=$build/$1 launcher=()
  shift
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLIBTRAIN_WERROR=ON "${launcher[@]}" "$@"
  cmake --build "$folder" --parallel "$(nproc)"
}

# What every test machine can have; run.sh says what is in which.
build_cpu_and_executed() {
  configure_and_build cpu -DLIBTRAIN_CUDA=OFF
  configure_and_build executed -DLIBTRAIN_CUDA=EXECUTED
}
