/// The one tensor type: a handle to contiguous, row-major elements on a device, with a slot for their gradient.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "kernels/dtype.h"
#include "libtrain/allocator.h"
#include "libtrain/device.h"
#include "libtrain/shape.h"

namespace libtrain {

class Tensor;

namespace detail {
/// What the handles of one tensor share. Reshaped handles share it too, and so the gradient.
struct TensorNode {
  std::shared_ptr<std::byte> storage;  // keeps `data` alive; may be larger than this tensor
  std::byte* data = nullptr;
  int64_t numel = 0;
  DType dtype = DType::f32;
  Device device = Device::kCpu;
  bool requires_grad = false;
  bool recorded = false;  // made by an op that a tape recorded: no leaf
  int64_t reads = 0;      // how often a tape has recorded an op that computes a gradient of this
  // The gradient: no memory until first written, unless a parameter store has bound it to its flat buffer.
  std::shared_ptr<std::byte> grad_storage;
  std::byte* grad_data = nullptr;
  DType grad_dtype = DType::f32;
  bool grad_written = false;
};

/// Whether a tape records what this thread does now. Tape and NoTape say so.
bool& recording();
}  // namespace detail

/// Copies of a Tensor are handles to the same elements. Made by the factories below or by operations.
class Tensor {
 public:
  /// A handle to nothing; only defined(), assignment and destruction are allowed.
  Tensor() = default;
  /// Undefined contents.
  Tensor(const Shape& shape, DType dtype, Device device = Device::kCpu);

  /// Every element 0.
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::kCpu);
  /// Every element `value`, rounded to the dtype.
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::kCpu);
  /// Copies `values`, as many as the shape has elements. T is float, double, bf16, int32_t or int64_t.
  template <class T> static Tensor from(std::span<const T> values, const Shape& shape, Device device = Device::kCpu);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = Device::kCpu) {
    return from(std::span<const T>(values), shape, device);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = Device::kCpu) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }
  /// On the CPU, in the shape of the lists: Tensor::from({{1.0f, 2.0f}, {3.0f, 4.0f}}) is f32[2, 2].
  template <class T> static Tensor from(std::initializer_list<T> values) {
    return from(values, {int64_t(values.size())});
  }
  template <class T> static Tensor from(std::initializer_list<std::initializer_list<T>> rows);

  /// Whether this is a handle to something.
  bool defined() const { return node_ != nullptr; }
  /// This handle's; reshape() gives the same elements another.
  const Shape& shape() const { return shape_; }
  /// Number of dimensions; 0 for a scalar.
  int rank() const { return shape_.rank(); }
  /// Size of dimension i; negative i counts from the end.
  int64_t dim(int i) const { return shape_[i]; }
  /// Number of elements; 1 for a scalar.
  int64_t numel() const { return shape_.numel(); }
  /// Type of the elements. Throws InvalidArgument when undefined.
  DType dtype() const { return node().dtype; }
  /// Where the elements lie. Throws InvalidArgument when undefined.
  Device device() const { return node().device; }
  /// "f32[2, 3]", or "undefined"
  std::string spec() const;
  /// "f32[2, 3] on cpu" and the values, long dimensions shortened.
  std::string str() const;

  /// The same elements (and gradient) under another shape. One size may be -1: it is worked out.
  Tensor reshape(const Shape& shape) const;
  Tensor reshape(std::initializer_list<int64_t> sizes) const;
  /// The same elements, unknown to any tape.
  Tensor detach() const;

  // The following are not differentiable. So, while a tape records, they throw InvalidArgument for what it has recorded: the result would be a
  // constant, and what lies before it would not be learnt. detach() tells that this is meant.

  /// Rows [begin, end) of the first dimension, sharing the elements. Differentiable: slice() in ops.h.
  Tensor rows(int64_t begin, int64_t end) const;
  /// A copy on `device`.
  Tensor to(Device device) const;
  /// A copy of the elements in another dtype, on the same device. To and from integers it goes by way of the host: fractions are cut off, and
  /// values must be such as the integer can hold. Differentiable, between float dtypes: cast() in ops.h.
  Tensor cast(DType dtype) const;
  /// A copy that shares nothing.
  Tensor clone() const;

  /// All elements, copied to the host. T must be the dtype's type.
  template <class T> std::vector<T> to_vector() const;
  /// The only element, as a double, copied to the host.
  double item() const;
  /// Overwrites the elements with those of `other`, on whatever device. Throws InvalidArgument when shapes or dtypes differ.
  void copy_from(const Tensor& other) const;
  /// Overwrites every element with `value`, rounded to the dtype.
  void fill(double value) const;

  /// Whether backward computes a gradient: for leaves marked so, and for what a tape recorded from them.
  bool requires_grad() const { return node().requires_grad; }
  /// Marks a float leaf whose gradient is wanted.
  const Tensor& set_requires_grad(bool wanted = true) const;
  /// Whether a gradient has been written since the last clear.
  bool has_grad() const { return node().grad_written; }
  /// The gradient, under this handle's shape. Throws when there is none.
  Tensor grad() const;
  /// Forgets the gradient; the next writer overwrites.
  void clear_grad() const;

  // -- for operations -------------------------------------------------------------------------------------------------
  /// All elements in the dimensions of the shape (rank <= 4). Throws when T is not the dtype's type.
  template <class T> View<T> view() const;
  /// All elements as the matrix [rows, last dimension]; a scalar is [1, 1].
  template <class T> View<T> matrix() const;
  /// Where to write the gradient of dtype T: overwriting if this is the first writer, adding otherwise. Empty if none is wanted.
  template <class T> Sink<T> grad_sink() const;
  /// Makes the gradient share the memory of the elements, which the next writer destroys. See BackwardStep::sink_in_place.
  void keep_grad_in_place() const;
  /// Makes the gradient take over the memory in which that of `other` lies. See BackwardStep::sink_over_gradient.
  void take_grad_memory(const Tensor& other) const;
  /// The shared node; how tapes and parameter stores know a tensor.
  const std::shared_ptr<detail::TensorNode>& node_handle() const { return node_; }

 private:
  detail::TensorNode& node() const {
    LIBTRAIN_CHECK(node_, "[tensor] this handle is undefined (default-constructed); assign a tensor to it first");
    return *node_;
  }
  void check_not_recorded(const char* method, const char* differentiable) const;
  template <class T> T* data_as() const;
  void* open_grad(DType dtype, bool& accumulate) const;

  Shape shape_;
  std::shared_ptr<detail::TensorNode> node_;
};

/// Calls f.operator()<T>() for the float type behind `dtype`; throws InvalidArgument naming `op` for integers.
template <class F> decltype(auto) visit_float(const char* op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      throw InvalidArgument(
          format_message("[{}] expected a float dtype (f32, bf16, f64), got {}; cast() converts", op, name(dtype)));
  }
}

/// Throws InvalidArgument unless `tensor` has this shape and the dtype and device of `model`; the message names `op` and `argument`.
void check_like(const char* op, const char* argument, const Tensor& tensor, const Tensor& model, const Shape& shape);
/// Likewise for an argument of a given dtype.
void check_is(const char* op, const char* argument, const Tensor& tensor, DType dtype, Device device,
              const Shape& shape);

// ---------------------------------------------------------------------------------------------------------------------

template <class T> Tensor Tensor::from(std::span<const T> values, const Shape& shape, Device device) {
  LIBTRAIN_CHECK(int64_t(values.size()) == shape.numel(),
                 "[tensor] {} values given for shape {}; give as many as the product of its sizes", values.size(),
                 shape.str());
  const Tensor tensor(shape, dtype_of<T>, device);
  copy_bytes(tensor.node_->data, device, values.data(), Device::kCpu, values.size_bytes());
  return tensor;
}

template <class T> Tensor Tensor::from(std::initializer_list<std::initializer_list<T>> rows) {
  const size_t columns = rows.size() ? rows.begin()->size() : 0;
  std::vector<T> values;
  for (const auto& row : rows) {
    LIBTRAIN_CHECK(row.size() == columns, "[tensor] rows of {} and of {} values are no matrix; make them of one length",
                   columns, row.size());
    values.insert(values.end(), row.begin(), row.end());
  }
  return from(std::span<const T>(values), {int64_t(rows.size()), int64_t(columns)});
}

template <class T> std::vector<T> Tensor::to_vector() const {
  std::vector<T> values(static_cast<size_t>(numel()));
  copy_bytes(values.data(), Device::kCpu, data_as<T>(), device(), values.size() * sizeof(T));
  return values;
}

template <class T> T* Tensor::data_as() const {
  using Element = std::remove_const_t<T>;
  LIBTRAIN_CHECK(dtype() == dtype_of<Element>,
                 "[tensor] elements of {} read as {}; name its own type, or cast() it first", spec(),
                 name(dtype_of<Element>));
  return reinterpret_cast<T*>(node_->data);
}

template <class T> View<T> Tensor::view() const {
  View<T> view{data_as<T>()};
  LIBTRAIN_CHECK(rank() <= int(view.dims.size()),
                 "[tensor] {} has more dimensions than a kernel view; reshape() it to at most 4", spec());
  std::ranges::copy(shape_.dims(), view.dims.begin());
  return view;
}

template <class T> View<T> Tensor::matrix() const {
  if (rank() == 0) return {data_as<T>()};
  return {data_as<T>(), {shape_.rows(), dim(-1), 1, 1}};
}

template <class T> Sink<T> Tensor::grad_sink() const {
  if (!requires_grad()) return {};
  bool accumulate = false;
  T* data = static_cast<T*>(open_grad(dtype_of<T>, accumulate));
  return {data, accumulate};
}

}  // namespace libtrain
