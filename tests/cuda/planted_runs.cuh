/// How kernels with planted bugs are started.
#pragma once
#include "kernels/cuda/common.cuh"
#include "tests/cuda/planted_bugs.h"

namespace libtrain::kernels::planted {

constexpr int kThreads = 128;

/// One block of `kThreads` threads, on x and y.
template <auto bug, auto right> void run(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, kThreads, kThreads * sizeof(float)}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_warp(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, 32}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_blocks(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {4, kThreads}, planted ? bug : right, x, y);
}
template <auto bug, auto right> void run_counted(Cuda where, bool planted, float* x, float* y) {
  launch(where, "planted", {1, kThreads}, planted ? bug : right, x, y, kCount);
}

}  // namespace libtrain::kernels::planted

#define BOTH(run, kernel) run<kernel<true>, kernel<false>>
