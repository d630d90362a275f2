#include "examples/seq2seq/saver.h"

#include "catch.h"
#include "data/temporary_file.h"

namespace seq2seq {
namespace {

/// A model, and a folder for its checkpoints.
struct SavedRun {
  libtrain::test::TemporaryFile place{""};
  Options options;
  TrainedModel model;
  std::vector<std::string> said;

  SavedRun() : options(small(place.folder())), model(options, one_letter()) {}

  static Options small(const std::string& folder) {
    Options options;
    options.out = folder + "/run";
    options.size = options.feed_forward = 4;
    return options;
  }
  static Codec one_letter() {
    const auto vocabulary = libtrain::Vocabulary::build({{"a"}});
    return {libtrain::TokenKind::kChars, libtrain::TokenKind::kChars, vocabulary, vocabulary, 1};
  }
  Saver saver(int64_t saved_step = -1) {
    return Saver(
        options, model, [] { return "{}"; }, [this](const std::string& line) { said.push_back(line); }, saved_step);
  }
};

}  // namespace

TEST_CASE("saver: the best is one that a run which goes on has behind it") {
  SavedRun run;
  Saver first = run.saver();
  CHECK_FALSE(first.best());
  first.save({.steps = 3}, 0.7, false);
  first.save({.steps = 5}, 0.9, false);
  first.save({.steps = 8}, 0.2, false);
  CHECK(run.saver(8).best()->score == 0.2);
  CHECK(run.saver(5).best()->score == 0.7);  // what is newer could not be loaded, or the run would go on from there
  CHECK_FALSE(run.saver(2).best());
}

TEST_CASE("saver: a state is saved once, and once more when its score comes later") {
  SavedRun run;
  Saver saver = run.saver();
  saver.save({.steps = 3}, {}, false);
  saver.save({.steps = 3}, {}, false);
  CHECK(run.said == std::vector<std::string>{"saved " + run.options.out + "/step-00000003"});
  CHECK_FALSE(saver.best());
  saver.save({.steps = 3}, 0.5, false);
  saver.save({.steps = 3}, 0.5, false);
  CHECK(run.said.size() == 2);
  CHECK(saver.best()->score == 0.5);
  CHECK(libtrain::read_checkpoint(run.options.out + "/step-00000003").score == 0.5);
  run.saver(3).save({.steps = 3}, {}, false);
  CHECK(run.said.size() == 2);
}

}  // namespace seq2seq
