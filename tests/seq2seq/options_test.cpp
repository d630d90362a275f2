#include "examples/seq2seq/options.h"

#include <cmath>
#include <vector>

#include "catch.h"
#include "data/temporary_file.h"
#include "examples/seq2seq/command_line.h"

namespace seq2seq {
namespace {

using libtrain::InvalidArgument;
using libtrain::test::message_of;

Options parse(std::vector<const char*> words, Command expected = Command::kTrain) {
  words.insert(words.begin(), "seq2seq");
  Options options;
  const Command command = parse_command_line(int(words.size()), words.data(), options);
  CHECK(command == expected);
  return options;
}

bool is_near(double value, double expected) { return std::abs(value - expected) < 1e-12; }

std::string complaint(const std::vector<const char*>& words) {
  return message_of<InvalidArgument>([&] { parse(words); });
}

TEST_CASE("options: flags, defaults, and which were given") {
  const Options options = parse({"train", "--size", "64", "--dropout=0.25", "--post-norm", "--train", "a b.tsv"});
  CHECK(options.size == 64);
  CHECK(options.dropout == 0.25);
  CHECK(options.post_norm);
  CHECK(options.train == "a b.tsv");
  CHECK(options.heads == Options().heads);
  CHECK(options.given == std::set<std::string>{"size", "dropout", "post-norm", "train"});
  CHECK(parse({"train", "--size", "64", "--size", "32"}).size == 32);
}

TEST_CASE("options: the command line is kept in the form that a shell reads") {
  CHECK(parse({"train", "--train", "it's a.tsv", "--out", "x/y"}).command ==
        "seq2seq train --train 'it'\\''s a.tsv' --out x/y");
}

TEST_CASE("options: each command has its flags") {
  const Options predict = parse({"predict", "--model", "run", "--batch-lines", "1"}, Command::kPredict);
  CHECK(predict.model == "run");
  CHECK(predict.batch_lines == 1);
  CHECK(parse({"evaluate", "--model", "run", "--test", "t"}, Command::kEvaluate).test == "t");
  const Options searching =
      parse({"evaluate", "--model", "run", "--beams", "4", "--length-penalty", "0"}, Command::kEvaluate);
  CHECK(searching.beams == 4);
  CHECK(searching.length_penalty == 0);
  CHECK(complaint({"predict", "--model", "run", "--beams", "0"}) == "--beams must be >= 1, got 0");
  CHECK(complaint({"predict", "--model", "run", "--beams", "1001"}) == "--beams must be <= 1000, got 1001");
  CHECK(complaint({"predict", "--model", "run", "--length-penalty", "nan"}) ==
        "--length-penalty must be in [-10, 10], got nan");
  CHECK(complaint({"predict"}) == "--model is required: the folder of a run, or of one checkpoint");
}

TEST_CASE("options: what is unknown comes with a suggestion") {
  CHECK(complaint({"train", "--drop-out", "1"}) ==
        "unknown option '--drop-out' (did you mean '--dropout'?); see seq2seq train --help");
  CHECK(complaint({"train", "--epoch=3"}) ==
        "unknown option '--epoch=3' (did you mean '--epochs'?); see seq2seq train --help");
  CHECK(complaint({"predict", "--modle", "x"}) ==
        "unknown option '--modle' (did you mean '--model'?); see seq2seq predict --help");
  CHECK(complaint({"train", "--lr=1"}) ==
        "unknown option '--lr=1' (did you mean '--learning-rate'?); see seq2seq train --help");
  CHECK(complaint({"predict", "--model", "x", "--lr=1"}) == "unknown option '--lr=1'; see seq2seq predict --help");
  CHECK(complaint({"predict", "--model", "x", "--threads", "2"}) ==
        "unknown option '--threads' (the environment variable OMP_NUM_THREADS says how many); see seq2seq predict "
        "--help");
  CHECK(complaint({"train", "--qqqqqqqqqqqqq"}) == "unknown option '--qqqqqqqqqqqqq'; see seq2seq train --help");
  CHECK(complaint({"trian"}) == "unknown argument 'trian' (did you mean 'train'?); see seq2seq --help");
  CHECK(complaint({}) == "expected a command: train, evaluate or predict; see seq2seq --help");
}

TEST_CASE("options: values that cannot be are refused by the name of their flag") {
  struct Case {
    std::vector<const char*> words;
    const char* message;
  };
  const std::vector<Case> cases{
      {{"--size", "1e3"}, "--size: expected a whole number, got '1e3'; see seq2seq train --help"},
      {{"--size", "12x"}, "--size: expected a whole number, got '12x'; see seq2seq train --help"},
      {{"--size", "99999999999999999999"},
       "--size: expected a whole number, got '99999999999999999999'; see seq2seq train --help"},
      {{"--dropout", "half"}, "--dropout: expected a number, got 'half'; see seq2seq train --help"},
      {{"--size", "0"}, "--size must be >= 1, got 0"},
      {{"--size", "18"}, "--heads 4 must divide --size 18; change one of them"},
      {{"--max-length", "0"}, "--max-length must be >= 1, got 0"},
      {{"--max-length", "1000000001"}, "--max-length must be <= 1000000000, got 1000000001"},
      {{"--epochs", "9223372036854775807"}, "--epochs must be <= 1000000000, got 9223372036854775807"},
      {{"--encoder-layers", "1001"}, "--encoder-layers and --decoder-layers must be <= 1000, got 1001 and 2"},
      {{"--accumulate", "0"}, "--accumulate must be >= 1, got 0"},
      {{"--epochs", "-1"}, "--epochs must be >= 0, got -1"},
      {{"--train", "ab\xC0.tsv"}, "--train must be UTF-8, got a bad byte at offset 2; use another name"},
      {{"--seed", "-1"}, "--seed must be >= 0, got -1"},
      {{"--batch-pairs", "0"}, "--batch-pairs and --batch-tokens are both 0; one must limit a batch"},
      {{"--dropout", "1"}, "--dropout must be in [0, 1), got 1"},
      {{"--beta2", "nan"}, "--beta2 must be in [0, 1), got nan"},
      {{"--learning-rate", "0"}, "--learning-rate must be > 0 and < 1e30, got 0"},
      {{"--learning-rate", "inf"}, "--learning-rate must be > 0 and < 1e30, got inf"},
      {{"--weight-decay", "-1"}, "--weight-decay must be >= 0, got -1"},
      {{"--out", ""}, "--out must name a folder, got an empty name"},
      {{"--clip-norm", "-1"}, "--clip-norm must be >= 0 (0: no clipping), got -1"},
      {{"--on-nonfinite", "ignore"}, "--on-nonfinite must be skip, rewind or stop, got 'ignore'"},
      {{"--nonfinite-limit", "-1"}, "--nonfinite-limit must be >= 0, got -1"},
      {{"--precision", "fp8"}, "--precision must be f32 or bf16, got 'fp8'"},
      {{"--schedule", "step"}, "--schedule must be constant, linear, cosine or inverse-sqrt, got 'step'"},
      {{"--tying", "some"}, "--tying must be none, target or all, got 'some'"},
      {{"--activation", "tanh"}, "--activation must be relu or gelu, got 'tanh'"},
      {{"--source-tokens", "bytes"}, "--source-tokens must be chars or words, got 'bytes'"},
      {{"--target-tokens", "bytes"}, "--target-tokens must be chars or words, got 'bytes'"},
      {{"--device", "gpu"}, "--device must be cpu, cuda or auto, got 'gpu'"},
  };
  for (const char* flag : {"--train", "--valid", "--test", "--cmudict"})
    CHECK(complaint({"train", flag, ""}) ==
          std::string(flag) + " must name a file, got an empty name; leave it out if you mean none");
  CHECK(complaint({"predict", "--model", ""}) ==
        "--model must name a folder, got an empty name; leave it out if you mean none");
  for (const Case& c : cases) {
    std::vector<const char*> words{"train"};
    words.insert(words.end(), c.words.begin(), c.words.end());
    CHECK(complaint(words) == c.message);
  }
  CHECK(complaint({"train", "--size"}) == "--size: expected a value, got none; see seq2seq train --help");
  CHECK(complaint({"train", "--resume=maybe"}) ==
        "--resume: expected true or false, got 'maybe'; see seq2seq train --help");
}

TEST_CASE("options: a checkpoint keeps every option of a run") {
  const Options options =
      parse({"train", "--train", "t", "--size", "64", "--dropout", "0.1", "--post-norm", "--schedule", "cosine",
             "--learning-rate", "3e-4", "--seed", "7", "--tying", "none", "--target-tokens", "words"});
  Options read;
  update_from_json(read, to_json(options));
  CHECK(to_json(read) == to_json(options));
  CHECK(read.dropout == 0.1);
  CHECK(read.post_norm);
  CHECK(message_of<libtrain::CheckpointError>([&] { update_from_json(read, R"({"size":"big"})"); }) ==
        "[checkpoint] option 'size' cannot be \"big\"; use a checkpoint that this seq2seq has written");
  for (const char* text :
       {R"({"size":1e29})", R"({"size":64.5})", R"({"size":18446744073709551615})", R"({"size":true})"})
    CHECK_THROWS_AS(update_from_json(read, text), libtrain::CheckpointError);  // a conversion that C++ leaves undefined
}

TEST_CASE("options: a run goes on with its own, and contradictions are named") {
  const std::string saved = to_json(parse({"train", "--size", "64", "--epochs", "3", "--seed", "7"}));

  const Options resumed = options_to_resume(parse({"train", "--resume", "--epochs", "5", "--keep", "9"}), saved);
  CHECK(resumed.size == 64);
  CHECK(resumed.seed == 7);
  CHECK(resumed.epochs == 5);
  CHECK(resumed.keep == 9);
  CHECK(resumed.resume);
  CHECK(options_to_resume(parse({"train", "--resume", "--size", "64"}), saved).size == 64);

  const std::string message = message_of<InvalidArgument>([&] {
    options_to_resume(parse({"train", "--resume", "--size", "32"}), saved);
  });
  CHECK(message ==
        "[resume] --size 32 contradicts the run, which was started with 64; drop the flag, or start a new run with "
        "another --out");
}

TEST_CASE("options: what an older checkpoint does not say was as it is by default") {
  const auto resume = [](std::vector<const char*> words) {
    words.insert(words.begin(), {"train", "--resume"});
    return options_to_resume(parse(words), "{}");
  };
  CHECK(message_of<InvalidArgument>([&] {
          resume({"--average-decay", "0.5"});
        }).starts_with("[resume] --average-decay 0.5 contradicts the run, which was started with 0.0; "));
  CHECK(resume({"--vocab-size", "0", "--patience", "3"}).patience == 3);
}

TEST_CASE("options: files that a run would not read, or would need, are refused") {
  const auto refused = [](std::vector<const char*> words) {
    words.insert(words.begin(), "train");
    return message_of<InvalidArgument>([&] { check_data_options(parse(words)); });
  };
  CHECK(refused({"--train", "t", "--cmudict", "d"}) ==
        "--cmudict d: with --train t no dictionary is read; leave one of them out");
  CHECK(refused({"--train", "t", "--valid-every", "9"}) ==
        "--valid-every 9: there are no pairs to validate; name them with --valid");
  CHECK(
      refused({"--test", "x"}).find("--test x: without --train the pairs to validate and test are those of CMUdict") ==
      0);
  CHECK(refused({"--valid", "x"}).find("--valid x: ") == 0);
  check_data_options(parse({"train", "--valid-every", "9", "--cmudict", "d"}));
  check_data_options(parse({"train", "--train", "t", "--valid", "v", "--test", "x", "--valid-every", "9"}));
}

TEST_CASE("options: --updates decides alone unless --epochs is given too") {
  const auto planned = [](std::vector<const char*> words) {
    words.insert(words.begin(), "train");
    return with_plan(parse(words), 10);
  };
  const Options alone = planned({"--updates", "95"});
  CHECK(alone.epochs == 10);
  CHECK(planned_updates(alone, 10) == 95);
  CHECK(planned({"--updates", "95", "--accumulate", "4"}).epochs == 32);  // 3 updates an epoch
  CHECK(planned_updates(planned({"--updates", "95", "--epochs", "3"}), 10) == 30);
  CHECK(planned_updates(planned({"--updates", "0"}), 10) == 20);
  CHECK(planned({}).epochs == 2);
}

TEST_CASE("options: weights are counted before there is memory for them") {
  for (const std::vector<const char*>& words : {std::vector<const char*>{},
                                                {"--post-norm", "--encoder-layers", "3"},
                                                {"--tying", "none", "--feed-forward", "7"},
                                                {"--tying", "all", "--size", "12", "--decoder-layers", "1"}}) {
    std::vector<const char*> all{"train", "--max-length", "4"};
    all.insert(all.end(), words.begin(), words.end());
    const auto model = model_options(parse(all), 9, 9);
    libtrain::Parameters parameters;
    const libtrain::Transformer built(parameters, model);
    CHECK(count_weights(model) == double(parameters.count()));
  }
  const Options large = parse({"train", "--size", "8192", "--feed-forward", "65536", "--encoder-layers", "12"});
  Options limited = large;
  limited.memory_limit = 1000;
  const std::string message =
      message_of<libtrain::OutOfMemory>([&] { check_model_fits(limited, model_options(limited, 40, 50)); });
  CHECK(message.find("out of memory; use a smaller model or a smaller --max-length: ") == 0);
  CHECK(message.find(", and 1000.0 MiB are available") != std::string::npos);
  limited = parse({"train", "--memory-limit", "100"});
  check_model_fits(limited, model_options(limited, 40, 50));
}

TEST_CASE("options: the plan of a training run") {
  Options options = parse({"train", "--epochs", "2", "--accumulate", "4", "--warmup", "10"});
  const auto by_epochs = train_options(options, 50);  // 13 updates an epoch, 26 in all
  CHECK(by_epochs.epochs == 2);
  CHECK(by_epochs.max_updates == 0);
  CHECK(is_near(by_epochs.schedule(5), 0.5));
  CHECK(is_near(by_epochs.schedule(10), 1));
  CHECK(is_near(by_epochs.schedule(18), 0.5));
  CHECK(is_near(by_epochs.schedule(26), 0));

  options.updates = 20;
  CHECK(is_near(train_options(options, 50).schedule(15), 0.5));
  options.updates = 5;  // shorter than the warm-up
  CHECK(is_near(train_options(options, 50).schedule(4), 1));
  options.schedule = "inverse-sqrt";
  options.warmup = 0;
  CHECK(is_near(train_options(options, 50).schedule(4), 0.5));
}

}  // namespace
}  // namespace seq2seq
