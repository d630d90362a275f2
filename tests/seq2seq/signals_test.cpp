#include "examples/seq2seq/signals.h"

#include <csignal>

#include "catch.h"
#include "train/toy.h"

namespace seq2seq {

TEST_CASE("signals: the same again at once is no second one") {
  CHECK_FALSE(is_second_stop({SIGTERM, 5000}, {SIGTERM, 5000}));
  CHECK_FALSE(is_second_stop({SIGTERM, 5000}, {SIGTERM, 5199}));
  CHECK(is_second_stop({SIGTERM, 5000}, {SIGTERM, 5200}));
  CHECK(is_second_stop({SIGTERM, 5000}, {SIGINT, 5000}));
}

TEST_CASE("signals: one that is sent twice at once, as timeout(1) does, stops the loop once") {
  SignalScope signals("command");
  const auto pairs = libtrain::testing::reversal_pairs(16);
  libtrain::testing::ToyRun run(pairs, {.epochs = 9});
  run.loop.on_step([](const libtrain::StepReport& step) {
    if (step.step != 2) return;
    std::raise(SIGTERM);
    std::raise(SIGTERM);
  });
  CHECK_FALSE(signals.run(run.loop, "command"));
  CHECK(signals.stopped_by() == SIGTERM);
  CHECK(run.loop.state().steps == 2);
}

}  // namespace seq2seq
