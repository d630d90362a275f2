#include <algorithm>
#include <limits>
#include <set>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;
using Ids = std::vector<int32_t>;

namespace {
std::vector<Pair> numbered_pairs(int count) {
  std::vector<Pair> pairs;
  for (int i = 0; i < count; ++i) {
    const size_t length = size_t(1 + (i * 7) % 13);
    pairs.push_back({Ids(length, 4 + i), Ids(1 + (length * 5) % 11, 4 + i)});
  }
  return pairs;
}

/// Which pair each sequence of a batch is, by the id its source repeats.
Ids members(const Batch& batch) {
  const Ids ends = batch.source.cu_seqlens.to_vector<int32_t>(), ids = batch.source_ids.to_vector<int32_t>();
  Ids found;
  for (size_t s = 0; s + 1 < ends.size(); ++s) found.push_back(ids[size_t(ends[s])] - 4);
  return found;
}
}  // namespace

TEST_CASE("batch: packed with kEos, shifted behind kBos, tail filled with kPad", "[batch]") {
  const std::vector<Pair> pairs{{{5, 6}, {7}}, {{}, {}}, {{8}, {9, 10, 11}}};
  const Batch batch = make_batch(std::span<const Pair>(pairs), {.capacity_multiple = 4});
  CHECK(batch.source_ids.to_vector<int32_t>() == Ids{5, 6, kEos, kEos, 8, kEos, kPad, kPad});
  CHECK(batch.source.cu_seqlens.to_vector<int32_t>() == Ids{0, 3, 4, 6});
  CHECK(batch.source.positions.to_vector<int32_t>() == Ids{0, 1, 2, 0, 0, 1, 0, 0});
  CHECK(batch.source.sequences.to_vector<int32_t>() == Ids{0, 0, 0, 1, 2, 2, 0, 0});
  CHECK(batch.target_in.to_vector<int32_t>() == Ids{kBos, 7, kBos, kBos, 9, 10, 11, kPad});
  CHECK(batch.target_out.to_vector<int32_t>() == Ids{7, kEos, kEos, 9, 10, 11, kEos, kPad});
  CHECK(batch.target.max_length == 4);
  CHECK(batch.source_tokens == 6);
  CHECK(batch.target_tokens == 7);
  CHECK(batch.pairs == 3);
}

TEST_CASE("batch: room for few shapes, in tokens, pairs and lengths, holds nothing", "[batch]") {
  const std::vector<Pair> pairs{{{5, 6}, {7}}, {{8}, {9, 10, 11}}, {{12}, {13}}};
  const Batch batch =
      make_batch(std::span<const Pair>(pairs), {.capacity_multiple = 8, .pairs_multiple = 4, .length_multiple = 16});
  CHECK(batch.pairs == 3);
  CHECK(batch.source.cu_seqlens.to_vector<int32_t>() == Ids{0, 3, 5, 7, 7});
  CHECK(batch.target.cu_seqlens.to_vector<int32_t>() == Ids{0, 2, 6, 8, 8});
  CHECK(batch.source.max_length == 16);
  CHECK(batch.target.max_length == 16);
  CHECK(batch.source_ids.shape() == Shape{8});
  CHECK(batch.source_ids.to_vector<int32_t>().back() == kPad);
}

TEST_CASE("batch: multiples beyond 32 bits are refused", "[batch]") {
  const std::vector<Pair> pairs{{{5, 6}, {7}}, {{8}, {9, 10, 11}}, {{12}, {13}}};
  const auto refusal = [&](const BatchOptions& options) {
    return message_of<InvalidArgument>([&] { make_batch(std::span<const Pair>(pairs), options); });
  };
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  for (const int64_t multiple : {kMost + 1, int64_t(1) << 62, std::numeric_limits<int64_t>::max()}) {
    const std::string rest =
        format_message(" must be <= 2147483647, got {}; packed rows are counted in 32 bits", multiple);
    CHECK(refusal({.capacity_multiple = multiple}) == "[batch] capacity_multiple" + rest);
    CHECK(refusal({.pairs_multiple = multiple}) == "[batch] pairs_multiple" + rest);
    CHECK(refusal({.length_multiple = multiple}) == "[batch] length_multiple" + rest);
    CHECK_THROWS_AS(BucketedBatches(pairs, {.pairs = 2, .batch = {.capacity_multiple = multiple}}), InvalidArgument);
  }
  CHECK(make_batch(std::span<const Pair>(pairs), {.length_multiple = kMost}).source.max_length == kMost);
}

TEST_CASE("batch: the padded view and back", "[batch]") {
  const std::vector<Pair> pairs{{{5, 6}, {7}}, {{8}, {9, 10, 11}}};
  const Batch batch = make_batch(std::span<const Pair>(pairs));
  CHECK(batch.input_ids().shape() == Shape{2, 3});
  CHECK(batch.input_ids().to_vector<int32_t>() == Ids{5, 6, kEos, 8, kEos, kPad});
  CHECK(batch.target_ids().to_vector<int32_t>() == Ids{7, kEos, kPad, kPad, 9, 10, 11, kEos});
  const Batch again = pack_padded(batch.input_ids(), batch.target_ids());
  CHECK(again.target_in.to_vector<int32_t>() == batch.target_in.to_vector<int32_t>());
  CHECK(again.source_ids.to_vector<int32_t>() == batch.source_ids.to_vector<int32_t>());
  CHECK(message_of<InvalidArgument>([&] { unpack_index(batch.target, 3); }) ==
        "[unpack_index] longest 3 is below the 4 of the longest sequence; pass packing.max_length or more");
  for (const int64_t pairs : {-1, 3, 300}) {
    Batch wrong = batch;
    wrong.pairs = pairs;
    const std::string refusal =
        format_message("[batch] {} pairs, but cu_seqlens for 2 sequences; make_batch() makes a whole batch", pairs);
    CHECK(message_of<InvalidArgument>([&] { wrong.input_ids(); }) == refusal);
    CHECK(message_of<InvalidArgument>([&] { wrong.target_ids(); }) == refusal);
  }
  CHECK(unpack_index(batch.target, 5).to_vector<int32_t>() == Ids{0, 1, -1, -1, -1, 2, 3, 4, 5, -1});
}

TEST_CASE("batch: padded rows begin with their tokens, labels without kBos, and rows of padding are empty", "[batch]") {
  const auto packed = [](const Ids& inputs, const Ids& labels, int32_t pad = kPad) {
    const auto rows = [](const Ids& ids) { return Tensor::from(ids, {2, int64_t(ids.size()) / 2}); };
    return pack_padded(rows(inputs), rows(labels), pad);
  };
  const auto refusal = [&](const Ids& inputs, const Ids& labels, int32_t pad = kPad) {
    return message_of<InvalidArgument>([&] { packed(inputs, labels, pad); });
  };
  const Batch batch = packed({5, kBos, kEos, kPad, kPad, kPad}, {kPad, kPad, 7, kEos});
  CHECK(batch.source_ids.to_vector<int32_t>() == Ids{5, kBos, kEos});
  CHECK(batch.source.cu_seqlens.to_vector<int32_t>() == Ids{0, 3, 3});
  CHECK(batch.target_in.to_vector<int32_t>() == Ids{kBos, 7});
  CHECK(batch.target.cu_seqlens.to_vector<int32_t>() == Ids{0, 0, 2});
  CHECK(packed({5, 2, 6, 2}, {7, -100, 8, 2}, -100).target_out.to_vector<int32_t>() == Ids{7, 8, 2});

  const std::string remedy = "; begin rows with their tokens and fill them up behind the last";
  CHECK(refusal({5, 2, kPad, 2}, {7, 2, 7, 2}) ==
        "[pack_padded] input_ids: id 0 at row 1, position 0 is padding before a token" + remedy);
  CHECK(refusal({5, 2, 6, 2}, {7, kPad, kPad, 2, 7, 8, 2, kPad}) ==
        "[pack_padded] target_ids: id 0 at row 0, position 1 is padding before a token" + remedy);
  CHECK(refusal({5, 2, 6, 2}, {7, 2, -100, 2}, -100) ==
        "[pack_padded] target_ids: id -100 at row 1, position 0 is padding before a token" + remedy);
  CHECK(refusal({5, 2, 6, 2}, {kBos, 7, 2, 8, 2, kPad}) ==
        "[pack_padded] target_ids: id 1 at row 0, position 0 is kBos; leave it out, it is put before the labels");
}

TEST_CASE("batch: a bad id is named with row, position and vocabulary", "[batch]") {
  const std::vector<Pair> pairs{{{5}, {7}}, {{5, 40}, {7}}};
  const auto build = [&](BatchOptions options) {
    return message_of<InvalidArgument>([&] { make_batch(std::span<const Pair>(pairs), options); });
  };
  CHECK(build({.source_vocab = 41}) == "no exception");
  CHECK(build({.source_vocab = 40}) ==
        "[batch] source token id 40 at row 1, position 1 is outside the vocabulary of 40; "
        "encode the text with "
        "the model's own vocabulary");
  CHECK(build({.target_vocab = 7}).find("target token id 7 at row 0, position 0") != std::string::npos);
  const std::vector<Pair> reserved{{{kBos}, {7}}}, negative{{{-3}, {7}}};
  CHECK_THROWS_AS(make_batch(std::span<const Pair>(reserved)), InvalidArgument);
  const std::vector<Pair> ended{{{5}, {7}}, {{5}, {7, kEos}}};
  CHECK(message_of<InvalidArgument>([&] { make_batch(std::span<const Pair>(ended)); }) ==
        "[batch] target token id 2 at row 1, position 1 is the end of a sequence; leave it out, it is added");
  CHECK_THROWS_AS(make_batch(std::span<const Pair>(negative)), InvalidArgument);
  CHECK(message_of<InvalidArgument>([] {
          pack_padded(Tensor::zeros({2, 3}), Tensor::zeros({2, 3}, DType::i32));
        }) == "[pack_padded] input_ids must be i32[batch, length], got f32[2, 3]; cast() and reshape() convert");
  CHECK(message_of<InvalidArgument>([] {
          pack_padded(Tensor::zeros({2, 3}, DType::i32), Tensor::zeros({3, 3}, DType::i32));
        }) == "[pack_padded] 2 sources but 3 targets; give one row on either side for every pair");
}

TEST_CASE("batches: every pair once an epoch, within the limits, in an order that (seed, epoch) fixes", "[batch]") {
  const auto pairs = numbered_pairs(200);
  const auto epoch_of = [&](BucketedBatchesOptions options, int64_t epoch) {
    BucketedBatches batches(pairs, options);
    std::vector<Ids> all;
    const int64_t count = batches.begin_epoch(epoch);
    for (int64_t i = 0; i < count; ++i) {
      const Batch batch = batches.get(i);
      CHECK(std::max(batch.source_tokens, batch.target_tokens) <= 60);
      all.push_back(members(batch));
    }
    return all;
  };
  const BucketedBatchesOptions options{.tokens = 60, .batches_per_bucket = 4, .seed = 9};
  const auto first = epoch_of(options, 0);
  std::multiset<int32_t> seen;
  for (const Ids& batch : first) seen.insert(batch.begin(), batch.end());
  CHECK(seen.size() == 200);
  CHECK(std::set<int32_t>(seen.begin(), seen.end()).size() == 200);
  CHECK(first == epoch_of(options, 0));
  CHECK(first != epoch_of(options, 1));
  auto other = options;
  other.seed = 10;
  CHECK(first != epoch_of(other, 0));
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  for (const int64_t prefetch : {int64_t(0), int64_t(1), int64_t(7), kAll}) {  // background threads change nothing
    other = options;
    other.prefetch = prefetch;
    CHECK(first == epoch_of(other, 0));
  }
}

TEST_CASE("batches: without shuffling the order is kept, and a limit of pairs holds", "[batch]") {
  const auto pairs = numbered_pairs(10);
  BucketedBatches batches(pairs, {.pairs = 4, .shuffle = false});
  REQUIRE(batches.begin_epoch(0) == 3);
  CHECK(members(batches.get(0)) == Ids{0, 1, 2, 3});
  CHECK(members(batches.get(2)) == Ids{8, 9});
  CHECK(members(batches.get(1)) == Ids{4, 5, 6, 7});  // any order
  CHECK_THROWS_AS(batches.get(3), InvalidArgument);
}

TEST_CASE("batches: sorting within buckets keeps lengths together", "[batch]") {
  const auto pairs = numbered_pairs(400);
  const auto padding = [&](int64_t per_bucket) {
    BucketedBatches batches(pairs, {.pairs = 20, .batches_per_bucket = per_bucket});
    int64_t wasted = 0;
    const int64_t count = batches.begin_epoch(0);
    for (int64_t i = 0; i < count; ++i) {
      const Batch batch = batches.get(i);
      wasted += batch.target.max_length * batch.pairs - batch.target_tokens;
    }
    return wasted;
  };
  CHECK(padding(20) * 4 < padding(1));
}

TEST_CASE("batches: limits that cannot work are refused", "[batch]") {
  const auto pairs = numbered_pairs(20);
  CHECK(message_of<InvalidArgument>([&] { BucketedBatches(pairs, {}); }).find("a batch needs a limit") !=
        std::string::npos);
  CHECK(message_of<InvalidArgument>([&] { BucketedBatches({}, {.pairs = 3}); }) ==
        "[batches] expected at least one pair, got none; has the data been read?");
  CHECK(message_of<InvalidArgument>([&] {
          BucketedBatches(pairs, {.tokens = 13});
        }).find("more than the 13 that a batch may have") != std::string::npos);
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();  // no product may overflow
  for (const int64_t tokens : {kHuge, kHuge / 2 + 1, int64_t(0)})
    for (const int64_t most : {kHuge, kHuge / 2 + 1, int64_t(0)})
      for (const int64_t per_bucket : {kHuge, kHuge / 2 + 1, int64_t(32)})
        if (tokens + (most > 0) > 0)
          CHECK(BucketedBatches(pairs, {.tokens = tokens, .pairs = most, .batches_per_bucket = per_bucket})
                    .begin_epoch(0) == 1);
  CHECK(message_of<InvalidArgument>([&] {
          make_batch(std::span<const Pair>(pairs), {.capacity_multiple = kHuge});
        }).find("[batch] capacity_multiple must be <= 2147483647, got ") != std::string::npos);
  CHECK(message_of<InvalidArgument>([&] { BucketedBatches(pairs, {.pairs = 3, .batches_per_bucket = 0}); }) ==
        "[batches] batches_per_bucket must be >= 1 and prefetch >= 0, got 0 and 2; 32 and 2 are the defaults");
  CHECK_THROWS_AS(BucketedBatches(pairs, {.pairs = 3, .prefetch = -1}), InvalidArgument);
  CHECK(message_of<InvalidArgument>([&] { make_batch(std::span<const Pair>(pairs), {.capacity_multiple = 0}); }) ==
        "[batch] capacity_multiple must be >= 1, got 0; 1 is exact");
  BucketedBatches failing(pairs, {.pairs = 3, .batch = {.source_vocab = 10}});
  failing.begin_epoch(0);
  CHECK_THROWS_AS(
      [&] {
        for (int64_t i = 0; i < 7; ++i) failing.get(i);
      }(),
      InvalidArgument);
}

}  // namespace libtrain
