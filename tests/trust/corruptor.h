/// What bad batches are made from.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/toy.h"

namespace libtrain::testing {

using Ids = std::vector<int32_t>;

/// One bad call and the texts that its refusal must hold, each a number at its place.
struct Attempt {
  std::function<void()> call;
  std::vector<std::string> expected;
};

class Corruptor {
 public:
  explicit Corruptor(uint64_t seed)
      : random_(seed), pairs_(reversal_pairs(64, seed)), model_(parameters_, toy_options()) {}

  uint64_t below(uint64_t end) { return random_() % end; }
  template <class T> const T& one_of(const std::vector<T>& all) { return all[below(all.size())]; }

  /// Outside [0, kToyVocab), near its edges or anywhere.
  int32_t bad_id() {
    const Ids near{-1, INT32_MIN, INT32_MAX, int32_t(kToyVocab), -100};
    if (below(2)) return one_of(near);
    const auto any = int32_t(uint32_t(random_()));
    return any >= 0 && any < kToyVocab ? -1 - any : any;
  }
  std::vector<Pair> some_pairs() {
    std::vector<Pair> chosen;
    for (size_t i = 0, n = 1 + below(6); i < n; ++i) chosen.push_back(one_of(pairs_));
    return chosen;
  }
  Batch good_batch() {
    return make_batch(std::span<const Pair>(some_pairs()), {.capacity_multiple = int64_t(1 + below(2) * 7)});
  }
  const Transformer& model() const { return model_; }
  std::mt19937_64& random() { return random_; }

 private:
  std::mt19937_64 random_;
  std::vector<Pair> pairs_;
  Parameters parameters_;
  Transformer model_;
};

}  // namespace libtrain::testing
