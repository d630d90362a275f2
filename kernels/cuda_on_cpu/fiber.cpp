// Switching stacks: twenty instructions on x86-64, ucontext (which asks the system at every switch) elsewhere.
#include "kernels/cuda_on_cpu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>
#include <vector>

#if !defined(__x86_64__)
#define LIBTRAIN_UCONTEXT
#endif
#ifdef LIBTRAIN_UCONTEXT
#include <ucontext.h>
#endif

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kStackBytes = 128 << 10;
/// Tops of stacks are shifted against each other, lest all threads' innermost frames meet in the same lines of the cache.
constexpr size_t kStagger = 64, kStaggers = 64;

std::vector<char*> stacks;  // so far: the lowest byte of each

/// The stack's lowest byte; below it lies a page that may not be touched.
char* stack(size_t index) {
  static const size_t page = size_t(sysconf(_SC_PAGESIZE));
  while (stacks.size() <= index) {
    void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) throw std::bad_alloc();
    stacks.push_back(static_cast<char*>(memory) + page);
  }
  return stacks[index];
}

size_t usable_bytes(size_t index) { return kStackBytes - index % kStaggers * kStagger; }

}  // namespace

bool is_on_fiber(size_t index, const void* address) {
  return size_t(static_cast<const char*>(address) - stacks[index]) < kStackBytes;
}

#ifdef LIBTRAIN_UCONTEXT

namespace {
ucontext_t& context_of(size_t index) {
  static std::vector<ucontext_t*> contexts;
  while (contexts.size() <= index) contexts.push_back(new ucontext_t);
  return *contexts[index];
}
}  // namespace

void* prepare_fiber(size_t index, void (*entry)()) {
  ucontext_t& context = context_of(index);
  getcontext(&context);
  context.uc_stack.ss_sp = stack(index);
  context.uc_stack.ss_size = usable_bytes(index);
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  return &context;
}

void switch_fiber(void** save, void* load) {
  ucontext_t own;  // lives on the stack that is left, so it is there when someone comes back
  *save = &own;
  swapcontext(&own, static_cast<ucontext_t*>(load));
}

#else

extern "C" void libtrain_switch_fiber(void** save, void* load);
extern "C" void libtrain_start_fiber();

// The registers that a callee must keep, pushed on the stack that is left and popped from the one that is entered. A new stack
// "returns" to libtrain_start_fiber, which calls the function in rbx with the stack aligned as the ABI wants it.
asm(R"(
.text
.globl libtrain_switch_fiber
.hidden libtrain_switch_fiber
.type libtrain_switch_fiber, @function
libtrain_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size libtrain_switch_fiber, .-libtrain_switch_fiber
.globl libtrain_start_fiber
.hidden libtrain_start_fiber
.type libtrain_start_fiber, @function
libtrain_start_fiber:
  .cfi_startproc
  .cfi_undefined rip
  callq *%rbx
  ud2
  .cfi_endproc
.size libtrain_start_fiber, .-libtrain_start_fiber
)");

void* prepare_fiber(size_t index, void (*entry)()) {
  const uintptr_t top = reinterpret_cast<uintptr_t>(stack(index) + usable_bytes(index)) & ~uintptr_t(15);
  auto** slot = reinterpret_cast<void**>(top) - 2;  // rsp is a multiple of 16 at the call
  *--slot = reinterpret_cast<void*>(&libtrain_start_fiber);
  *--slot = nullptr;                              // rbp: the end of the chain of frames
  *--slot = reinterpret_cast<void*>(entry);       // rbx
  for (int i = 0; i < 4; ++i) *--slot = nullptr;  // r12 to r15
  return slot;
}

void switch_fiber(void** save, void* load) { libtrain_switch_fiber(save, load); }

#endif

}  // namespace libtrain::kernels::executor
