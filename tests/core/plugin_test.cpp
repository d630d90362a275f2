#include <dlfcn.h>

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;

TEST_CASE("plugin: a module with hidden symbols records on the program's tape and throws its exceptions", "[plugin]") {
  void* module = dlopen(LIBTRAIN_TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  INFO((module ? "" : dlerror()));
  REQUIRE(module);
  const auto add_there = reinterpret_cast<void (*)(const Tensor&, const Tensor&, Tensor&)>(dlsym(module, "plugin_add"));
  const auto tape_there = reinterpret_cast<const Tape* (*)()>(dlsym(module, "plugin_tape"));
  REQUIRE((add_there && tape_there));

  const Tensor x = Tensor::from({1.f, 2.f}, {1, 2});
  x.set_requires_grad();
  const auto before = allocator_stats(Device::kCpu).bytes_in_use;
  {
    Tape tape;
    CHECK(tape_there() == &tape);
    Tensor sum;
    add_there(x, x, sum);
    CHECK(tape.size() == 1);
    CHECK(allocator_stats(Device::kCpu).bytes_in_use > before);
    tape.backward(sum, Tensor::full({1, 2}, 1));
    CHECK(x.grad().to_vector<float>() == std::vector<float>{2, 2});
    CHECK(message_of<InvalidArgument>([&] { add_there(x, Tensor::zeros({3, 3}), sum); }).find("[add]") == 0);
    CHECK(tape.size() == 0);
  }
  CHECK(tape_there() == nullptr);
}

}  // namespace libtrain
