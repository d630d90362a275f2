#include "libtrain/data/batch_source.h"

#include <algorithm>
#include <numeric>

#include "kernels/philox.h"

namespace libtrain {
namespace {

/// Fisher-Yates with bits that (seed, epoch, purpose) define.
template <class T> void shuffle(std::vector<T>& items, uint64_t seed, uint64_t epoch, uint32_t purpose) {
  const uint64_t key = random_key({seed, epoch});
  for (size_t i = items.size(); i > 1; --i) {
    const auto words = philox<10>({uint32_t(i), uint32_t(i >> 32), purpose, 0}, uint32_t(key), uint32_t(key >> 32));
    std::swap(items[i - 1], items[((uint64_t(words[0]) << 32) | words[1]) % i]);
  }
}

}  // namespace

BucketedBatches::BucketedBatches(std::span<const Pair> pairs, Options options) : pairs_(pairs), options_(options) {
  LIBTRAIN_CHECK(!pairs.empty(), "[batches] expected at least one pair, got none; has the data been read?");
  LIBTRAIN_CHECK(options.tokens >= 0 && options.pairs >= 0 && (options.tokens > 0 || options.pairs > 0),
                 "[batches] a batch needs a limit: tokens ({}) or pairs ({}) must be > 0; pairs = 64 is a start",
                 options.tokens, options.pairs);
  LIBTRAIN_CHECK(
      options.batches_per_bucket >= 1 && options.prefetch >= 0,
      "[batches] batches_per_bucket must be >= 1 and prefetch >= 0, got {} and {}; 32 and 2 are the defaults",
      options.batches_per_bucket, options.prefetch);
  check_options(options.batch);
  if (options.batch.device == Device::kCuda) copies_ = std::make_unique<cuda::Stream>();
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto longest = int64_t(std::max(pairs[i].source.size(), pairs[i].target.size())) + 1;
    LIBTRAIN_CHECK(
        options.tokens == 0 || longest <= options.tokens,
        "[batches] pair {} has {} tokens, more than the {} that a batch may have; raise the limit or drop the pair", i,
        longest, options.tokens);
  }
}

/// Limits beyond the data are cut to it first, so that no product overflows.
size_t BucketedBatches::average_pairs() const {
  size_t average = pairs_.size();
  if (options_.pairs > 0) average = std::min(average, size_t(options_.pairs));
  if (options_.tokens == 0) return average;
  size_t total = 0;
  for (const Pair& pair : pairs_) total += std::max(pair.source.size(), pair.target.size()) + 1;
  const size_t fitting = std::min(size_t(options_.tokens), total) * pairs_.size() / total;
  return std::clamp<size_t>(fitting, 1, average);
}

void BucketedBatches::sort_buckets() {
  const auto length = [this](size_t i) { return std::pair(pairs_[i].target.size(), pairs_[i].source.size()); };
  const size_t bucket = average_pairs() * std::min(size_t(options_.batches_per_bucket), order_.size());
  for (size_t begin = 0; begin < order_.size(); begin += bucket)
    std::stable_sort(order_.begin() + int64_t(begin), order_.begin() + int64_t(std::min(begin + bucket, order_.size())),
                     [&](size_t a, size_t b) { return length(a) < length(b); });
}

std::vector<BucketedBatches::Range> BucketedBatches::cut() const {
  std::vector<Range> ranges;
  size_t begin = 0;
  int64_t source = 0, target = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    const Pair& pair = pairs_[order_[i]];
    source += int64_t(pair.source.size()) + 1;
    target += int64_t(pair.target.size()) + 1;
    const bool too_many_tokens = options_.tokens && std::max(source, target) > options_.tokens;
    if (i > begin && (too_many_tokens || (options_.pairs && int64_t(i - begin) == options_.pairs))) {
      ranges.push_back({begin, i});
      begin = i;
      source = int64_t(pair.source.size()) + 1;
      target = int64_t(pair.target.size()) + 1;
    }
  }
  ranges.push_back({begin, order_.size()});
  return ranges;
}

int64_t BucketedBatches::begin_epoch(int64_t epoch) {
  ahead_.clear();  // waits for those under way: they read order_
  order_.resize(pairs_.size());
  std::iota(order_.begin(), order_.end(), size_t(0));
  if (options_.shuffle) {
    shuffle(order_, options_.seed, uint64_t(epoch), 1);
    if (options_.batches_per_bucket > 1) sort_buckets();
  }
  batches_ = cut();
  if (options_.shuffle) shuffle(batches_, options_.seed, uint64_t(epoch), 2);
  return int64_t(batches_.size());
}

std::vector<BatchSize> BucketedBatches::sizes() const {
  const int64_t multiple = options_.batch.capacity_multiple;
  const auto capacity = [multiple](int64_t tokens) { return (tokens + multiple - 1) / multiple * multiple; };
  std::vector<BatchSize> sizes;
  for (const Range range : batches_) {
    BatchSize size{.pairs = int64_t(range.end - range.begin)};
    for (size_t i = range.begin; i < range.end; ++i) {
      const Pair& pair = pairs_[order_[i]];
      const auto source = int64_t(pair.source.size()) + 1, target = int64_t(pair.target.size()) + 1;
      size.source_tokens += source;
      size.target_tokens += target;
      size.longest_source = std::max(size.longest_source, source);
      size.longest_target = std::max(size.longest_target, target);
    }
    size.source_tokens = capacity(size.source_tokens);
    size.target_tokens = capacity(size.target_tokens);
    sizes.push_back(size);
  }
  return sizes;
}

Batch BucketedBatches::build(int64_t index) const {
  const Range range = batches_[size_t(index)];
  std::vector<const Pair*> chosen;
  for (size_t i = range.begin; i < range.end; ++i) chosen.push_back(&pairs_[order_[i]]);
  BatchOptions on_host = options_.batch;
  on_host.device = Device::kCpu;
  return make_batch(std::span<const Pair* const>(chosen), on_host);
}

Batch BucketedBatches::upload(const Batch& batch) const {
  cuda::Event there;
  Batch copy;
  {
    const cuda::StreamScope scope(*copies_);
    copy = batch.to(Device::kCuda);
    there.record();
  }
  there.wait();
  return copy;
}

Batch BucketedBatches::get(int64_t index) {
  LIBTRAIN_CHECK(
      index >= 0 && index < int64_t(batches_.size()),
      "[batches] expected a batch of the epoch, got {} of {}; begin_epoch() prepares an epoch and says how many it has",
      index, batches_.size());
  auto ready = ahead_.extract(index);
  const int64_t last = index + std::min(options_.prefetch, int64_t(batches_.size()) - 1 - index);
  for (int64_t next = index + 1; next <= last; ++next)
    if (!ahead_.contains(next)) ahead_[next] = std::async(std::launch::async, [this, next] { return build(next); });
  const Batch batch = ready ? ready.mapped().get() : build(index);
  return copies_ ? upload(batch) : batch;
}

}  // namespace libtrain
