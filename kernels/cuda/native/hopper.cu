// Tensor maps for TMA. The driver encodes them; it is asked for through the runtime (CUDA 12.5), so that nothing links with libcuda.
#include "kernels/cuda/native/hopper.cuh"

#include <string>

namespace libtrain::kernels::ptx {
namespace {

using Encode = CUresult(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                        const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                        CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

Encode* find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess)
    throw Failure("[cuda] the driver has no cuTensorMapEncodeTiled, which the Hopper kernels need (CUDA 12)");
  return reinterpret_cast<Encode*>(function);
}

}  // namespace

TensorMap tensor_map(const void* data, int64_t rows, int64_t columns, int64_t row_stride, int box_rows,
                     int box_columns) {
  static Encode* const encode = find_encode();
  alignas(16) static char nothing[16];  // of an empty matrix: never read, but maps have an address and a row
  const cuuint64_t dims[] = {cuuint64_t(columns), cuuint64_t(rows > 0 ? rows : 1)};
  const cuuint64_t strides[] = {cuuint64_t(row_stride) * sizeof(bf16)};
  const cuuint32_t box[] = {cuuint32_t(box_columns), cuuint32_t(box_rows)}, steps[] = {1, 1};
  TensorMap result;
  const CUresult status =
      encode(&result.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, rows > 0 ? const_cast<void*>(data) : nothing, dims,
             strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw Failure("[cuda] cuTensorMapEncodeTiled failed with " + std::to_string(int(status)) + " for " +
                  std::to_string(rows) + " rows of " + std::to_string(columns) + ", stride " +
                  std::to_string(row_stride));
  return result;
}

}  // namespace libtrain::kernels::ptx
