#include "libtrain/nn/decoder_state.h"

#include <optional>

#include "catch.h"
#include "decode_checks.h"
#include "train/memory_faults.h"

namespace libtrain::testing {

TEST_CASE("decoder_state: where select() runs out of memory, nothing has changed, and it can be called again", "[nn]") {
  const RandomModel random;
  const Ids rows{0, 0, 2, 3, 3};  // one source goes, so that memory moves too
  std::optional<DecoderState> state;
  std::vector<Ids> prefixes;
  const auto next = [&](int32_t token) {
    Ids tokens(prefixes.size(), token);
    tokens[0] = 9;
    for (size_t r = 0; r < tokens.size(); ++r) prefixes[r].push_back(tokens[r]);
    return random.next(tokens, *state);
  };
  const auto begin = [&] {
    state.emplace(random.begin());
    prefixes.assign(4, {});
    next(1), next(5);
  };
  const auto select = [&] { state->select(rows); };
  const auto check_next = [&](const Ids& sources) {
    REQUIRE(state->rows() == int64_t(sources.size()));
    const Tensor hidden = next(8);
    for (size_t r = 0; r < sources.size(); ++r)
      CHECK(difference(hidden, int64_t(r), random.last_hidden(size_t(sources[r]), prefixes[r])) < 1e-12);
  };
  for (const bool at_once : {false, true}) {
    const auto after = [&](int64_t k) {
      CAPTURE(k, at_once);
      if (!at_once) check_next({0, 1, 2, 3});
      select();
      prefixes = {prefixes[0], prefixes[0], prefixes[2], prefixes[3], prefixes[3]};
      check_next(rows);
    };
    CHECK(for_every_allocation(fail_allocations, false, {select, after, begin}) >= 9);
  }
}

}  // namespace libtrain::testing
