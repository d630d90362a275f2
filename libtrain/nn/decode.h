#pragma once
#include <span>
#include <vector>

#include "libtrain/nn/transformer.h"

namespace libtrain {

/// The most probable next token, again and again, until kEos or `max_length` tokens (kEos not counted): one target for each source.
/// Sources are ids without kEos, as in Pair; so are the results. Records nothing. Sequences do not influence each other, and those that are
/// finished cost nothing more. Ties go to the lower id; kPad, kBos and kUnk are never produced.
/// Every token runs the decoder over the whole prefix again: keys and values are not kept. `device` is that of the model's parameters.
/// Throws InvalidArgument for ids outside the vocabulary, for a source of max_positions ids or more, and for a max_length outside
/// [0, max_positions).
std::vector<std::vector<int32_t>> greedy_decode(const Transformer& model, std::span<const std::vector<int32_t>> sources,
                                                int64_t max_length, Device device = Device::kCpu);

}  // namespace libtrain
