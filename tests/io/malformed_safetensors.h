/// Files that the safetensors reader must refuse: at least one for each way in which readers of this and of similar formats (GGUF, MLX, ports to
/// C++) were found to fail.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace libtrain::testing {

struct Malformed {
  const char* what;
  std::string bytes;
  std::string message;  // behind "[PATH] "
};

std::vector<Malformed> malformed_safetensors();

/// A file with this header, and so many bytes of data.
std::string safetensors_of(std::string_view header, size_t data_bytes = 0);

}  // namespace libtrain::testing
