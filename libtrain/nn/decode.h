/// What a trained Transformer makes of sources. Sources are ids without kEos, as in Pair; so are results. Nothing is recorded. Keys and values of
/// each position are kept (DecoderState), so that a token costs one row of the decoder. Sources do not influence each other but for rounding, and
/// those that are finished cost nothing more. kPad, kBos and kUnk are never produced. `device` is that of the model's parameters.
/// Both functions throw InvalidArgument for ids outside the vocabulary or that are kPad, kBos or kEos, for a source of max_positions ids or more, and for a max_length outside
/// [0, max_positions).
#pragma once
#include <span>
#include <vector>

#include "libtrain/nn/transformer.h"

namespace libtrain {

/// The most probable next token, again and again, until kEos or `max_length` tokens (kEos not counted): one target for each source. Ties go to
/// the lower id.
std::vector<std::vector<int32_t>> greedy_decode(const Transformer& model, std::span<const std::vector<int32_t>> sources,
                                                int64_t max_length, Device device = Device::kCpu);

/// How beam_decode() searches.
struct BeamOptions {
  /// Unfinished targets that are followed at a time, for each source; at least 1, which without a length penalty is the greedy search. Default 4.
  int64_t beams = 4;
  /// How much longer targets are favoured: scores are log-probabilities over ((5 + length) / 6)^length_penalty, kEos counted in the length
  /// (Wu et al. 2016, equation 14, without coverage). 0: not at all. Default 0.6.
  double length_penalty = 0.6;
};

/// A target and how probable the model takes it to be.
struct Hypothesis {
  std::vector<int32_t> ids;    ///< without kEos
  double log_probability = 0;  ///< natural logarithm, of the whole with kEos
  double score = 0;            ///< log_probability over the length penalty
};

/// Beam search: of the continuations of a source's targets, the `beams` most probable are followed, until as many have ended among them and none
/// that is open can still score better than the worst of the `beams` best, or all have `max_length` tokens (kEos not counted), where they must
/// end. Log-probabilities only fall: none can where the most probable one would not if it lost nothing more, at the length that the penalty favours
/// most. So the stop costs nothing that was followed (Huang, Zhao and Ma, "When to Finish? Optimal Beam Search for Neural Text Generation", EMNLP
/// 2017); but with a penalty above 0, a large `max_length` makes it come late. For each source at least one target and at most `beams`, the best score first. Targets whose score is NaN are left out; where that leaves
/// none, one without ids stands for them, of score NaN. Also throws InvalidArgument for options outside their range.
std::vector<std::vector<Hypothesis>> beam_decode(const Transformer& model,
                                                 std::span<const std::vector<int32_t>> sources, int64_t max_length,
                                                 const BeamOptions& options = {}, Device device = Device::kCpu);

}  // namespace libtrain
