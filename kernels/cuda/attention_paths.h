/// Which kernels attention may take on a CUDA device: for programs that compare them.
#pragma once

namespace libtrain::kernels {

/// Whether attention in bf16 with heads of 64 or 128, of sequences too long for one block, takes the instructions that Hopper alone has
/// (attention_hopper.cu) where the device is one. On, unless LIBTRAIN_HOPPER_ATTENTION is 0 in the environment or it was set; where kernels are
/// executed on the CPU off, unless it is 1. The variable is read once; throws Failure when it is neither 0, 1 nor empty.
bool hopper_attention();
/// Not while another thread calls attention.
void set_hopper_attention(bool on);

}  // namespace libtrain::kernels
