#include "libtrain/nn/decode.h"

#include "libtrain/ops/unpack_rows.h"

namespace libtrain {
namespace {

using Ids = std::vector<int32_t>;

/// Memory rows and lengths of those sources that are still being decoded.
struct Memory {
  Tensor rows;
  Packing packing;
};

/// The most probable token that may be produced, from one row of logits.
int32_t best_token(const float* logits, int64_t vocab) {
  int32_t best = kEos;
  for (int64_t v = kSpecialTokens; v < vocab; ++v)
    if (logits[v] > logits[best]) best = int32_t(v);
  return best;
}

/// Decoder input of the open sequences: kBos and what they have so far.
Batch decoder_input(const std::vector<Ids>& outputs, const std::vector<size_t>& open, Device device) {
  Batch batch;
  std::vector<int64_t> lengths;
  Ids ids;
  for (const size_t s : open) {
    ids.push_back(kBos);
    ids.insert(ids.end(), outputs[s].begin(), outputs[s].end());
    lengths.push_back(int64_t(outputs[s].size()) + 1);
  }
  batch.target = make_packing(lengths, device);
  batch.target_in = Tensor::from(std::span<const int32_t>(ids), {int64_t(ids.size())}, device);
  return batch;
}

/// Hidden state of each sequence's last position.
Tensor last_rows(const Tensor& hidden, const Packing& packing) {
  Ids ends = packing.cu_seqlens.to_vector<int32_t>();
  ends.erase(ends.begin());
  for (int32_t& end : ends) --end;
  return unpack_rows(hidden, Tensor::from(std::span<const int32_t>(ends), {int64_t(ends.size())}, hidden.device()));
}

/// Drops the memory of sequences that are not kept; `kept` are rising numbers within `memory`.
Memory keep(const Memory& memory, const std::vector<size_t>& kept) {
  const auto ends = memory.packing.cu_seqlens.to_vector<int32_t>();
  Ids index;
  std::vector<int64_t> lengths;
  for (const size_t s : kept) {
    for (int32_t row = ends[s]; row < ends[s + 1]; ++row) index.push_back(row);
    lengths.push_back(ends[s + 1] - ends[s]);
  }
  const Device device = memory.rows.device();
  const Tensor rows =
      unpack_rows(memory.rows, Tensor::from(std::span<const int32_t>(index), {int64_t(index.size())}, device));
  return {rows, make_packing(lengths, device)};
}

}  // namespace

std::vector<Ids> greedy_decode(const Transformer& model, std::span<const Ids> sources, int64_t max_length,
                               Device device) {
  const int64_t positions = model.options().max_positions;
  LIBTRAIN_CHECK(
      max_length >= 0 && max_length < positions,
      "[greedy_decode] max_length must be in [0, {}), got {}; the model has {} positions, of which kBos takes one",
      positions, max_length, positions);
  const NoTape nothing_recorded;
  std::vector<Pair> pairs;
  for (const Ids& source : sources) {
    LIBTRAIN_CHECK(
        int64_t(source.size()) < positions,
        "[greedy_decode] source {} has {} ids, the model takes {} and kEos; shorten it, or train with larger "
        "max_positions",
        pairs.size(), source.size(), positions - 1);
    pairs.push_back({source, {}});
  }
  const Batch input =
      make_batch(std::span<const Pair>(pairs), {.source_vocab = model.options().source_vocab, .device = device});
  Memory memory{model.encode(input.source_ids, input.source), input.source};

  std::vector<Ids> outputs(sources.size());
  std::vector<size_t> open(sources.size());
  for (size_t s = 0; s < open.size(); ++s) open[s] = s;
  for (int64_t length = 0; length < max_length && !open.empty(); ++length) {
    const Batch step = decoder_input(outputs, open, device);
    const Tensor hidden = model.decode(step.target_in, step.target, memory.rows, memory.packing);
    const auto logits = model.project(last_rows(hidden, step.target)).cast(DType::f32).to_vector<float>();
    const int64_t vocab = model.options().target_vocab;
    std::vector<size_t> still_open, kept;
    for (size_t i = 0; i < open.size(); ++i) {
      const int32_t token = best_token(logits.data() + int64_t(i) * vocab, vocab);
      if (token == kEos) continue;
      outputs[open[i]].push_back(token);
      still_open.push_back(open[i]);
      kept.push_back(i);
    }
    if (kept.size() < open.size()) memory = keep(memory, kept);
    open = still_open;
  }
  return outputs;
}

}  // namespace libtrain
