// Shapes    Any that gemm.cu describes.
// Mapping   No kernel of its own: runs cuBLASLt's candidates for one product, two to warm up, then five times four in a row between events.
// Traffic   That of 22 products for each candidate, once for each shape and file of choices.
// Numerics  Candidates that sum in a fixed order: no split of k, or one that is added up in the workspace. The result of the product is not
//           touched. Which candidate is quickest is the clock's to say, so two files of choices may give different bits; with one
//           file, a build and a device always give the same.
// Source    NVIDIA, cuBLAS 13 documentation, "cublasLtMatmulAlgo_t", which may be stored for the same version.
// Measured  docs/kernels.md.
#include "kernels/cuda/native/gemm_tuning.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/cuda/runtime.h"

namespace libtrain::kernels {
namespace {

constexpr int kWarmups = 2, kRounds = 5, kRunsOfRound = 4;
constexpr float kSameTime = 1.02f;  // what timing cannot tell apart; then the heuristic's order decides

static_assert(sizeof(GemmChoices::Algorithm) == sizeof(cublasLtMatmulAlgo_t));

/// Everything that stored choices depend on beside the product.
std::string identity() {
  int driver = 0, library = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&library);
  const runtime::DeviceInfo& device = runtime::device_info();
  return device.name + ", sm_" + std::to_string(device.capability) + ", " + std::to_string(device.multiprocessors) +
         " multiprocessors, driver " + std::to_string(driver) + ", runtime " + std::to_string(library) + ", cuBLASLt " +
         std::to_string(cublasLtGetVersion());
}

GemmChoices& choices() {
  static GemmChoices choices(cache_folder(), identity());
  return choices;
}

/// That it runs here, in the workspace that there is, and sums in a fixed order: a file may say anything.
bool is_allowed(const DescribedGemm& g, const cublasLtMatmulAlgo_t& algorithm) {
  uint32_t scheme = 0;
  size_t written = 0;
  const cublasStatus_t asked = cublasLtMatmulAlgoConfigGetAttribute(
      &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written);
  cublasLtMatmulHeuristicResult_t result;
  return asked == CUBLAS_STATUS_SUCCESS &&
         (scheme == CUBLASLT_REDUCTION_SCHEME_NONE || scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) &&
         cublasLtMatmulAlgoCheck(g.handle, g.operation, g.first, g.second, g.result, g.result, &algorithm, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= g.workspace_bytes;
}

/// Memory of the device that is given back with the scope; nullptr when there is not enough.
struct Scratch {
  void* data = nullptr;
  explicit Scratch(int64_t bytes) : data(runtime::allocate_device(bytes)) {}
  ~Scratch() {
    if (data) runtime::free_device(data);
  }
  Scratch(const Scratch&) = delete;
};

struct Timer {
  runtime::Event event = runtime::create_timer();
  Timer() = default;
  ~Timer() { runtime::destroy_event(event); }
  Timer(const Timer&) = delete;
};

/// Milliseconds of the quickest round; infinity for an algorithm that does not run.
double time_of(const DescribedGemm& g, const cublasLtMatmulAlgo_t& algorithm, void* to) {
  for (int i = 0; i < kWarmups; ++i)
    if (g.run(algorithm, to) != CUBLAS_STATUS_SUCCESS) return std::numeric_limits<double>::infinity();
  const Timer from, until;
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    runtime::record(from.event, {g.stream});
    for (int i = 0; i < kRunsOfRound; ++i) g.run(algorithm, to);
    runtime::record(until.event, {g.stream});
    runtime::synchronize(until.event);
    least = std::min(least, runtime::milliseconds_between(from.event, until.event));
  }
  return least;
}

/// The index of the quickest candidate, as tuned() says.
size_t quickest(const DescribedGemm& g, const std::vector<cublasLtMatmulAlgo_t>& candidates, void* to) {
  runtime::fill_bytes(to, 0, size_t(g.result_bytes), {g.stream});
  std::vector<double> times;
  for (const cublasLtMatmulAlgo_t& candidate : candidates)
    times.push_back(is_allowed(g, candidate) ? time_of(g, candidate, to) : std::numeric_limits<double>::infinity());
  const double least = *std::min_element(times.begin(), times.end());
  const auto first = std::find_if(times.begin(), times.end(), [&](double t) { return t <= least * kSameTime; });
  return size_t(first - times.begin());
}

cublasLtMatmulAlgo_t algorithm_of(const GemmChoices::Algorithm& words) {
  cublasLtMatmulAlgo_t algorithm;
  std::memcpy(&algorithm, words.data(), sizeof algorithm);
  return algorithm;
}

/// Without the file the next run may choose otherwise, which who asked for this must know.
void check_stored(const std::string& failure) {
  if (failure.empty()) return;
  throw Failure("[gemm] LIBTRAIN_TUNE_GEMM: " + failure + "; LIBTRAIN_CACHE names another folder for choices");
}

}  // namespace

bool may_tune(cudaStream_t stream) {
  static const bool asked_for = gemm_tuning_asked_for();
  if (!asked_for) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess && status == cudaStreamCaptureStatusNone;
}

cublasLtMatmulAlgo_t tuned(const DescribedGemm& g, const GemmChoices::Key& key,
                           const std::vector<cublasLtMatmulAlgo_t>& candidates) {
  GemmChoices& stored = choices();
  if (const GemmChoices::Algorithm* words = stored.find(key))
    if (const cublasLtMatmulAlgo_t algorithm = algorithm_of(*words); is_allowed(g, algorithm)) return algorithm;
  const Scratch scratch(g.result_bytes);
  if (!scratch.data) return candidates.front();
  GemmChoices::Algorithm words;
  std::memcpy(words.data(), &candidates[quickest(g, candidates, scratch.data)], sizeof words);
  const cublasLtMatmulAlgo_t counts = algorithm_of(stored.keep(key, words));
  check_stored(stored.failure());
  return is_allowed(g, counts) ? counts : algorithm_of(words);
}

}  // namespace libtrain::kernels
