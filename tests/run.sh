#!/usr/bin/env bash
# Proves the library right: installs what is missing, builds, runs every test. The exit status is CTest's.
#   build-tests/cpu       as users get it without CUDA: everything that is no CUDA kernel
#   build-tests/executed  the CUDA kernels, compiled by the C++ compiler and executed on the CPU: no GPU and no CUDA toolkit needed
#   build-tests/nvcc      the same kernels by nvcc, where there is one: that they compile, link and keep everything in registers
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/build.sh
install_test_packages

build_cpu_and_executed
folders=(cpu executed)
if command -v nvcc >/dev/null; then
  configure_and_build nvcc -DLIBTRAIN_CUDA=ON -DLIBTRAIN_BENCH=OFF -DLIBTRAIN_EXAMPLES=OFF \
    "-DCMAKE_CUDA_ARCHITECTURES=80-real;90a-real" -DCMAKE_CUDA_FLAGS=-Xptxas=-v \
    -DCMAKE_CUDA_COMPILER_LAUNCHER="$PWD/tests/device/keep_ptxas_report.sh"
  folders+=(nvcc)
else
  echo "tests/run.sh: no nvcc here, so that the CUDA kernels are executed but not built for a device"
fi

printf 'subdirs("%s")\n' "${folders[@]}" >$build/CTestTestfile.cmake
export OMP_WAIT_POLICY=passive  # tests run side by side
exec ctest --test-dir $build --output-on-failure -j2
