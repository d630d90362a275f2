#pragma once
#include <cmath>
#include <vector>

#include "kernels/embedding.h"
#include "libtrain/ops/dropout.h"

namespace libtrain {

/// Looks token ids up in a table: table[id] * scale + position_table[position]; zeros where id == pad_id.
///   ids i32[tokens] (or any shape);  table [vocab, columns] f32, bf16 or f64, a parameter;
///   position_table [max positions, columns] of the same dtype, a constant without gradient, and positions i32 in the
///   shape of ids, or neither  →  [tokens, columns]
/// The gradient of the table is kept in f32 (f64 for f64), is zero for ids that do not occur, and is deterministic.
/// pad_id -1 means that no id is padding. Throws InvalidArgument for shapes and dtypes that differ from this and, where
/// ids are on the CPU, for an id outside [0, vocab) or a position outside its table.
Tensor embedding(const Tensor& ids, const Tensor& table, double scale = 1, const Tensor& position_table = {},
                 const Tensor& positions = {}, int32_t pad_id = -1);

/// dropout(embedding(...)) of packed tokens, in one pass each way.
///   ids i32[tokens], packed as `packing` says, whose positions are those of position_table (which may be undefined: none)
///   →  [tokens, columns]
/// The same as embedding() and dropout() one after the other, but rounded once; in f32 and f64 the same bits. Throws InvalidArgument as those do.
Tensor embedding(const Tensor& ids, const Tensor& table, double scale, const Tensor& position_table,
                 const Packing& packing, int32_t pad_id, const DropoutSpec& spec);

/// [max_positions, columns] with P[pos][2i] = sin(pos / 10000^(2i / columns)), P[pos][2i + 1] = cos of the same
/// (Vaswani et al. 2017, section 3.5).
Tensor sinusoidal_positions(int64_t max_positions, int64_t columns, DType dtype = DType::f32,
                            Device device = Device::kCpu);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// "row 3, position 2" for element r of ids; the position of a vector's element is known where positions are given.
inline std::string embedding_place(const Tensor& ids, const Tensor& positions, int64_t r) {
  if (ids.rank() >= 2) return place_of(ids.shape(), r);
  const std::string row = format_message("row {}", r);
  return positions.defined() ? row + format_message(", position {}", positions.view<const int32_t>().data[r]) : row;
}

/// Every value that is used as a row number of a table with `rows` rows is one.
inline void check_embedding_values(const char* what, const char* limit, const Tensor& values, int64_t rows,
                                   const Tensor& ids, const Tensor& positions, int32_t pad_id) {
  const int64_t count = values.numel();
  const auto *value = values.reshape({count}).view<const int32_t>().data,
             *id = ids.reshape({count}).view<const int32_t>().data;
  for (int64_t r = 0; r < count; ++r) {
    const bool padding = pad_id >= 0 && id[r] == pad_id;
    LIBTRAIN_CHECK(padding || (value[r] >= 0 && value[r] < rows), "[embedding] {} {} at {} is outside [0, {}), the {}",
                   what, value[r], embedding_place(ids, positions, r), rows, limit);
  }
}

inline void check_embedding(const Tensor& ids, const Tensor& table, const Tensor& position_table,
                            const Tensor& positions, int32_t pad_id) {
  LIBTRAIN_CHECK(table.defined() && table.rank() == 2,
                 "[embedding] table must be [vocab, columns], got {}; reshape() it", table.spec());
  LIBTRAIN_CHECK(ids.defined() && ids.rank() < Shape::kMaxRank,
                 "[embedding] ids must be i32[tokens], got {}; cast() converts", ids.spec());
  check_is("embedding", "ids", ids, DType::i32, table.device(), ids.shape());
  LIBTRAIN_CHECK(pad_id < table.dim(0),
                 "[embedding] pad_id must be -1 (none) or below the vocabulary of {}, got {}; kPad is 0", table.dim(0),
                 pad_id);
  LIBTRAIN_CHECK(position_table.defined() == positions.defined(),
                 "[embedding] position_table and positions must be given together, got {} and {}; pass both or neither",
                 position_table.spec(), positions.spec());
  const bool on_host = table.device() == Device::kCpu;
  const auto check_ids = [&](const Tensor& places) {
    if (on_host)
      check_embedding_values("id", "vocabulary; encode the text with the model's own", ids, table.dim(0), ids, places,
                             pad_id);
  };
  if (!positions.defined()) return check_ids({});
  LIBTRAIN_CHECK(
      position_table.rank() == 2,
      "[embedding] position_table must be [max positions, columns], got {}; sinusoidal_positions() makes one",
      position_table.spec());
  check_like("embedding", "position_table", position_table, table, {position_table.dim(0), table.dim(1)});
  LIBTRAIN_CHECK(!position_table.requires_grad(),
                 "[embedding] position_table {} wants a gradient, and is taken as a constant; add embedding(positions, "
                 "position_table) instead",
                 position_table.spec());
  check_is("embedding", "positions", positions, DType::i32, table.device(), ids.shape());
  check_ids(positions);
  if (on_host)
    check_embedding_values("position", "length of position_table; shorten the sequence or raise max_positions",
                           positions, position_table.dim(0), ids, {}, pad_id);
}

/// dtable (+)= the rows of dy, each at its id, with the memory that sorting them wants.
template <class T, class Out>
void run_embedding_backward(Device where, const kernels::Embedding<T>& args, View<const T> dy, Sink<Out> dtable) {
  const int64_t tokens = args.ids.size(), vocab = args.table.dims[0], columns = args.table.dims[1];
  on(where, [&](auto device) {
    const Tensor workspace({kernels::embedding_workspace(device, tokens, vocab, columns)}, DType::i32, where);
    const Tensor partials({kernels::embedding_partials(device, tokens, columns)}, dtype_of<accum_t<T>>, where);
    const kernels::EmbeddingGradient<T, Out> gradient{dtable, workspace.view<int32_t>(), partials.view<accum_t<T>>()};
    kernels::embedding_backward(device, args, dy, gradient);
  });
}

inline Shape embedding_shape(const Tensor& ids, int64_t columns) {
  std::vector<int64_t> dims(ids.shape().dims().begin(), ids.shape().dims().end());
  dims.push_back(columns);
  return Shape(std::span<const int64_t>(dims));
}

/// Rows of ids, positions and dropout in whatever shape: y is their matrix.
inline Tensor dropped_embedding(const Tensor& ids, const Tensor& table, double scale, const Tensor& position_table,
                                const Tensor& positions, int32_t pad_id, const Packing& packing,
                                const DropoutSpec& spec) {
  check_embedding(ids, table, position_table, positions, pad_id);
  const int64_t tokens = ids.numel();
  const auto flat = [&](const Tensor& t) {
    return t.defined() ? t.reshape({tokens}).view<const int32_t>() : View<const int32_t>{};
  };
  const Tensor y(embedding_shape(ids, table.dim(1)), table.dtype(), table.device());
  check_dropout("embedding", y, packing, spec);
  const bool drops = spec.active();
  visit_float("embedding", table.dtype(), [&]<class T> {
    using A = accum_t<T>;
    const auto constant = position_table.defined() ? position_table.view<const T>() : View<const T>{};
    const kernels::Embedding<T> args{flat(ids),     table.view<const T>(),
                                     constant,      flat(positions),
                                     y.matrix<T>(), scale,
                                     pad_id,        drops ? dropout_mask(packing, spec) : kernels::DropoutMask{}};
    on(table.device(), [&](auto device) { kernels::embedding_forward(device, args); });
    const auto saved = [&](const Tensor& tensor) { return drops ? tensor : Tensor(); };
    record("embedding", y, {table}, {ids, saved(packing.sequences), saved(packing.positions), saved(spec.random_state)},
           [args](const BackwardStep& step) {
             run_embedding_backward(step.output.device(), args, step.doutput<T>(), step.sink<A>(0));
           });
  });
  return y;
}

}  // namespace detail

inline Tensor embedding(const Tensor& ids, const Tensor& table, double scale, const Tensor& position_table,
                        const Tensor& positions, int32_t pad_id) {
  return detail::dropped_embedding(ids, table, scale, position_table, positions, pad_id, {}, {});
}

inline Tensor embedding(const Tensor& ids, const Tensor& table, double scale, const Tensor& position_table,
                        const Packing& packing, int32_t pad_id, const DropoutSpec& spec) {
  return detail::dropped_embedding(ids, table, scale, position_table,
                                   position_table.defined() ? packing.positions : Tensor(), pad_id, packing, spec);
}

inline Tensor sinusoidal_positions(int64_t max_positions, int64_t columns, DType dtype, Device device) {
  LIBTRAIN_CHECK(max_positions >= 0 && columns >= 0,
                 "[sinusoidal_positions] expected sizes >= 0, got {} and {}; they count positions and columns",
                 max_positions, columns);
  const Tensor table({max_positions, columns}, DType::f64);  // refuses sizes that no memory has
  double* values = table.view<double>().data;
  for (int64_t i = 0; i < table.numel(); ++i) {
    const int64_t position = i / columns, c = i % columns;
    const double angle = double(position) / std::pow(10000.0, double(c - c % 2) / double(columns));
    values[i] = c % 2 ? std::cos(angle) : std::sin(angle);
  }
  return table.cast(dtype).to(device);
}

}  // namespace libtrain
