/// What is trained on and scored: pairs of token ids, their vocabularies, and references as text.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "examples/seq2seq/options.h"

namespace seq2seq {

/// A source and every target that counts as right for it, as tokens.
struct Example {
  std::string source;
  std::vector<std::string> source_tokens;
  std::vector<std::vector<std::string>> targets;
};

/// How texts become ids: two vocabularies and the way of cutting.
struct Codec {
  libtrain::TokenKind source_kind, target_kind;
  libtrain::Vocabulary source, target;
  int64_t longest_target = 0;  // in training, in tokens

  std::vector<int32_t> encode_source(const Example& example) const { return source.encode(example.source_tokens); }
};

/// What tells one set of training pairs from another.
struct DataId {
  int64_t pairs = 0;
  std::string hash;
  bool operator==(const DataId&) const = default;
};

/// Training and validation as ids, test as text. Every target of an example is a training pair of its own.
struct Task {
  std::string name;  // "g2p" for CMUdict, "tsv" for files of the user
  Codec codec;
  std::vector<libtrain::Pair> train = {}, valid = {};
  std::vector<Example> test = {};
  int64_t rare_symbols = 0;     // tokens of the training pairs that the vocabularies leave out
  int64_t unknown_symbols = 0;  // tokens of valid and test that they do not have
  int64_t blank_lines = 0;      // skipped in files of the user
};

/// Reads what the options name: CMUdict by default, files otherwise. With `codec` (of a run that goes on) its vocabularies are used;
/// otherwise they are built from the training pairs. Throws libtrain::DataError naming file and line.
Task load_task(const Options& options, const Codec* codec = nullptr);

/// The number of pairs, and a hash of all their ids in order.
DataId data_id(const std::vector<libtrain::Pair>& pairs);

/// The examples that `evaluate` scores: those of --test, or the test words of CMUdict.
std::vector<Example> load_test(const Options& options, const Codec& codec);

/// One source as an example without targets. Throws libtrain::DataError when it is not UTF-8.
Example source_example(const std::string& text, const Codec& codec);

/// Tokens of the examples' sources (and targets, if `targets`) that the vocabularies do not have.
int64_t count_unknown(std::span<const Example> examples, const Codec& codec, bool targets);

}  // namespace seq2seq
