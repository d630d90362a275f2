/// Finds the algorithm of a product by timing, where LIBTRAIN_TUNE_GEMM asks for it. Of gemm.cu alone.
#pragma once
#include <cublasLt.h>

#include <vector>

#include "kernels/cuda/gemm_choices.h"

namespace libtrain::kernels {

/// A call of cublasLtMatmul but for its algorithm.
struct DescribedGemm {
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t first, second, result;
  const void *alpha, *beta;  // on the host
  const void *first_data, *second_data;
  void* result_data;
  int64_t result_bytes;  // from the first to the last element of all matrices
  void* workspace;
  size_t workspace_bytes;
  cudaStream_t stream;

  cublasStatus_t run(const cublasLtMatmulAlgo_t& algorithm, void* to) const {
    return cublasLtMatmul(handle, operation, alpha, first_data, first, second_data, second, beta, to, result, to,
                          result, &algorithm, workspace, workspace_bytes, stream);
  }
};

/// Whether timing was asked for and the stream may be waited for, which it may not while it is captured.
bool may_tune(cudaStream_t stream);

/// The stored choice; without one, the quickest of `candidates` (the heuristic's first of those that lie within 2 %), which is then stored. Sums
/// in a fixed order only. Waits for the stream. The result is left alone: products are timed into memory of their own, and without enough
/// of it the first candidate is taken and not stored. Throws Failure when the file cannot be written. Not thread-safe.
cublasLtMatmulAlgo_t tuned(const DescribedGemm& product, const GemmChoices::Key& key,
                           const std::vector<cublasLtMatmulAlgo_t>& candidates);

}  // namespace libtrain::kernels
