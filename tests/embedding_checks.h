/// What embedding with dropout must do on any device beside its rows of the table.
#pragma once
#include "catch.h"
#include "op_checks.h"

namespace libtrain::testing {

/// In f32 and f64 the same bits as embedding and dropout one after the other, forward and backward.
inline void check_dropped_embedding(Device where) {
  constexpr int64_t kTokens = 70, kVocab = 9;
  std::vector<int32_t> numbers(kTokens);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = int32_t(i * i % kVocab);
  const Tensor ids = Tensor::from(std::span<const int32_t>(numbers), {kTokens}, where);
  const Packing packing = make_packing(std::vector<int64_t>{30, 0, 37}, where, kTokens);
  const DropoutSpec spec{0.3f, 4, Tensor::from<int64_t>({5, 9}, {2}, where)};
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t columns : {31, 128, 264})
      for (const int32_t pad_id : {-1, 4}) {
        INFO(name(where) << " " << name(dtype) << ": " << columns << " columns, padding " << pad_id);
        Values drawn(size_t(kVocab * columns));
        Generator generator(3);
        normal()(drawn, generator);
        const Tensor table = Tensor::from(std::span<const double>(drawn), {kVocab, columns}).cast(dtype).to(where);
        const Tensor positions = sinusoidal_positions(40, columns, dtype, where);
        table.set_requires_grad();
        const auto result = [&](bool fused) {
          table.clear_grad();
          Tape tape;
          const Tensor y =
              fused ? embedding(ids, table, 1.7, positions, packing, pad_id, spec)
                    : dropout(embedding(ids, table, 1.7, positions, packing.positions, pad_id), packing, spec);
          tape.backward(y, upstream(y));
          return Result{values_of(y), {values_of(table.grad())}};
        };
        CHECK(same_bits(result(true), result(false)));
      }
}

}  // namespace libtrain::testing
