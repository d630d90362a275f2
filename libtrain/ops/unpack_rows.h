#pragma once
#include <vector>

#include "kernels/copy_rows.h"
#include "libtrain/tape.h"

namespace libtrain {

/// Picks rows, e.g. to lay packed sequences out as a padded matrix: row r is x[index[r]], or zeros where index[r] < 0.
///   x [tokens, columns] f32, bf16 or f64;  index i32[rows]  →  [rows, columns]
/// No row is picked twice; rows never picked get gradient zero. Throws InvalidArgument for shapes that do not fit
/// and, when index is on the CPU, for an entry that is repeated or no row of x.
Tensor unpack_rows(const Tensor& x, const Tensor& index);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

inline void check_unpack_index(const Tensor& x, const Tensor& index) {
  const View<const int32_t> rows = index.view<const int32_t>();
  std::vector<bool> picked(size_t(x.dim(0)));
  for (int64_t r = 0; r < rows.size(); ++r) {
    const int32_t source = rows.data[r];
    if (source < 0) continue;
    LIBTRAIN_CHECK(source < x.dim(0),
                   "[unpack_rows] expected entries of index below {}, the rows of x, got {} at position {}; "
                   "unpack_index() makes it from a packing",
                   x.dim(0), source, r);
    LIBTRAIN_CHECK(!picked[size_t(source)],
                   "[unpack_rows] expected distinct entries in index, got {} again at position {}; index_select() "
                   "takes rows more than once",
                   source, r);
    picked[size_t(source)] = true;
  }
}

}  // namespace detail

inline Tensor unpack_rows(const Tensor& x, const Tensor& index) {
  LIBTRAIN_CHECK(x.rank() == 2, "[unpack_rows] x must be [tokens, columns], got {}; reshape() it", x.spec());
  LIBTRAIN_CHECK(index.defined() && index.rank() == 1,
                 "[unpack_rows] index must be i32[rows], got {}; unpack_index(…).reshape({{-1}}) makes it",
                 index.spec());
  check_is("unpack_rows", "index", index, DType::i32, x.device(), index.shape());
  if (x.device() == Device::kCpu) detail::check_unpack_index(x, index);
  const int64_t rows = index.dim(0), tokens = x.dim(0);
  const Tensor y({rows, x.dim(1)}, x.dtype(), x.device());
  const View<const int32_t> picks = index.view<const int32_t>();
  visit_float("unpack_rows", x.dtype(), [&]<class T> {
    const kernels::CopyRows<T> args{x.view<const T>(), picks, 0, {y.view<T>().data}, rows};
    on(x.device(), [&](auto device) { kernels::copy_rows(device, args); });
    record("unpack_rows", y, {x}, {index}, [=](const BackwardStep& step) {
      const Tensor inverse({tokens}, DType::i32, step.output.device());
      const kernels::InvertIndex invert{picks, inverse.view<int32_t>()};
      const kernels::CopyRows<T> gradient{step.doutput<T>(), inverse.view<const int32_t>(), 0, step.sink<T>(0), tokens};
      on(step.output.device(), [&](auto device) {
        kernels::invert_index(device, invert);
        kernels::copy_rows(device, gradient);
      });
    });
  });
  return y;
}

}  // namespace libtrain
