#include "examples/seq2seq/task.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "examples/seq2seq/cmudict.h"
#include "libtrain/io/hash.h"

namespace seq2seq {
namespace {

using libtrain::DataError;
using libtrain::format_message;
using libtrain::TokenKind;
using libtrain::Vocabulary;

using Examples = std::vector<Example>;

/// Where the built-in dictionary lies: as asked, or in the source tree that this program was built from.
std::string cmudict_path(const Options& options) {
  if (!options.cmudict.empty()) return options.cmudict;
  const std::string path = SEQ2SEQ_DATA_DIR "/cmudict-en-us.dict";
  if (!std::filesystem::exists(path))
    throw DataError(format_message("[{}] is not there; name the dictionary with --cmudict FILE", path));
  return path;
}

/// As read_pairs() does for files.
void check_length(const Example& example, const std::string& path, const Options& options) {
  size_t longest = example.source_tokens.size();
  for (const auto& target : example.targets) longest = std::max(longest, target.size());
  if (longest > size_t(options.max_length))
    throw DataError(format_message("[{}] '{}' has {} tokens on a side, expected at most {}; raise --max-length", path,
                                   example.source, longest, options.max_length));
}

/// The words of one split of CMUdict.
Examples cmudict_examples(const std::vector<Entry>& entries, Split split, const std::string& path,
                          const Options& options) {
  Examples examples;
  for (const Entry& entry : entries) {
    if (split_of(entry.word) != split) continue;
    Example example{entry.word, libtrain::tokenize(entry.word, TokenKind::kChars), {}};
    for (const std::string& phones : entry.pronunciations)
      example.targets.push_back(libtrain::tokenize(phones, TokenKind::kWords));
    check_length(example, path, options);
    examples.push_back(std::move(example));
  }
  return examples;
}

/// The pairs of a file, lines with the same source together, in the order of their first line.
Examples file_examples(const std::string& path, const Options& options, TokenKind source, TokenKind target,
                       int64_t& blank) {
  int64_t skipped = 0;
  const auto pairs = libtrain::read_pairs(
      path, {.source_tokens = source, .target_tokens = target, .max_length = options.max_length}, &skipped);
  blank += skipped;
  Examples examples;
  std::map<std::string, size_t> place;
  for (const auto& pair : pairs) {
    const auto [found, is_new] = place.try_emplace(pair.source, examples.size());
    if (is_new) examples.push_back({pair.source, libtrain::tokenize(pair.source, source), {}});
    examples[found->second].targets.push_back(libtrain::tokenize(pair.target, target));
  }
  return examples;
}

std::vector<libtrain::Pair> encode(const Examples& examples, const Codec& codec) {
  std::vector<libtrain::Pair> pairs;
  for (const Example& example : examples)
    for (const auto& target : example.targets)
      pairs.push_back({codec.encode_source(example), codec.target.encode(target)});
  return pairs;
}

/// Counts each source once.
Vocabulary vocabulary_of(const Examples& examples, bool targets, const libtrain::VocabularyOptions& limits) {
  std::vector<std::vector<std::string>> sequences;
  for (const Example& example : examples)
    if (targets)
      sequences.insert(sequences.end(), example.targets.begin(), example.targets.end());
    else
      sequences.push_back(example.source_tokens);
  return Vocabulary::build(sequences, limits);
}

Codec new_codec(const Examples& train, const Options& options, TokenKind source_kind, TokenKind target_kind) {
  int64_t longest = 0;
  for (const Example& example : train)
    for (const auto& target : example.targets) longest = std::max(longest, int64_t(target.size()));
  const libtrain::VocabularyOptions limits{options.min_count, options.vocab_size};
  if (options.tying != "all")
    return {source_kind, target_kind, vocabulary_of(train, false, limits), vocabulary_of(train, true, limits), longest};
  std::vector<std::vector<std::string>> both;  // one table needs one vocabulary
  for (const Example& example : train) {
    both.push_back(example.source_tokens);
    both.insert(both.end(), example.targets.begin(), example.targets.end());
  }
  const Vocabulary joint = Vocabulary::build(both, limits);
  return {source_kind, target_kind, joint, joint, longest};
}

struct TextTask {
  Examples train, valid, test;
};

TextTask load_texts(const Options& options, TokenKind source, TokenKind target, int64_t& blank) {
  if (options.builtin_task()) {
    const std::string path = cmudict_path(options);
    const auto entries = read_cmudict(path);
    const auto part = [&](Split split) { return cmudict_examples(entries, split, path, options); };
    return {part(Split::kTrain), part(Split::kValid), part(Split::kTest)};
  }
  const auto read = [&](const std::string& path) {
    return path.empty() ? Examples() : file_examples(path, options, source, target, blank);
  };
  return {read(options.train), read(options.valid), read(options.test)};
}

}  // namespace

int64_t count_unknown(std::span<const Example> examples, const Codec& codec, bool targets) {
  const auto unknown = [](const std::vector<int32_t>& ids) { return std::ranges::count(ids, libtrain::kUnk); };
  int64_t total = 0;
  for (const Example& example : examples) {
    total += unknown(codec.encode_source(example));
    for (const auto& target : example.targets)
      if (targets) total += unknown(codec.target.encode(target));
  }
  return total;
}

Task load_task(const Options& options, const Codec* codec) {
  const std::string target_tokens = !options.target_tokens.empty() ? options.target_tokens
                                    : options.builtin_task()       ? "words"
                                                                   : "chars";
  const TokenKind source_kind = token_kind("source-tokens", options.source_tokens),
                  target_kind = token_kind("target-tokens", target_tokens);
  int64_t blank = 0;
  TextTask texts = load_texts(options, source_kind, target_kind, blank);
  Task task{.name = options.builtin_task() ? "g2p" : "tsv",
            .codec = codec ? *codec : new_codec(texts.train, options, source_kind, target_kind),
            .blank_lines = blank};
  task.train = encode(texts.train, task.codec);
  task.valid = encode(texts.valid, task.codec);
  for (const libtrain::Pair& pair : task.train)
    task.rare_symbols +=
        std::ranges::count(pair.source, libtrain::kUnk) + std::ranges::count(pair.target, libtrain::kUnk);
  task.unknown_symbols = count_unknown(texts.valid, task.codec, true) + count_unknown(texts.test, task.codec, true);
  task.test = std::move(texts.test);
  return task;
}

DataId data_id(const std::vector<libtrain::Pair>& pairs) {
  std::vector<int32_t> ids;
  for (const auto& pair : pairs)
    for (const auto* side : {&pair.source, &pair.target}) {
      ids.push_back(int32_t(side->size()));
      ids.insert(ids.end(), side->begin(), side->end());
    }
  return {int64_t(pairs.size()), libtrain::xxh3_128_hex(std::as_bytes(std::span(ids)))};
}

Examples load_test(const Options& options, const Codec& codec) {
  int64_t blank = 0;
  if (!options.test.empty()) return file_examples(options.test, options, codec.source_kind, codec.target_kind, blank);
  if (!options.builtin_task())
    throw DataError("[evaluate] this model was trained on files: name the pairs to score with --test FILE");
  const std::string path = cmudict_path(options);
  return cmudict_examples(read_cmudict(path), Split::kTest, path, options);
}

Example source_example(const std::string& text, const Codec& codec) {
  return {text, libtrain::tokenize(text, codec.source_kind), {}};
}

}  // namespace seq2seq
