#include "examples/seq2seq/validation.h"

#include <algorithm>

#include "catch.h"
#include "examples/seq2seq/evaluate.h"

namespace seq2seq {
namespace {

using libtrain::BatchSize;
using libtrain::BucketedBatches;
using libtrain::Pair;

TEST_CASE("validation: batches are no larger than those of training, but for a pair that is longer") {
  const std::vector<Pair> train(40, Pair{{5, 6, 7}, {8, 9}});
  std::vector<Pair> held_out(100, Pair{{5, 6, 7, 8, 9}, {8}});
  for (const BucketedBatches::Options& limit :
       {BucketedBatches::Options{.pairs = 4}, BucketedBatches::Options{.tokens = 16}}) {
    BucketedBatches training(train, limit);
    training.begin_epoch(0);
    BucketedBatches validation(held_out, validation_batches(held_out, training, libtrain::Device::kCpu));
    validation.begin_epoch(0);
    for (const BatchSize& size : validation.sizes()) {
      CHECK(size.pairs <= 4);
      CHECK(std::max(size.source_tokens, size.target_tokens) <= 16);
    }
  }
  held_out[7].target.assign(50, 5);
  BucketedBatches training(train, {.pairs = 4});
  training.begin_epoch(0);
  BucketedBatches validation(held_out, validation_batches(held_out, training, libtrain::Device::kCpu));
  validation.begin_epoch(0);
  int64_t pairs = 0;
  for (const BatchSize& size : validation.sizes()) {
    pairs += size.pairs;
    CHECK(size.pairs <= 4);
    CHECK(size.source_tokens <= 51);
  }
  CHECK(pairs == 100);
}

TEST_CASE("validation: decoding takes no more sources at a time than the batches of training allow") {
  Options options;
  options.batch_pairs = 64;
  CHECK(sources_at_a_time(options, 1, 30) == 256);
  CHECK(sources_at_a_time(options, 4, 30) == 64);
  options.batch_pairs = 2;
  CHECK(sources_at_a_time(options, 1, 30) == 8);
  CHECK(sources_at_a_time(options, 9, 30) == 1);
  options.batch_pairs = 0;
  options.batch_tokens = 100;
  CHECK(sources_at_a_time(options, 1, 40) == 10);
  CHECK(sources_at_a_time(options, 1, 4000) == 1);
}

}  // namespace
}  // namespace seq2seq
