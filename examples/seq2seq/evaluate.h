/// Predicting and scoring with a trained model.
#pragma once
#include <cstdio>
#include <functional>
#include <iosfwd>
#include <span>

#include "examples/seq2seq/score.h"
#include "examples/seq2seq/trained_model.h"
#include "libtrain/nn/decode.h"

namespace seq2seq {

/// How many sources are decoded together, with so many beams each and none longer than `longest` tokens on a side: what needs no more memory than
/// a mini-batch of the training did, by --batch-pairs and --batch-tokens; at least 1.
int64_t sources_at_a_time(const Options& options, int64_t beams, int64_t longest);

/// The predicted tokens for each example: the best that the search finds. `tell` is told how many are done, again and again.
std::vector<std::vector<std::string>> predict(const TrainedModel& model, std::span<const Example> examples,
                                              const libtrain::BeamOptions& search,
                                              const std::function<void(int64_t done)>& tell = {});

/// Predicts, with a count on a terminal, and scores against the references.
struct Scored {
  std::vector<std::vector<std::string>> predictions;
  Score score;
};
Scored predict_and_score(const TrainedModel& model, std::span<const Example> examples,
                         const libtrain::BeamOptions& search);

/// A dozen examples, evenly spaced, with prediction and references, in aligned columns.
std::string sample_table(std::span<const Example> examples, const std::vector<std::vector<std::string>>& predictions,
                         libtrain::TokenKind kind);

/// What the last line of stdout says; fields below 0 are written as null.
struct Result {
  std::string task, device;
  double per = -1, wer = -1;
  int64_t words = 0;
  double train_seconds = -1, target_tokens_per_second = -1;
};
/// {"task":"g2p","per":9.87,"wer":38.12,"words":6198,"train_seconds":71.3,"target_tokens_per_second":28034,"device":"cpu"}
std::string result_json(const Result& result);

/// Throws libtrain::IoError when what was written to `out` did not arrive.
void check_stdout(const std::ostream& out);

/// The subcommands. Return the exit status.
int run_evaluate(const Options& options);
int run_predict(const Options& options, std::FILE* in, std::ostream& out);

}  // namespace seq2seq
