#include "libtrain/tensor.h"

#include <cmath>
#include <limits>

#include "kernels/convert.h"
#include "kernels/fill.h"
#include "libtrain/side_stream.h"

namespace libtrain {
namespace {

/// Reads or writes one element of any dtype through a double.
double read_element(const std::byte* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return reinterpret_cast<const float*>(data)[i];
    case DType::bf16:
      return reinterpret_cast<const bf16*>(data)[i];
    case DType::f64:
      return reinterpret_cast<const double*>(data)[i];
    case DType::i32:
      return reinterpret_cast<const int32_t*>(data)[i];
    case DType::i64:
      return double(reinterpret_cast<const int64_t*>(data)[i]);
  }
  return 0;
}

/// Calls f.operator()<T>() for the type behind `dtype`.
template <class F> void visit_any(DType dtype, F&& f) {
  if (is_float(dtype)) return visit_float("tensor", dtype, f);
  if (dtype == DType::i32) return f.template operator()<int32_t>();
  f.template operator()<int64_t>();
}

/// All elements in one dimension, whatever the rank.
template <class T> View<T> flat_view(const Tensor& tensor) {
  return tensor.reshape({tensor.numel()}).template view<T>();
}

/// To or from integers, for which there is no kernel.
Tensor cast_on_host(const Tensor& from, DType to_dtype) {
  const Tensor copy(from.shape(), to_dtype);
  visit_any(to_dtype, [&]<class To> {
    To* to = flat_view<To>(copy).data;
    for (int64_t i = 0; i < from.numel(); ++i) to[i] = To(read_element(from.node_handle()->data, from.dtype(), i));
  });
  return copy;
}

/// a * b for sizes, or an exception.
int64_t checked_product(int64_t a, int64_t b) {
  int64_t product = 0;
  LIBTRAIN_CHECK(!__builtin_mul_overflow(a, b, &product), "[reshape] {} times {} is more than any tensor has", a, b);
  return product;
}

constexpr int64_t kPrintedEnds = 3;  // elements shown at each end of a long dimension

void print_dimension(std::string& text, const Tensor& host, const std::byte* data, int dimension, int64_t first,
                     int64_t stride) {
  if (dimension == host.rank()) {
    visit_any(host.dtype(), [&]<class T> {
      const T value = reinterpret_cast<const T*>(data)[first];
      if constexpr (std::is_integral_v<T>)
        text += format_message("{}", int64_t(value));
      else
        text += format_message("{:.5g}", double(value));
    });
    return;
  }
  const int64_t size = host.dim(dimension), step = size ? stride / size : 0;
  text += "[";
  for (int64_t i = 0; i < size; ++i) {
    if (i) text += ", ";
    if (size > 2 * kPrintedEnds && i == kPrintedEnds) {
      text += "…, ";
      i = size - kPrintedEnds;
    }
    print_dimension(text, host, data, dimension + 1, first + i * step, step);
  }
  text += "]";
}

Shape resolve(const Shape& from, std::initializer_list<int64_t> sizes) {
  std::vector<int64_t> dims(sizes);
  int64_t known = 1, unknown = 0;
  for (const int64_t size : dims) size == -1 ? ++unknown : known = checked_product(known, size);
  LIBTRAIN_CHECK(unknown <= 1, "[reshape] expected at most one size of -1, got {}; write the others out", unknown);
  for (int64_t& size : dims)
    if (size == -1) {
      LIBTRAIN_CHECK(known > 0 && from.numel() % known == 0,
                     "[reshape] {} elements of {} do not divide by {}, so that -1 has no value; change the other sizes",
                     from.numel(), from.str(), known);
      size = from.numel() / known;
    }
  return Shape(std::span<const int64_t>(dims));
}

}  // namespace

bool& detail::recording() {
  thread_local bool recording = false;
  return recording;
}

Tensor::Tensor(const Shape& shape, DType dtype, Device device)
    : shape_(shape), node_(std::make_shared<detail::TensorNode>()) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes) || bytes > std::numeric_limits<int64_t>::max() / 2)
    throw OutOfMemory(
        format_message("[tensor] {}{} has more bytes than any device; one of its sizes was worked out wrongly",
                       name(dtype), shape.str()));
  node_->storage = allocate(device, bytes);
  node_->data = node_->storage.get();
  node_->numel = shape.numel();
  node_->dtype = dtype;
  node_->device = device;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  const Tensor tensor(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

std::string Tensor::spec() const { return defined() ? name(dtype()) + shape_.str() : "undefined"; }

std::string Tensor::str() const {
  if (!defined()) return "undefined";
  const Tensor host = detach().to(Device::kCpu);
  std::string text = format_message("{} on {} ", spec(), name(device()));
  print_dimension(text, host, host.node_->data, 0, 0, numel());
  return text;
}

Tensor Tensor::reshape(const Shape& shape) const {
  LIBTRAIN_CHECK(shape.numel() == numel(),
                 "[reshape] {} has {} elements, shape {} needs {}; a size of -1 is worked out from the others", spec(),
                 numel(), shape.str(), shape.numel());
  Tensor other = *this;
  other.shape_ = shape;
  return other;
}

Tensor Tensor::reshape(std::initializer_list<int64_t> sizes) const { return reshape(resolve(shape_, sizes)); }

/// `differentiable`: what does the same for a tape.
void Tensor::check_not_recorded(const char* method, const char* differentiable) const {
  LIBTRAIN_CHECK(
      !node().recorded || !detail::recording(),
      "[{0}] {1} was recorded by a tape, which would not see this method: nothing before it would be learnt; "
      "use {2}detach().{0}(…) if no gradient is wanted",
      method, spec(), differentiable);
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  check_not_recorded("rows", "slice(), or ");
  LIBTRAIN_CHECK(rank() >= 1 && begin >= 0 && begin <= end && end <= dim(0),
                 "[rows] expected 0 <= begin <= end <= the first dimension, got begin {} and end {} of {}; end is one "
                 "past the last row",
                 begin, end, spec());
  std::vector<int64_t> dims(shape_.dims().begin(), shape_.dims().end());
  const int64_t row = dims[0] ? numel() / dims[0] : 0;
  dims[0] = end - begin;
  Tensor part;
  part.shape_ = Shape(std::span<const int64_t>(dims));
  part.node_ = std::make_shared<detail::TensorNode>();
  *part.node_ = {.storage = node_->storage,
                 .data = node_->data + begin * row * size_of(dtype()),
                 .numel = part.shape_.numel(),
                 .dtype = dtype(),
                 .device = device(),
                 .grad_storage = nullptr};
  return part;
}

Tensor Tensor::to(Device device) const {
  check_not_recorded("to", "");
  const Tensor copy(shape_, dtype(), device);
  copy_bytes(copy.node_->data, device, node_->data, this->device(), size_t(numel() * size_of(dtype())));
  return copy;
}

Tensor Tensor::cast(DType to_dtype) const {
  check_not_recorded("cast", "the function cast(x, dtype), or ");
  if (to_dtype == dtype()) return to(device());
  if (!is_float(dtype()) || !is_float(to_dtype)) return cast_on_host(to(Device::kCpu), to_dtype).to(device());
  const Tensor copy(shape_, to_dtype, device());
  visit_float("cast", dtype(), [&]<class From> {
    visit_float("cast", to_dtype, [&]<class To> {
      const kernels::Convert<From, To> args{flat_view<const From>(*this), flat_view<To>(copy)};
      on(device(), [&](auto where) { kernels::convert(where, args); });
    });
  });
  return copy;
}

Tensor Tensor::clone() const {
  check_not_recorded("clone", "scale(x, 1), or ");
  return to(device());
}

Tensor Tensor::detach() const {
  Tensor other = *this;
  other.node_ = std::make_shared<detail::TensorNode>();
  *other.node_ = {.storage = node().storage,
                  .data = node().data,
                  .numel = node().numel,
                  .dtype = node().dtype,
                  .device = node().device,
                  .grad_storage = nullptr};
  return other;
}

double Tensor::item() const {
  LIBTRAIN_CHECK(numel() == 1,
                 "[item] expected one element, got {}; reduce it with sum() or mean(), or read it with to_vector()",
                 spec());
  const Tensor host = detach().to(Device::kCpu);
  return read_element(host.node_->data, dtype(), 0);
}

void Tensor::copy_from(const Tensor& other) const {
  LIBTRAIN_CHECK(shape_ == other.shape_ && dtype() == other.dtype(),
                 "[copy_from] expected {}, got {}; reshape() and cast() convert", spec(), other.spec());
  copy_bytes(node_->data, device(), other.node_->data, other.device(), size_t(numel() * size_of(dtype())));
}

void Tensor::fill(double value) const {
  if (value == 0 && !std::signbit(value))  // all dtypes: zero bits are zero
    clear_bytes(node_->data, device(), size_t(numel() * size_of(dtype())));
  else
    visit_any(dtype(), [&]<class T> {
      const kernels::Fill<T> args{flat_view<T>(*this), T(value)};
      on(device(), [&](auto where) { kernels::fill(where, args); });
    });
}

const Tensor& Tensor::set_requires_grad(bool wanted) const {
  LIBTRAIN_CHECK(!wanted || is_float(dtype()),
                 "[set_requires_grad] expected a float tensor, got {}; only those have gradients: cast() converts",
                 spec());
  node().requires_grad = wanted;
  return *this;
}

Tensor Tensor::grad() const {
  LIBTRAIN_CHECK(has_grad(),
                 "[grad] no gradient has been written for {}; call set_requires_grad() before the forward pass and "
                 "backward() after it",
                 spec());
  detail::wait_for_gradient(node_->grad_data, node_->numel * size_of(node_->grad_dtype));
  Tensor gradient;
  gradient.shape_ = shape_;
  gradient.node_ = std::make_shared<detail::TensorNode>();
  *gradient.node_ = {.storage = node_->grad_storage,
                     .data = node_->grad_data,
                     .numel = node_->numel,
                     .dtype = node_->grad_dtype,
                     .device = device(),
                     .grad_storage = nullptr};
  return gradient;
}

void Tensor::keep_grad_in_place() const {
  node_->grad_storage = node_->storage;
  node_->grad_data = node_->data;
  node_->grad_dtype = node_->dtype;
}

void Tensor::take_grad_memory(const Tensor& other) const {
  node_->grad_storage = other.node_->grad_storage;
  node_->grad_data = other.node_->grad_data;
  node_->grad_dtype = other.node_->grad_dtype;
}

void Tensor::clear_grad() const { node().grad_written = false; }

void* Tensor::open_grad(DType dtype, bool& accumulate) const {
  auto& self = node();
  if (!self.grad_data) {
    self.grad_storage = allocate(self.device, self.numel * size_of(dtype));
    self.grad_data = self.grad_storage.get();
    self.grad_dtype = dtype;
  }
  LIBTRAIN_CHECK(self.grad_dtype == dtype, "[grad] gradient of {} is kept as {}, an operation wants to write {}",
                 spec(), name(self.grad_dtype), name(dtype));
  detail::wait_for_gradient(self.grad_data, self.numel * size_of(dtype));
  accumulate = std::exchange(self.grad_written, true);
  return self.grad_data;
}

/// What to do about a tensor that is not what it should be.
static const char* mismatch_remedy(const Tensor& tensor, DType dtype, const Shape& shape) {
  if (!tensor.defined()) return "; assign a tensor to it first";
  if (tensor.dtype() != dtype) return "; cast() converts";
  if (tensor.numel() == shape.numel()) return "; reshape() it";
  return "; its sizes must agree with those of the other arguments";
}

void check_is(const char* op, const char* argument, const Tensor& tensor, DType dtype, Device device,
              const Shape& shape) {
  LIBTRAIN_CHECK(tensor.defined() && tensor.dtype() == dtype && tensor.shape() == shape,
                 "[{}] {} must be {}{}, got {}{}", op, argument, name(dtype), shape.str(), tensor.spec(),
                 mismatch_remedy(tensor, dtype, shape));
  LIBTRAIN_CHECK(tensor.device() == device, "[{}] {} is on {}, expected it on {}; move it with .to()", op, argument,
                 name(tensor.device()), name(device));
}

void check_like(const char* op, const char* argument, const Tensor& tensor, const Tensor& model, const Shape& shape) {
  check_is(op, argument, tensor, model.dtype(), model.device(), shape);
}

}  // namespace libtrain
