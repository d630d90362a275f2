// Shapes    q, out, dout [query rows, heads * head_dim]; k, v [key rows, heads * head_dim], with row strides of their own.
// Mapping   Chooses, from what the host knows (type, head size, alignment, longest sequence; never lengths on the device), between
//           attention_short.cu  bf16 on tensor cores, a whole sequence in a block
//           attention_long.cu   bf16 on tensor cores, tiles of keys (of queries) through a ring of two buffers
//           attention_hopper.cu likewise by wgmma and TMA, where attention_paths.h allows it
//           attention_simt.cu   everything else: f32, f64, other head sizes, rows that do not begin at multiples of 16 bytes
//           Backward of the first and the third is in files of its own: attention_short_backward.cu, attention_hopper_backward.cu.
// Traffic, Numerics, Source, Measured: there.
#include <atomic>
#include <cstdlib>
#include <string>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_paths.h"

namespace libtrain::kernels {
namespace {

/// Rows that copies of 16 bytes can read, and between which 32 bits can count the bytes.
bool rows_fit(const bf16* data, int64_t stride) {
  return !data || (packs_fit(data, stride) && stride * int64_t(sizeof(bf16)) <= INT32_MAX);
}

bool tensor_cores_fit(const Attention<bf16>& a) {
  const bool sized = a.head_dim == 32 || a.head_dim == 64 || a.head_dim == 96 || a.head_dim == 128;
  return sized && rows_fit(a.q.data, a.q.stride) && rows_fit(a.k.data, a.k.stride) && rows_fit(a.v.data, a.v.stride) &&
         rows_fit(a.out.data, a.head_dim);
}

bool gradients_fit(const Attention<bf16>& a, View<const bf16> dout, const AttentionGradients<bf16>& g) {
  return rows_fit(dout.data, a.head_dim) && rows_fit(g.dq.data, a.q.stride) && rows_fit(g.dk.data, a.k.stride) &&
         rows_fit(g.dv.data, a.v.stride);
}

/// Whether what backward keeps of a sequence fits the shared memory of every device from sm_80 on: 96 KiB.
bool is_short(const Attention<bf16>& a) {
  const int64_t longest = a.max_queries > a.max_keys ? a.max_queries : a.max_keys;
  return longest <= (a.head_dim <= 64 ? 128 : 64);
}

bool hopper_asked_for() {
  const char* const variable = std::getenv("LIBTRAIN_HOPPER_ATTENTION");
  const std::string value = variable ? variable : "";
  if (value.empty()) return !runtime::device_info().executed_on_cpu;
  if (value == "0") return false;
  if (value != "1") throw Failure("[attention] LIBTRAIN_HOPPER_ATTENTION must be 0 or 1, got '" + value + "'");
  return true;
}

std::atomic<bool>& hopper_switch() {
  static std::atomic<bool> on = hopper_asked_for();
  return on;
}

/// Whether the kernels for Hopper serve sequences that are not short. They are built for sm_90a alone.
bool hopper_fits(const Attention<bf16>& a) {
  return hopper_attention() && (a.head_dim == 64 || a.head_dim == 128) && runtime::device_info().capability == 90;
}

}  // namespace

bool hopper_attention() { return hopper_switch(); }
void set_hopper_attention(bool on) { hopper_switch() = on; }

template <class T> void attention_forward(Cuda where, const Attention<T>& a) {
  if constexpr (std::is_same_v<T, bf16>)
    if (tensor_cores_fit(a))
      return is_short(a)      ? attention_forward_short(where, a)
             : hopper_fits(a) ? attention_forward_hopper(where, a)
                              : attention_forward_long(where, a);
  attention_forward_simt(where, a);
}

template <class T>
void attention_backward(Cuda where, const Attention<T>& a, View<const T> dout, const AttentionGradients<T>& g) {
  if constexpr (std::is_same_v<T, bf16>)
    if (tensor_cores_fit(a) && gradients_fit(a, dout, g))
      return is_short(a)      ? attention_backward_short(where, a, dout, g)
             : hopper_fits(a) ? attention_backward_hopper(where, a, dout, g)
                              : attention_backward_long(where, a, dout, g);
  attention_backward_simt(where, a, dout, g);
}

#define INSTANTIATE(T)                                        \
  template void attention_forward(Cuda, const Attention<T>&); \
  template void attention_backward(Cuda, const Attention<T>&, View<const T>, const AttentionGradients<T>&);
LIBTRAIN_FOR_FLOATS(INSTANTIATE)

}  // namespace libtrain::kernels
