/// Where a training loop gets its mini-batches from, and the source that most programs want: length-bucketed, shuffled, prefetched.
#pragma once
#include <concepts>
#include <future>
#include <map>
#include <vector>

#include "libtrain/data/batch.h"

namespace libtrain {

/// A sequence of mini-batches for every epoch. What an epoch contains must depend on nothing but its number, so that a resumed run sees
/// the same batches: implement these two functions to train on data of your own.
template <class BatchType> class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Prepares epoch 0, 1, 2… and returns the number of its batches, at least one.
  virtual int64_t begin_epoch(int64_t epoch) = 0;
  /// Batch `index` of the epoch begun last. Called in rising order, but a resumed run starts in the middle.
  virtual BatchType get(int64_t index) = 0;
};

/// How pairs are put together into batches, and in which order.
struct BucketedBatchesOptions {
  /// A batch is full when a side would exceed this many tokens (kEos counted), or `pairs` pairs. 0: no limit. At least one is needed.
  int64_t tokens = 0;
  int64_t pairs = 0;  // 0: no limit
  /// Pairs are sorted by length within groups of this many batches, so that a batch holds similar lengths. Larger: more uniform
  /// lengths, less random batches. 1: no sorting. Default 32.
  int64_t batches_per_bucket = 32;
  /// Order depends on (seed, epoch) alone. Without shuffling, pairs keep their order and nothing is sorted.
  bool shuffle = true;
  uint64_t seed = 1;  // of the order; independent of the seed of the parameters
  /// Batches built ahead by background threads; changes no batch. 0: built when asked for.
  int64_t prefetch = 2;
  /// Vocabularies, capacities and device of every batch.
  BatchOptions batch = {};
};

/// How much a mini-batch holds, which decides what memory a step on it needs.
struct BatchSize {
  int64_t pairs = 0;                               // sequences on either side
  int64_t source_tokens = 0, target_tokens = 0;    // rows on either side: kEos and tail counted
  int64_t longest_source = 0, longest_target = 0;  // of one sequence, kEos counted
};

/// Mini-batches from pairs held in memory, which must outlive it. Each pair occurs once an epoch. For a CUDA device, batches are built in
/// the memory of the host and copied on a stream of their own, for which the stream of the caller of get() waits.
class BucketedBatches : public BatchSource<Batch> {
 public:
  using Options = BucketedBatchesOptions;  // what the constructor takes

  /// Throws InvalidArgument for the first option that is out of range, when there are no pairs or no limit is given, and for a pair that
  /// exceeds the token limit alone.
  BucketedBatches(std::span<const Pair> pairs, Options options);
  template <std::same_as<std::vector<Pair>> Temporary>
  BucketedBatches(Temporary&&, Options) = delete;    // pairs must live as long
  BucketedBatches(const BucketedBatches&) = delete;  // background threads hold its address
  BucketedBatches& operator=(const BucketedBatches&) = delete;

  int64_t begin_epoch(int64_t epoch) override;
  Batch get(int64_t index) override;

  /// Of every batch of the epoch begun last, in its order; nothing is built for it.
  std::vector<BatchSize> sizes() const;
  /// As given to the constructor.
  const Options& options() const { return options_; }

 private:
  struct Range {
    size_t begin, end;  // in order_
  };
  Batch build(int64_t index) const;
  Batch upload(const Batch& batch) const;
  void sort_buckets();
  std::vector<Range> cut() const;
  size_t average_pairs() const;

  std::span<const Pair> pairs_;
  Options options_;
  std::vector<size_t> order_;
  std::vector<Range> batches_;
  std::unique_ptr<cuda::Stream> copies_;  // for a CUDA device
  std::map<int64_t, std::future<Batch>> ahead_;
};

}  // namespace libtrain
