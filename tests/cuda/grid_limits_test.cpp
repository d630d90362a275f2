/// Launches that a grid's limits cut short: 2^31 - 1 blocks along x, 65,535 along y.
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "tests/cuda/device_array.h"

using namespace libtrain;
using namespace libtrain::kernels;

namespace {

/// 256 sequences of up to 2^31 - 1 queries and keys that have none.
template <class T> void check_attention(int64_t head_dim) {
  const DeviceArray<T> rows(std::vector<T>(256, T(0)));
  const DeviceArray<accum_t<T>> numbers(std::vector<accum_t<T>>(256, 0));
  const DeviceArray<int32_t> ends(std::vector<int32_t>(257, 0));
  Attention<T> a{};
  a.q = a.k = a.v = {rows.data(), head_dim};
  a.query_ends = a.key_ends = {ends.data(), {257, 1, 1, 1}};
  a.heads = 1;
  a.head_dim = head_dim;
  a.max_queries = a.max_keys = INT32_MAX;
  a.scale = 1;
  a.out = {rows.data(), {0, head_dim, 1, 1}};
  a.lse = a.workspace = {numbers.data(), {1, 0, 1, 1}};
  const AttentionGradients<T> gradients{{rows.data()}, {rows.data()}, {rows.data()}};
  const auto refused = Catch::Matchers::Contains("blocks, of at most 2^31 - 1");
  CHECK_THROWS_WITH(attention_forward(Cuda{}, a), refused);
  CHECK_THROWS_WITH(attention_backward(Cuda{}, a, View<const T>(a.out), gradients), refused);
  runtime::synchronize(Cuda{});
}

}  // namespace

TEST_CASE("executor: attention of more blocks than a grid has is refused", "[executor]") {
  check_attention<bf16>(32);
  check_attention<float>(32);
}

TEST_CASE("executor: rows of more classes than a grid has blocks for are walked", "[executor]") {
  const DeviceArray<float> numbers(std::vector<float>(4, 1));
  const DeviceArray<int32_t> targets(std::vector<int32_t>{-1});  // ignored, so that nothing is read of its row
  const CrossEntropy<float> k{.logits = {numbers.data(), {1, int64_t(1) << 29, 1, 1}},
                              .targets = {targets.data(), {1, 1, 1, 1}},
                              .lse = {numbers.data(), {1, 1, 1, 1}},
                              .ignore_index = -1,
                              .label_smoothing = 0};
  cross_entropy_backward(Cuda{}, k, {numbers.data(), {1, 1, 1, 1}}, {numbers.data(), true});
  runtime::synchronize(Cuda{});
  CHECK(numbers.values() == std::vector<float>(4, 1));
}
