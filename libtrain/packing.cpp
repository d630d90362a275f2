#include "libtrain/packing.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace libtrain {

Packing make_packing(std::span<const int64_t> lengths, Device device, int64_t capacity) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  for (size_t s = 0; s < lengths.size(); ++s)
    LIBTRAIN_CHECK(lengths[s] >= 0 && lengths[s] <= kMost,
                   "[packing] expected lengths in [0, {}], got {} for sequence {}; count its tokens", kMost, lengths[s],
                   s);
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
  if (capacity == -1) capacity = total;
  LIBTRAIN_CHECK(std::max(total, capacity) <= kMost,
                 "[packing] {} tokens with a capacity of {} are more than {}; use smaller batches", total, capacity,
                 kMost);
  LIBTRAIN_CHECK(capacity >= total, "[packing] {} tokens do not fit a capacity of {}; without one, it is exact", total,
                 capacity);

  std::vector<int32_t> cu_seqlens{0}, positions(size_t(capacity), 0), sequences(size_t(capacity), 0);
  int64_t longest = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const auto first = size_t(cu_seqlens.back());
    for (size_t i = 0; i < size_t(lengths[s]); ++i) {
      positions[first + i] = int32_t(i);
      sequences[first + i] = int32_t(s);
    }
    cu_seqlens.push_back(int32_t(first) + int32_t(lengths[s]));
    longest = std::max(longest, lengths[s]);
  }
  const auto tensor = [device](const std::vector<int32_t>& values) {
    return Tensor::from(std::span<const int32_t>(values), {int64_t(values.size())}, device);
  };
  return {tensor(cu_seqlens), tensor(positions), tensor(sequences), longest};
}

}  // namespace libtrain
