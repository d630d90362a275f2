/// Memory of the device for tests, and the ways to it.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda_on_cpu/executor.h"
#include "tests/catch.h"

namespace libtrain::kernels {

/// `count` elements on the device, from host values or as allocated (NaN).
template <class T> class DeviceArray {
 public:
  explicit DeviceArray(int64_t count)
      : data_(static_cast<T*>(runtime::allocate_device(count * int64_t(sizeof(T))))), count_(count) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(int64_t(values.size())) {
    runtime::copy(data_, values.data(), values.size() * sizeof(T), {});
  }
  DeviceArray(DeviceArray&& other) : data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
  ~DeviceArray() { runtime::free_device(data_); }

  T* data() const { return data_; }
  int64_t size() const { return count_; }
  /// Waits for the stream, then copies.
  std::vector<T> values(Cuda where = {}) const {
    std::vector<T> host(static_cast<size_t>(count_));
    runtime::copy(host.data(), data_, host.size() * sizeof(T), where);
    return host;
  }

 private:
  T* data_;
  int64_t count_;
};

/// Orders that kernels must not depend on.
inline const std::vector<executor::Order>& all_orders() {
  using executor::Order;
  static const std::vector<Order> orders{
      {Order::kForward, 0}, {Order::kReverse, 0}, {Order::kRandom, 1}, {Order::kRandom, 2}, {Order::kRandom, 3}};
  return orders;
}

/// The order for as long as this lives.
class InOrder {
 public:
  explicit InOrder(executor::Order order) : before_(executor::order()) { executor::set_order(order); }
  ~InOrder() { executor::set_order(before_); }

 private:
  executor::Order before_;
};

/// Calls check() in each of them.
template <class F> void in_all_orders(F&& check) {
  for (const executor::Order order : all_orders()) {
    CAPTURE(int(order.kind), order.seed);
    const InOrder in_order(order);
    check();
  }
}

inline std::vector<float> numbers(int64_t count, float first = 0) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(first + float(i));
  return values;
}

}  // namespace libtrain::kernels
