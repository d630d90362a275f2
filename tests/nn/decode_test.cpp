#include "libtrain/nn/decode.h"

#include <cmath>
#include <map>

#include "catch.h"
#include "data/temporary_file.h"
#include "decode_checks.h"

namespace libtrain::testing {
using test::message_of;

namespace {

/// Beam search as its description says, without any state kept: what it finds, best first.
std::vector<Hypothesis> naive_beam_search(const RandomModel& random, size_t source, size_t beams, size_t max_length,
                                          double length_penalty) {
  using Scored = std::pair<double, Ids>;  // log-probability; with kBos, and with kEos where it has ended
  const auto most_probable_first = [](const Scored& a, const Scored& b) { return a.first > b.first; };
  const auto score = [&](double log_probability, size_t length) {
    return log_probability / std::pow((6 + double(length)) / 6, length_penalty);
  };
  std::vector<Scored> open{{0, {kBos}}};
  std::vector<Hypothesis> found;
  while (!open.empty()) {
    std::vector<Scored> all;
    for (const auto& [log_probability, ids] : open) {
      const Rows hidden = random.last_hidden(source, ids);
      const Tensor row = Tensor::from(std::span<const double>(hidden), {1, int64_t(hidden.size())});
      const auto next = log_softmax(random.model.project(row)).to_vector<double>();
      for (int32_t id = 0; id < int32_t(next.size()); ++id) {
        const bool may_be = id == kEos || (id >= kSpecialTokens && ids.size() <= max_length);
        if (!may_be) continue;
        all.push_back({log_probability + next[size_t(id)], ids});
        all.back().second.push_back(id);
      }
    }
    std::ranges::sort(all, most_probable_first);
    open.clear();
    for (size_t i = 0; i < all.size() && open.size() < beams; ++i) {
      const auto& [log_probability, ids] = all[i];
      if (ids.back() != kEos)
        open.push_back(all[i]);
      else if (i < beams)
        found.push_back({Ids(ids.begin() + 1, ids.end() - 1), log_probability, score(log_probability, ids.size() - 2)});
    }
    std::ranges::sort(found, std::ranges::greater(), &Hypothesis::score);
    found.resize(std::min(found.size(), beams));
    if (open.empty() || found.size() < beams) continue;
    double best = -INFINITY;  // that the most probable one can come to
    for (size_t length = open[0].second.size() - 1; length <= max_length; ++length)
      best = std::max(best, score(open[0].first, length));
    if (best <= found.back().score) break;
  }
  return found;
}

/// The logit of what is out of the question.
constexpr double kNever = -1000;

/// Makes the model give these logits at every position, to those of its tokens that may be produced: kEos, kSpecialTokens, …
void set_logits(const RandomModel& random, const std::vector<double>& logits) {
  random.parameters.get("decoder.norm.weight").fill(0);
  const Tensor bias = random.parameters.get("decoder.norm.bias"), output = random.parameters.get("output.weight");
  bias.fill(0);
  bias.rows(0, 1).fill(1);
  output.fill(kNever);
  for (size_t i = 0; i < logits.size(); ++i) {
    const int64_t id = i == 0 ? kEos : kSpecialTokens + int64_t(i) - 1;
    output.rows(id, id + 1).fill(logits[i]);
  }
}

/// What is found for the first source, best first.
std::vector<Ids> found_for_first(const RandomModel& random, int64_t max_length, const BeamOptions& options) {
  std::vector<Ids> ids;
  const auto found = beam_decode(random.model, random.sources, max_length, options);
  for (const Hypothesis& hypothesis : found[0]) ids.push_back(hypothesis.ids);
  return ids;
}

/// All sequences of up to `longest` of the tokens that may be produced.
std::vector<Ids> all_targets(int32_t vocab, size_t longest) {
  std::vector<Ids> all{{}};
  for (size_t done = 0; done < all.size(); ++done) {
    if (all[done].size() == longest) break;
    for (int32_t id = kSpecialTokens; id < vocab; ++id) {
      all.push_back(all[done]);
      all.back().push_back(id);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("decode_next: each position is that of decode() over all before it", "[nn]") {
  for (const bool pre_norm : {true, false}) {
    check_positions({.dtype = DType::f64, .seed = 3}, pre_norm, 1e-12);
    check_positions({.dtype = DType::f32, .seed = 3}, pre_norm, 1e-4);
    check_positions({.mixed_precision = true, .seed = 3}, pre_norm, 0.15);
  }
}

TEST_CASE("decode_next: rows can be dropped, repeated and put in another order", "[nn]") {
  check_selections({.dtype = DType::f64, .seed = 3}, 1e-12);
}

TEST_CASE("decode_next: what does not fit is refused, and the state is as before", "[nn]") {
  const RandomModel random;
  DecoderState state = random.begin();
  const auto next = [&](const Ids& ids) { return random.next(ids, state); };
  const auto refused = [&](const Ids& ids) { return message_of<InvalidArgument>([&] { next(ids); }); };
  const auto selected = [&](const Ids& rows) { return message_of<InvalidArgument>([&] { state.select(rows); }); };
  next({4, 5, 6, 7});
  CHECK(refused({4, 5, 6}) == "[transformer] ids must be i32[4], got i32[3]; decode_next() takes one for each row");
  CHECK(refused({4, 5, 6, 14}).find("[embedding] id 14 at row 3, position 1 is outside [0, 14)") == 0);
  CHECK(selected({0, 4}) == "[decoder_state] row 4 at position 1 is outside [0, 4); they count from 0");
  CHECK(selected({-1}) == "[decoder_state] row -1 at position 0 is outside [0, 4); they count from 0");
  CHECK(selected({1, 0}) ==
        "[decoder_state] rows of one source must be neighbours and sources in order; sort them by source");
  CHECK(state.length() == 1);
  CHECK(difference(next({7, 6, 5, 4}), 2, random.last_hidden(2, {6, 5})) < 1e-12);
  while (state.length() < random.model.options().max_positions) next({4, 4, 4, 4});
  CHECK(refused({4, 4, 4, 4}) ==
        "[transformer] all 64 positions are decoded; stop there, or train with larger max_positions");
}

TEST_CASE("decode_next: records nothing, and drops nothing while a tape is alive", "[nn]") {
  const RandomModel random;
  DecoderState without = random.begin();
  const Rows expected = random.next({1, 1, 1, 1}, without).to_vector<double>();
  const Tape tape;
  DecoderState state = random.begin();  // the encoder is asked outside of begin_decoding(): dropout acts there
  state = [&] {
    const NoTape none;
    return random.begin();
  }();
  const Tensor hidden = random.next({1, 1, 1, 1}, state);
  CHECK_FALSE(hidden.requires_grad());
  CHECK(hidden.to_vector<double>() == expected);
}

TEST_CASE("greedy_decode: the most probable token at each position, for each source as if it were alone", "[nn]") {
  const RandomModel random;
  const auto outputs = greedy_decode(random.model, random.sources, 30);
  std::map<size_t, int> lengths;
  for (size_t s = 0; s < 4; ++s) {
    CHECK(greedy_decode(random.model, std::span(&random.sources[s], 1), 30)[0] == outputs[s]);
    Ids prefix{kBos};
    while (prefix.size() <= 30) {
      const Rows hidden = random.last_hidden(s, prefix);
      const Tensor row = Tensor::from(std::span<const double>(hidden), {1, int64_t(hidden.size())});
      const auto logits = random.model.project(row).to_vector<double>();
      int32_t best = kEos;
      for (int32_t id = kSpecialTokens; id < kToyVocab; ++id)
        if (logits[size_t(id)] > logits[size_t(best)]) best = id;
      if (best == kEos) break;
      prefix.push_back(best);
    }
    prefix.erase(prefix.begin());
    CHECK(outputs[s] == prefix);
    ++lengths[prefix.size()];
  }
  CHECK(lengths.size() > 1);  // some end before others
  CHECK(greedy_decode(random.model, random.sources, 0) == std::vector<Ids>(4));
  CHECK(greedy_decode(random.model, {}, 5).empty());
}

TEST_CASE("beam_decode: wide enough, it finds the best of all targets, with the model's probabilities", "[nn]") {
  constexpr int32_t kVocab = kSpecialTokens + 3;
  constexpr size_t kLongest = 3;
  for (const uint64_t seed : {1, 2, 3}) {
    const RandomModel random({.dtype = DType::f64, .seed = seed}, true, kVocab);
    for (const double penalty : {0.0, 0.6, 2.0}) {
      const auto found = beam_decode(random.model, random.sources, kLongest, {.beams = 40, .length_penalty = penalty});
      REQUIRE(found.size() == 4);
      for (size_t s = 0; s < 4; ++s) {
        std::vector<Hypothesis> all;
        for (const Ids& ids : all_targets(kVocab, kLongest)) {
          const double log_probability = random.log_probability(s, ids);
          all.push_back({ids, log_probability, log_probability / std::pow((6 + double(ids.size())) / 6, penalty)});
        }
        std::ranges::sort(all, std::ranges::greater(), &Hypothesis::score);
        REQUIRE(all.size() == 40);
        REQUIRE(found[s].size() == 40);
        for (size_t i = 0; i < 40; ++i) {
          CHECK(found[s][i].ids == all[i].ids);
          CHECK(std::abs(found[s][i].log_probability - all[i].log_probability) < 1e-5);  // read as f32
          CHECK(std::abs(found[s][i].score - all[i].score) < 1e-5);
        }
      }
    }
  }
}

TEST_CASE("beam_decode: follows so many of the most probable at a time, until none of them can do better", "[nn]") {
  int ended_early = 0;
  for (const uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    const RandomModel random({.dtype = DType::f64, .seed = seed}, true, kSpecialTokens + 3);
    for (const auto& [beams, penalty] :
         {std::pair<size_t, double>{1, 1}, {2, 0}, {3, 0.6}, {3, -1.5}, {4, -0.3}, {5, 2}}) {
      const auto found =
          beam_decode(random.model, random.sources, 6, {.beams = int64_t(beams), .length_penalty = penalty});
      for (size_t s = 0; s < 4; ++s) {
        CAPTURE(seed, beams, penalty, s);
        const auto expected = naive_beam_search(random, s, beams, 6, penalty);
        REQUIRE(found[s].size() == expected.size());
        for (size_t i = 0; i < expected.size(); ++i) {
          CHECK(found[s][i].ids == expected[i].ids);
          CHECK(std::abs(found[s][i].log_probability - expected[i].log_probability) < 1e-5);
          CHECK(std::abs(found[s][i].score - expected[i].score) < 1e-5);
          ended_early += found[s][i].ids.size() < 6;
        }
      }
    }
  }
  CHECK(ended_early > 20);
}

TEST_CASE("beam_decode: of these models, none has a best target that is worse with four beams than with one", "[nn]") {
  int better = 0;
  for (const double penalty : {0.0, 0.6, 1.0})
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      const RandomModel random({.dtype = DType::f64, .seed = seed}, true, kSpecialTokens + 3);
      const auto with = [&](int64_t beams) {
        return beam_decode(random.model, random.sources, 8, {.beams = beams, .length_penalty = penalty});
      };
      const auto one = with(1), four = with(4);
      for (size_t s = 0; s < 4; ++s) {
        CAPTURE(seed, penalty, s);
        CHECK(four[s][0].score >= one[s][0].score - 1e-6);
        better += four[s][0].score > one[s][0].score + 1e-6;
      }
    }
  CHECK(better > 20);
}

TEST_CASE("beam_decode: goes on where a longer target can still score better, and stops where none can", "[nn]") {
  // Two beams. p(kEos) 0.4, then 0.3, 0.2, 0.1. The second row's kEos comes third among the candidates: both beams go on all the same.
  const RandomModel random({.dtype = DType::f64, .seed = 3}, true, kSpecialTokens + 3);
  set_logits(random, {std::log(0.4), std::log(0.3), std::log(0.2), std::log(0.1)});
  const auto found = [&](double penalty, int64_t max_length) {
    return found_for_first(random, max_length, {.beams = 2, .length_penalty = penalty});
  };
  CHECK(found(0, 2) == std::vector<Ids>{{}, {4}});
  CHECK(found(5, 2) == std::vector<Ids>{{4, 4}, {4, 5}});
  CHECK(found(5, 1) == std::vector<Ids>{{}, {4}});
  CHECK(found(-1, 2) == std::vector<Ids>{{}, {4}});
  // One beam ends at once, unless the penalty favours longer targets more than they lose.
  const auto with_one = [&](double penalty, int64_t max_length) {
    return found_for_first(random, max_length, {.beams = 1, .length_penalty = penalty});
  };
  CHECK(with_one(0, 2) == std::vector<Ids>{{}});
  CHECK(with_one(5, 2) == std::vector<Ids>{{4, 4}});
  CHECK(with_one(5, 1) == std::vector<Ids>{{}});
  // The blocks that a search asks for tell how far it went; with max_length 0 that is one position.
  const auto blocks = [&](double penalty, int64_t max_length) {
    const int64_t before = allocator_stats(Device::kCpu).allocations;
    with_one(penalty, max_length);
    return allocator_stats(Device::kCpu).allocations - before;
  };
  const int64_t one_position = blocks(0, 0);
  CHECK(blocks(0, 9) == one_position);
  CHECK(blocks(1, 1) == one_position);  // ln 0.3 over 7 / 6 is less than ln 0.4, over 8 / 6 it is more
  CHECK(blocks(1, 2) > one_position);
  set_logits(random, {0, 0, 0, 0});
  CHECK(blocks(0, 9) == one_position);
}

TEST_CASE("decode: ties go to the lower id, and NaN to no one", "[nn]") {
  const RandomModel random({.dtype = DType::f64, .seed = 3}, true, kSpecialTokens + 3);
  const auto greedy = [&](const std::vector<double>& logits) {
    set_logits(random, logits);
    return greedy_decode(random.model, random.sources, 3)[0];
  };
  CHECK(greedy({0, 0, 0, 0}).empty());
  CHECK(greedy({-1, 0, 0, 0}) == Ids{4, 4, 4});
  CHECK(greedy({-1, -1, 0, 0}) == Ids{5, 5, 5});
  CHECK(greedy({-1, 1, 1 + 0x1p-10, 1}) == Ids{5, 5, 5});  // as f32, in which bf16 would see a tie
  CHECK(greedy({NAN, NAN, -1, NAN}) == Ids{5, 5, 5});
  CHECK(greedy({0, NAN, 1, NAN}) == Ids{5, 5, 5});
  CHECK(greedy({NAN, NAN, NAN, NAN}).empty());
  set_logits(random, {0, 0, 0, 0});
  const auto found = [&](int64_t beams, double penalty, int64_t max_length) {
    return found_for_first(random, max_length, {.beams = beams, .length_penalty = penalty});
  };
  CHECK(found(1, 0, 3) == std::vector<Ids>{{}});
  CHECK(found(2, 0, 3) == std::vector<Ids>{{}, {4}});
  CHECK(found(3, 0, 1) == std::vector<Ids>{{}, {4}, {5}});  // {6} scores as much, and comes last
  CHECK(found(2, 5, 2) == std::vector<Ids>{{4, 4}, {4, 5}});
}

TEST_CASE("beam_decode: targets whose probability is NaN are left out", "[nn]") {
  const RandomModel healthy({.dtype = DType::f64, .seed = 3}, true, kSpecialTokens + 3);
  const auto expected = beam_decode(healthy.model, healthy.sources, 1);
  for (const int32_t lost : {4, 5, 6}) {
    const RandomModel random({.dtype = DType::f64, .seed = 3}, true, kSpecialTokens + 3);
    random.parameters.get("target_embedding.weight").rows(lost, lost + 1).fill(NAN);  // what follows it is NaN
    const auto found = beam_decode(random.model, random.sources, 1);
    for (size_t s = 0; s < 4; ++s) {
      REQUIRE(expected[s].size() == 4);
      std::vector<Ids> rest, ids;
      for (const Hypothesis& hypothesis : expected[s])
        if (hypothesis.ids != Ids{lost}) rest.push_back(hypothesis.ids);
      for (const Hypothesis& hypothesis : found[s]) ids.push_back(hypothesis.ids);
      CHECK(ids == rest);
    }
  }
}

TEST_CASE("decode: records nothing and drops nothing while a tape is alive", "[nn]") {
  const RandomModel random;
  const auto greedy = greedy_decode(random.model, random.sources, 8);
  const auto beams = beam_decode(random.model, random.sources, 8);
  const Tape tape;
  CHECK(greedy_decode(random.model, random.sources, 8) == greedy);
  const auto again = beam_decode(random.model, random.sources, 8);
  for (size_t s = 0; s < 4; ++s) CHECK(again[s][0].score == beams[s][0].score);
  CHECK(tape.size() == 0);
}

TEST_CASE("decode: lengths and ids outside the model's are refused", "[nn]") {
  const RandomModel random;
  const auto greedy = [&](const std::vector<Ids>& sources, int64_t max_length) {
    return message_of<InvalidArgument>([&] { greedy_decode(random.model, sources, max_length); });
  };
  const auto beams = [&](const std::vector<Ids>& sources, int64_t max_length) {
    return message_of<InvalidArgument>([&] { beam_decode(random.model, sources, max_length); });
  };
  CHECK(greedy({{4}}, -1).find("[greedy_decode] max_length must be in [0, 64), got -1") == 0);
  CHECK(beams({{4}}, -1).find("[beam_decode] max_length must be in [0, 64), got -1") == 0);
  CHECK(greedy({{4}, {4, 14}}, 2)
            .find("[batch] source token id 14 at row 1, position 1 is outside the vocabulary of 14") == 0);
  CHECK(beams({{-1}}, 2).find("[batch] source token id -1 at row 0, position 0 is outside the vocabulary of 14") == 0);
}

TEST_CASE("beam_decode: one beam is the greedy search, more find no worse, and sources do not matter to each other",
          "[nn]") {
  const RandomModel random;
  const auto greedy = greedy_decode(random.model, random.sources, 8);
  double gained = 0;
  const auto with = [&](int64_t beams) {
    return beam_decode(random.model, random.sources, 8, {.beams = beams, .length_penalty = 0});
  };
  const auto one = with(1), five = with(5);
  for (size_t s = 0; s < 4; ++s) {
    REQUIRE(one[s].size() == 1);
    CHECK(one[s][0].ids == greedy[s]);
    REQUIRE(five[s].size() == 5);
    for (size_t i = 0; i < 5; ++i) {
      CHECK(std::abs(five[s][i].log_probability - random.log_probability(s, five[s][i].ids)) < 1e-4);
      CHECK((i == 0 || five[s][i].score <= five[s][i - 1].score));
    }
    gained += five[s][0].score - one[s][0].score;
    const auto alone =
        beam_decode(random.model, std::span(&random.sources[s], 1), 8, {.beams = 5, .length_penalty = 0});
    REQUIRE(alone[0].size() == 5);
    for (size_t i = 0; i < 5; ++i) CHECK(alone[0][i].ids == five[s][i].ids);
  }
  CHECK(gained > 0.1);
  CHECK(with(5)[2][4].score == five[2][4].score);
}

TEST_CASE("beam_decode: options, and a model that has diverged", "[nn]") {
  const RandomModel random;
  const auto refused = [&](const BeamOptions& options, int64_t max_length) {
    return message_of<InvalidArgument>([&] { beam_decode(random.model, random.sources, max_length, options); });
  };
  CHECK(refused({.beams = 0}, 4) == "[beam_decode] beams must be in [1, 65536], got 0; 4 is usual");
  CHECK(refused({.beams = 65537}, 4) == "[beam_decode] beams must be in [1, 65536], got 65537; 4 is usual");
  CHECK(refused({.length_penalty = NAN}, 4) ==
        "[beam_decode] length_penalty must be finite, got nan; 0 turns it off, 0.6 is usual");
  CHECK(refused({.length_penalty = INFINITY}, 4) ==
        "[beam_decode] length_penalty must be finite, got inf; 0 turns it off, 0.6 is usual");
  CHECK(BeamOptions().beams == 4);
  CHECK(BeamOptions().length_penalty == 0.6);
  CHECK(refused({}, 64).find("[beam_decode] max_length must be in [0, 64), got 64") == 0);
  const auto ends_at_once = beam_decode(random.model, random.sources, 0);
  CHECK(ends_at_once[0][0].ids.empty());
  CHECK(std::abs(ends_at_once[0][0].log_probability - random.log_probability(0, {})) < 1e-5);
  CHECK(beam_decode(random.model, {}, 4).empty());
  random.parameters.values().fill(NAN);
  const auto lost = beam_decode(random.model, random.sources, 4);
  REQUIRE(lost[3].size() == 1);
  CHECK(lost[3][0].ids.empty());
  CHECK(std::isnan(lost[3][0].score));
  CHECK(greedy_decode(random.model, random.sources, 4)[3].empty());
}

}  // namespace libtrain::testing
