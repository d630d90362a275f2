#include "examples/seq2seq/task.h"

#include "catch.h"
#include "data/temporary_file.h"
#include "examples/seq2seq/trained_model.h"

namespace seq2seq {
namespace {

using Tokens = std::vector<std::string>;
using libtrain::test::message_of;
using libtrain::test::TemporaryFile;

Options files(const TemporaryFile& train, const TemporaryFile* test = nullptr) {
  Options options;
  options.train = train.path();
  if (test) options.test = options.valid = test->path();
  return options;
}

// Hangul to IPA with combining marks; the first source has two targets.
constexpr const char* kPairs = "가나\tka na\n다\tta\n\n가나\tk\u0250\u0303 na\n";

TEST_CASE("task: pairs of a file, each a training pair, lines of one source together") {
  const TemporaryFile train(kPairs), test("가라\tpa\n가라\tta\n");
  Options options = files(train, &test);
  options.target_tokens = "words";
  const Task task = load_task(options);
  CHECK(task.name == "tsv");
  CHECK(task.train.size() == 3);
  CHECK(task.blank_lines == 1);
  CHECK(task.codec.longest_target == 2);
  CHECK(task.codec.source.size() == libtrain::kSpecialTokens + 3);
  REQUIRE(task.test.size() == 1);
  CHECK(task.test[0].source_tokens == Tokens{"가", "라"});
  CHECK(task.test[0].targets == std::vector<Tokens>{{"pa"}, {"ta"}});
  CHECK(task.valid.size() == 2);
  CHECK(task.unknown_symbols == 4);  // 라 and pa, in the file to validate and again in the file to test
  CHECK(task.codec.encode_source(task.test[0])[1] == libtrain::kUnk);
}

TEST_CASE("task: by characters, a mark stays with its letter") {
  const TemporaryFile train(kPairs);
  const Task task = load_task(files(train));
  CHECK(task.codec.target.id("\u0250\u0303") != libtrain::kUnk);
  CHECK(task.codec.target.id("\u0250") == libtrain::kUnk);
  CHECK(task.codec.longest_target == 5);
}

TEST_CASE("task: tied tables have one vocabulary") {
  const TemporaryFile train(kPairs);
  Options options = files(train);
  CHECK_FALSE(load_task(options).codec.source == load_task(options).codec.target);
  options.tying = "all";
  const Codec codec = load_task(options).codec;
  CHECK(codec.source == codec.target);
  CHECK(codec.source.id("가") != libtrain::kUnk);
  CHECK(codec.source.id("k") != libtrain::kUnk);
}

TEST_CASE("task: a run that goes on keeps its vocabularies, and other pairs are noticed") {
  const TemporaryFile train(kPairs), swapped("다\tta\n가나\tka na\n가나\tk\u0250\u0303 na\n"), other("가\tka\n");
  const Task before = load_task(files(train));
  const Task again = load_task(files(train), &before.codec);
  CHECK(data_id(again.train) == data_id(before.train));
  CHECK(data_id(before.train).pairs == 3);
  const Task later = load_task(files(other), &before.codec);
  CHECK(later.codec.source == before.codec.source);
  CHECK_FALSE(data_id(later.train) == data_id(before.train));
  CHECK_FALSE(data_id(load_task(files(swapped), &before.codec).train) == data_id(before.train));

  // The same ids cut elsewhere are other pairs.
  CHECK_FALSE(data_id({{{4, 5}, {6}}}) == data_id({{{4}, {5, 6}}}));
}

TEST_CASE("task: rare symbols are left out of the vocabularies, and counted") {
  const TemporaryFile train("가나\ta b a\n가다\ta c\n가가\tb\n"),
      valid("가나다라\ta b d\n");  // 가 4, 나 1, 다 1; a 3, b 2, c 1
  Options options = files(train);
  options.valid = valid.path();
  options.target_tokens = "words";
  Task task = load_task(options);
  CHECK(task.codec.source.size() == libtrain::kSpecialTokens + 3);
  CHECK(task.rare_symbols == 0);
  CHECK(task.unknown_symbols == 2);  // 라 and d
  options.min_count = 2;
  task = load_task(options);
  CHECK(task.codec.source.size() == libtrain::kSpecialTokens + 1);
  CHECK(task.codec.target.size() == libtrain::kSpecialTokens + 2);
  CHECK(task.rare_symbols == 3);     // 나, 다 and c
  CHECK(task.unknown_symbols == 4);  // 나, 다, 라 and d
  CHECK(task.train[0].source == std::vector<int32_t>{libtrain::kSpecialTokens, libtrain::kUnk});
  options.min_count = 1;
  options.vocab_size = libtrain::kSpecialTokens + 1;
  task = load_task(options);
  CHECK(task.codec.target.size() == libtrain::kSpecialTokens + 1);
  CHECK(task.rare_symbols == 5);  // b twice, too
  options.tying = "all";
  CHECK(load_task(options).codec.source.size() == libtrain::kSpecialTokens + 1);
}

TEST_CASE("task: what a checkpoint says of it") {
  const TemporaryFile train(kPairs);
  const Options options = files(train);
  const Task task = load_task(options);
  const std::string program = program_json(options, task.codec, data_id(task.train));
  const Codec codec = codec_from_json(program);
  CHECK(codec.source == task.codec.source);
  CHECK(codec.target == task.codec.target);
  CHECK(codec.longest_target == 5);
  CHECK(data_id_from_json(program) == data_id(task.train));
  CHECK(validations_from_json(program) == Validations{});
  CHECK(validations_from_json(program_json(options, task.codec, data_id(task.train), {70, 7})) == Validations{70, 7});
  std::string older = program;  // that says nothing of them
  older.replace(older.find("validations"), 11, "observances");
  CHECK(validations_from_json(older) == Validations{});

  const auto refused = [](const std::string& text) {
    return message_of<libtrain::CheckpointError>([&] { codec_from_json(text); });
  };
  CHECK(refused("{}") ==
        "[checkpoint] field 'program': expected options, source and target, got none; use a checkpoint that this "
        "seq2seq has "
        "written");
  std::string damaged = program;
  damaged.replace(damaged.find("\"<unk>\""), 7, "\"<bad>\"");
  CHECK(refused(damaged).find("[checkpoint] field 'program/source': ") == 0);
  damaged = program;
  damaged.replace(damaged.find("\"longest\""), 9, "\"shortst\"");
  CHECK(refused(damaged).find("[checkpoint] field 'program/target': ") == 0);
}

TEST_CASE("task: pairs to score") {
  const TemporaryFile train(kPairs);
  const Options options = files(train);
  const Codec codec = load_task(options).codec;
  CHECK(message_of<libtrain::DataError>([&] { load_test(options, codec); }) ==
        "[evaluate] this model was trained on files: name the pairs to score with --test FILE");
  CHECK(source_example("가x", codec).source_tokens == Tokens{"가", "x"});
  const std::vector<Example> examples{source_example("가x", codec), source_example("", codec)};
  CHECK(count_unknown(examples, codec, false) == 1);
}

TEST_CASE("task: the built-in dictionary") {
  const TemporaryFile dictionary("abbey AE B IY\nabbey(2) AE B EY\n");
  Options options;
  options.cmudict = dictionary.path() + ".missing";
  CHECK(message_of<libtrain::DataError>([&] { load_task(options); }).find(dictionary.path()) != std::string::npos);
  options.cmudict = "";
  const Task task = load_task(options);
  CHECK(task.name == "g2p");
  CHECK(task.train.size() > 100000);
  CHECK(task.test.size() > 6000);
  CHECK(task.unknown_symbols == 0);
  CHECK(task.codec.target.id("AE") != libtrain::kUnk);
}

}  // namespace
}  // namespace seq2seq
