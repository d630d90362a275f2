/// Rows of the table for attention.
#pragma once
#include <numeric>
#include <optional>

#include "references.h"

namespace libtrain::testing {

/// Lengths of the sequences of a row, and how many rows of no sequence follow them.
struct Lengths {
  std::vector<int64_t> queries, keys;
  int64_t tail = 0;
};

inline OpCase attention_row(const std::string& kind, const Lengths& lengths, int64_t heads, int64_t head_dim, float p,
                            bool big = false) {
  const bool self = kind != "cross", causal = kind == "causal";
  const Lengths sequences{lengths.queries, self ? lengths.queries : lengths.keys, lengths.tail};
  const auto total = [&](const std::vector<int64_t>& sizes) {
    return std::accumulate(sizes.begin(), sizes.end(), sequences.tail);
  };
  const int64_t queries = total(sequences.queries), keys = total(sequences.keys), width = heads * head_dim;
  const AttentionCase reference{
      sequences.queries, sequences.keys, heads, head_dim, causal, p, {.seed = 5, .step = 9}, 3};
  double pairs = 0;
  for (size_t s = 0; s < sequences.queries.size(); ++s) pairs += double(sequences.queries[s] * sequences.keys[s]);
  return {
      .name = format_message("attention {} {}x{} heads {} head_dim {} p {}", kind, queries, keys, heads, head_dim, p),
      .inputs = self ? std::vector<Input>{{{queries, 3 * width}}}
                     : std::vector<Input>{{{queries, width}}, {{keys, 2 * width}}},
      .call =
          [=](const auto& in) {
            std::optional<Tape> tape;  // without one nothing is dropped
            if (p > 0 && !Tape::active()) tape.emplace();
            const Device where = in[0].device();
            const Packing q = make_packing(sequences.queries, where, queries),
                          k = make_packing(sequences.keys, where, keys);
            const DropoutSpec dropout{p, 3, Tensor::from<int64_t>({5, 9}, {2}, where)};
            return self ? self_attention(in[0], q, {heads, causal, dropout})
                        : cross_attention(in[0], in[1], q, k, {heads, false, dropout});
          },
      .reference = [=](const Inputs& in) { return attention_reference(reference, in, self); },
      .terms = std::max(queries, keys) + head_dim,
      .elements = double((queries + keys) * width * 2),
      .flops = 4 * pairs * double(width),
      .big = big};
}

inline void add_attention_cases(std::vector<OpCase>& rows) {
  const Lengths small{{3, 0, 5, 1}, {4, 2, 0, 17}, 2}, wide{{33, 17, 0}, {1, 40, 3}, 1};
  for (const std::string kind : {"full", "causal", "cross"})
    for (const float p : {0.0f, 0.3f}) {
      rows.push_back(attention_row(kind, small, 2, 5, p));
      rows.push_back(attention_row(kind, small, 1, 1, p));
      rows.push_back(attention_row(kind, wide, 2, 8, p));
      rows.push_back(attention_row(kind, {{300, 129}, {127, 300}, 0}, 1, 32, p, true));
    }
  rows.push_back(attention_row("full", {{}, {}, 0}, 2, 4, 0));
  // Head sizes of tensor cores. Strips of 16 rows, one for a sequence, two and eight, and a row more or less; odd numbers of units.
  const Lengths strips{{15, 16, 17, 0, 1}, {31, 1, 32, 5, 0}, 2}, several{{70, 17}, {128, 1}, 1};
  // Tiles of 64 and blocks of 128 rows, and a row more; more tiles than a ring has stages, and one.
  const Lengths tiles{{129, 200, 17, 0}, {300, 64, 0, 15}, 3}, blocks{{128, 0, 300, 1}, {17, 129, 128, 1}, 2};
  for (const std::string kind : {"full", "causal", "cross"}) {
    const float p = kind == "full" ? 0.0f : 0.3f;
    rows.push_back(attention_row(kind, strips, 3, 32, p));
    rows.push_back(attention_row(kind, several, 1, 64, p));
    rows.push_back(attention_row(kind, tiles, 1, 32, p));
    rows.push_back(attention_row(kind, blocks, 1, 64, p));
  }
  rows.push_back(attention_row("causal", {{130, 31}, {}, 0}, 1, 96, 0.3f));
  rows.push_back(attention_row("cross", {{129, 33}, {65, 131}, 1}, 1, 128, 0.3f));
  rows.push_back(attention_row("cross", {{15, 3, 1}, {16, 0, 7}, 1}, 3, 64, 0.3f));
  rows.push_back(attention_row("causal", {{63, 48}, {}, 1}, 1, 128, 0.3f));
  rows.push_back(attention_row("cross", {{33, 64}, {64, 15}, 0}, 1, 96, 0.3f));
  rows.push_back(attention_row("causal", {{100, 3}, {}, 0}, 1, 128, 0.3f));
  // A kernel for each number of strips, 1, 2, 3, 4 and 8, and head size: those that no row above has.
  rows.push_back(attention_row("causal", {{32, 20, 3}, {}, 1}, 1, 64, 0.3f));
  rows.push_back(attention_row("cross", {{5, 40}, {48, 33}, 1}, 1, 64, 0.3f));
  rows.push_back(attention_row("causal", {{64, 17}, {}, 0}, 1, 64, 0.3f));
  rows.push_back(attention_row("cross", {{16, 9, 0, 2, 1}, {3, 16, 4, 0, 1}, 0}, 1, 32, 0.3f));
  rows.push_back(attention_row("causal", {{47, 1}, {}, 0}, 1, 32, 0.3f));
  rows.push_back(attention_row("cross", {{64, 3}, {50, 49}, 0}, 1, 32, 0.3f));
  rows.push_back(attention_row("causal", {{128, 100}, {}, 0}, 1, 32, 0.3f));
  rows.push_back(attention_row("causal", {{14, 16, 3, 1, 5}, {}, 0}, 1, 96, 0.3f));
  rows.push_back(attention_row("cross", {{19, 32}, {30, 2}, 0}, 1, 96, 0.3f));
  rows.push_back(attention_row("full", {{48, 17}, {}, 0}, 1, 96, 0.3f));
  rows.push_back(attention_row("cross", {{1, 8}, {16, 9}, 0}, 1, 128, 0.3f));
  rows.push_back(attention_row("full", {{32, 2}, {}, 0}, 1, 128, 0.3f));
  rows.push_back(attention_row("cross", {{41, 12}, {7, 48}, 0}, 1, 128, 0.3f));
  rows.push_back(attention_row("cross", {{40, 2}, {150, 65}, 0}, 1, 96, 0.3f));
  std::vector<int64_t> sentences(64);
  for (size_t s = 0; s < sentences.size(); ++s) sentences[s] = 20 + int64_t(s * 7 % 21);
  for (const std::string kind : {"full", "causal", "cross"})
    rows.push_back(attention_row(kind, {sentences, sentences, 0}, 8, 64, 0.1f, true));
}

}  // namespace libtrain::testing
