// Shapes    As kernels/gemm.h. cuBLASLt counts columns first, so it sees every matrix transposed and the operands change places:
//           c^T [n, m] = op(b)^T op(a)^T, with the bias along the rows of c^T. Batches: the same strides, one call.
// Mapping   cuBLASLt's, by its heuristic: the first algorithm that sums in a fixed order (no split of k but through the workspace).
//           Found once for each shape, alignment and epilogue, then kept: the same call always runs the same algorithm. With
//           LIBTRAIN_TUNE_GEMM=1 the quickest of the heuristic's first candidates, timed once and stored (gemm_tuning.cu).
// Traffic   Each operand once from memory; bound by the tensor cores for m, n, k in the hundreds.
//           Sums of op(a)'s rows come from the product's epilogue, or, where cuBLASLt has none that does this (or they are added to), from
//           column_sum.cu, which reads a again.
// Numerics  bf16 operands: products and sums in f32. f32: in f32, or with TF32 operands (10 bits of fraction) where
//           set_gemm_tf32 allows it. f64: in f64. Rounded once; the bias is added and the activation applied before
//           that, but for shapes without such an epilogue (gemm_ends.cu).
// Source    NVIDIA, cuBLAS 13 documentation, chapter "Using the cuBLASLt API".
// Measured  docs/kernels.md.
#include "kernels/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/column_sum.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm_ends.h"
#include "kernels/cuda/native/first_device.h"
#include "kernels/cuda/native/gemm_tuning.h"

namespace libtrain::kernels {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t(32) << 20;  // what cuBLASLt wants on Hopper
constexpr int kTimedCandidates = 16;                    // of one product, where they are timed

std::atomic<bool>& tf32_allowed() {
  static std::atomic<bool> allowed{false};
  return allowed;
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Failure(std::string("[gemm] ") + call + " failed: " + cublasLtGetStatusName(status) + ", " +
                cublasLtGetStatusString(status));
}

cublasLtHandle_t handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made;
    check(cublasLtCreate(&made), "cublasLtCreate");
    return made;
  }();
  return handle;
}

template <class T> constexpr cudaDataType_t kType = CUDA_R_32F;
template <> constexpr cudaDataType_t kType<bf16> = CUDA_R_16BF;
template <> constexpr cudaDataType_t kType<double> = CUDA_R_64F;

/// One of cuBLASLt's descriptions, destroyed with its scope.
template <class Handle, cublasStatus_t (*destroy)(Handle)> struct Owned {
  Handle value = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  ~Owned() {
    if (value) destroy(value);
  }
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class V> void set(const Operation& to, cublasLtMatmulDescAttributes_t what, V value) {
  check(cublasLtMatmulDescSetAttribute(to.value, what, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
}
template <class V> void set(const Preference& to, cublasLtMatmulPreferenceAttributes_t what, V value) {
  check(cublasLtMatmulPreferenceSetAttribute(to.value, what, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

/// Of all matrices of a batch.
uint32_t alignment_of(const void* pointer, int64_t stride_bytes = 0) {
  const auto bits = reinterpret_cast<uintptr_t>(pointer) | uintptr_t(stride_bytes);
  return uint32_t(std::min<uintptr_t>(bits & -bits, 256));
}

/// A product as cuBLASLt is asked for it: the descriptions, and what they depend on as the key of the algorithm.
template <class In, class Out> struct Call {
  Operation operation;
  Layout first, second, result;        // op(b)^T, op(a)^T, c^T
  uint32_t align_a, align_b, align_c;  // of every product's
  GemmChoices::Key key;
};

template <class In> cublasComputeType_t compute_type() {
  if (std::is_same_v<In, double>) return CUBLAS_COMPUTE_64F;
  return std::is_same_v<In, float> && tf32_allowed() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

template <class V> void set(const Layout& to, cublasLtMatrixLayoutAttribute_t what, V value) {
  check(cublasLtMatrixLayoutSetAttribute(to.value, what, &value, sizeof value), "cublasLtMatrixLayoutSetAttribute");
}

void make_layout(Layout& layout, cudaDataType_t type, int64_t rows, int64_t columns, int64_t count, int64_t stride) {
  check(cublasLtMatrixLayoutCreate(&layout.value, type, uint64_t(columns), uint64_t(rows), columns),
        "cublasLtMatrixLayoutCreate");
  if (count == 1) return;
  set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t(count));
  set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
}

cublasLtEpilogue_t epilogue(GemmActivation activation, bool with_bias, bool with_sums) {
  if (with_sums) return CUBLASLT_EPILOGUE_BGRADB;  // cuBLASLt's second operand is our a
  switch (activation) {
    case GemmActivation::kRelu:
      return with_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case GemmActivation::kGeluTanh:
      return with_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case GemmActivation::kNone:
      break;
  }
  return with_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/// The product alone, or `complete` with bias and activation, or with sums, which are not added to.
template <class In, class Out> void describe(const Gemm<In, Out>& g, bool complete, Call<In, Out>& call) {
  const bool with_bias = complete && g.bias, with_sums = complete && g.sums;
  const GemmActivation activation = complete ? g.activation : GemmActivation::kNone;
  const cublasComputeType_t compute = compute_type<In>();
  check(cublasLtMatmulDescCreate(&call.operation.value, compute, kType<accum_t<In>>), "cublasLtMatmulDescCreate");
  set(call.operation, CUBLASLT_MATMUL_DESC_TRANSA, g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(call.operation, CUBLASLT_MATMUL_DESC_TRANSB, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(call.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(activation, with_bias, with_sums));
  if (with_bias) {
    set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(g.bias.data));
    set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, kType<In>);
    if (g.batch.count > 1) set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, g.batch.bias);
  } else if (with_sums) {
    set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(g.sums.data));
    set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, kType<accum_t<In>>);
    if (g.batch.count > 1) set(call.operation, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, g.batch.sums);
  }
  const GemmBatch& batch = g.batch;
  make_layout(call.first, kType<In>, g.b.dims[0], g.b.dims[1], batch.count, batch.b);
  make_layout(call.second, kType<In>, g.a.dims[0], g.a.dims[1], batch.count, batch.a);
  make_layout(call.result, kType<Out>, g.m(), g.n(), batch.count, batch.c);
  const auto in_batch = [&](int64_t stride) { return batch.count == 1 ? 0 : stride; };
  call.align_a = alignment_of(g.a.data, in_batch(batch.a) * int64_t(sizeof(In)));
  call.align_b = alignment_of(g.b.data, in_batch(batch.b) * int64_t(sizeof(In)));
  call.align_c = alignment_of(g.c.data, in_batch(batch.c) * int64_t(sizeof(Out)));
  call.key = {kType<In>,
              kType<Out>,
              compute,
              g.m(),
              g.n(),
              g.k(),
              g.transpose_a,
              g.transpose_b,
              epilogue(activation, with_bias, with_sums),
              call.align_a,
              call.align_b,
              std::min({call.align_c, with_bias ? alignment_of(g.bias.data) : 256u,
                        with_sums ? alignment_of(g.sums.data) : 256u}),
              batch.count,
              in_batch(batch.a),
              in_batch(batch.b),
              in_batch(batch.c),
              with_bias ? in_batch(batch.bias) : 0,
              with_sums ? in_batch(batch.sums) : 0};
}

/// Up to `most` algorithms that sum in a fixed order, the heuristic's best first.
template <class In, class Out> std::vector<cublasLtMatmulAlgo_t> ask(const Call<In, Out>& call, int most) {
  Preference preference;
  check(cublasLtMatmulPreferenceCreate(&preference.value), "cublasLtMatmulPreferenceCreate");
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspaceBytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, call.align_b);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, call.align_a);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, call.align_c);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, call.align_c);
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle(), call.operation.value, call.first.value,
                                                               call.second.value, call.result.value, call.result.value,
                                                               preference.value, most, results.data(), &count);
  // A combination of types that an epilogue does not know is no value at all.
  const bool unknown = status == CUBLAS_STATUS_NOT_SUPPORTED ||
                       (status == CUBLAS_STATUS_INVALID_VALUE && call.key[8] != CUBLASLT_EPILOGUE_DEFAULT);
  if (!unknown) check(status, "cublasLtMatmulAlgoGetHeuristic");
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i)
    if (results[size_t(i)].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(results[size_t(i)].algo);
  return algorithms;
}

/// Held while an algorithm is chosen: products of all types share what was timed.
std::mutex& choosing() {
  static std::mutex mutex;
  return mutex;
}

/// None when cuBLASLt has none for this.
template <class In, class Out>
std::optional<cublasLtMatmulAlgo_t> algorithm_for(const Call<In, Out>& call, const DescribedGemm& product) {
  static std::map<GemmChoices::Key, std::optional<cublasLtMatmulAlgo_t>> known;
  const std::lock_guard lock(choosing());
  if (const auto place = known.find(call.key); place != known.end()) return place->second;
  const bool timed = may_tune(product.stream);
  const auto candidates = ask(call, timed ? kTimedCandidates : 1);
  std::optional<cublasLtMatmulAlgo_t> choice;
  if (!candidates.empty()) choice = timed ? tuned(product, call.key, candidates) : candidates.front();
  return known[call.key] = choice;
}

/// Whether vectors of an epilogue lie where kernels of cuBLASLt that read 16 bytes at a time may fault: the heuristic is said to look, but others
/// report that it picks such kernels all the same.
template <class T> bool is_odd(const T* data, int64_t stride) {
  return data && alignment_of(data, stride * int64_t(sizeof(T))) < 16;
}

/// False, with nothing done, when cuBLASLt has no algorithm for this.
template <class In, class Out> bool multiply(Cuda where, const Gemm<In, Out>& g, bool complete, bool accumulate) {
  using A = accum_t<In>;
  if (complete && std::is_same_v<In, double> && (g.sums || g.activation != GemmActivation::kNone)) return false;
  if (complete && (is_odd(g.bias.data, g.batch.bias) || is_odd(g.sums.data, g.batch.sums))) return false;
  runtime::require_first_device();
  Call<In, Out> call;
  describe(g, complete, call);
  const A one = 1, beta = accumulate ? 1 : 0;
  const int64_t results = (g.batch.count - 1) * g.batch.c + g.m() * g.n();
  const DescribedGemm product{.handle = handle(),
                              .operation = call.operation.value,
                              .first = call.first.value,
                              .second = call.second.value,
                              .result = call.result.value,
                              .alpha = &one,
                              .beta = &beta,
                              .first_data = g.b.data,
                              .second_data = g.a.data,
                              .result_data = g.c.data,
                              .result_bytes = results * int64_t(sizeof(Out)),
                              .workspace = g.workspace.data,
                              .workspace_bytes = size_t(g.workspace.size()) * sizeof(A),
                              .stream = where.stream};
  const auto algorithm = algorithm_for(call, product);
  if (!algorithm) return false;
  runtime::count_launch("gemm");
  check(product.run(*algorithm, product.result_data), "cublasLtMatmul");
  return true;
}

/// sums (+)= op(a)'s rows, where the product could not do that itself.
template <class In, class Out> void sum_rows(Cuda where, const Gemm<In, Out>& g) {
  for (int64_t i = 0; i < g.batch.count; ++i)
    column_sum(where, ColumnSum<In>{{g.a.data + i * g.batch.a, g.a.dims},
                                    {g.sums.data + i * g.batch.sums, g.sums.accumulate},
                                    g.workspace});
}

template <class In, class Out> [[noreturn]] void throw_unsupported(const Gemm<In, Out>& g) {
  throw Failure("[gemm] cuBLASLt has no algorithm for m " + std::to_string(g.m()) + ", n " + std::to_string(g.n()) +
                ", k " + std::to_string(g.k()) + ", " + std::to_string(g.batch.count) + " of them" +
                (g.transpose_a ? ", a transposed" : "") + (g.transpose_b ? ", b transposed" : ""));
}

}  // namespace

void set_gemm_tf32(bool allowed) { tf32_allowed() = allowed; }

template <class In, class Out> int64_t gemm_workspace(Cuda, const Gemm<In, Out>& g) {
  return g.m() && g.n() && g.k() ? kWorkspaceBytes / int64_t(sizeof(accum_t<In>)) : 0;
}

template <class In, class Out> void gemm(Cuda where, const Gemm<In, Out>& g) {
  if (g.m() == 0 || g.n() == 0 || g.batch.count == 0) return;
  if (g.sums) {
    if (!g.sums.accumulate && multiply(where, g, true, g.c.accumulate)) return;
    if (!multiply(where, g, false, g.c.accumulate)) throw_unsupported(g);
    return sum_rows(where, g);
  }
  if (g.k() > 0) {
    if (multiply(where, g, true, g.c.accumulate)) return;
    // No such epilogue for this shape: the bias first, the product on top of it, the activation last.
    if (g.bias) start_products(where, g);
    const bool split = g.bias || g.activation != GemmActivation::kNone;
    if (!split || !multiply(where, g, false, g.c.accumulate || g.bias)) throw_unsupported(g);
  } else {
    start_products(where, g);
  }
  activate_products(where, g);
}

#define INSTANTIATE(In, Out)                                            \
  template int64_t gemm_workspace<In, Out>(Cuda, const Gemm<In, Out>&); \
  template void gemm<In, Out>(Cuda, const Gemm<In, Out>&);
INSTANTIATE(float, float)
INSTANTIATE(double, double)
INSTANTIATE(bf16, bf16)
INSTANTIATE(bf16, float)

}  // namespace libtrain::kernels
