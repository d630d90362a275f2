#include "libtrain/io/safetensors.h"

#include <cmath>
#include <limits>

#include "catch.h"
#include "data/temporary_file.h"
#include "io/malformed_safetensors.h"

namespace libtrain::testing {
namespace {

using test::message_of;
using test::TemporaryFile;

std::vector<std::byte> as_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

const char* const kRemedy = "; copy the file again";

TEST_CASE("safetensors: every kind of malformed file is refused by file, field and byte", "[io]") {
  CHECK(malformed_safetensors().size() >= 60);
  for (const Malformed& file : malformed_safetensors()) {
    INFO(file.what);
    const std::string parsed =
        message_of<CheckpointError>([&] { SafetensorsFile::parse(as_bytes(file.bytes), "m.safetensors"); });
    CHECK(parsed == "[m.safetensors] " + file.message + kRemedy);
    const TemporaryFile on_disk(file.bytes);
    const std::string read = message_of<CheckpointError>([&] { SafetensorsFile::read(on_disk.path()); });
    CHECK(read == "[" + on_disk.path() + "] " + file.message + kRemedy);
  }
}

TEST_CASE("safetensors: a file of torch.save is called one, and no file with a header that can be", "[io]") {
  const auto refusal = [](std::string bytes) {
    bytes.resize(200, '\0');
    return message_of<CheckpointError>([&] { SafetensorsFile::parse(as_bytes(bytes), "m.pt"); });
  };
  const auto of_torch = [](const char* form) {
    return format_message(
        "[m.pt] header length: expected a safetensors file, got {} as torch.save writes it (byte 0 of "
        "the file); write it with safetensors.torch.save_file",
        form);
  };
  CHECK(refusal(std::string("PK\3\4\0\0\x08\x08", 8)) == of_torch("a zip archive"));
  CHECK(refusal("\x80\x02\x8a\x0al\xfc\x9c\x46") == of_torch("a pickle"));
  CHECK(refusal("\x80\x02\x8a\x0al\xfc\x9c\x46{\"a\":{}}").find(" bytes, the limit is 100000000") != std::string::npos);
  CHECK(refusal("\x80PNG READ ME").find(" bytes, the limit is 100000000") != std::string::npos);
  CHECK(refusal("PLEASE READ ME").find(" bytes, the limit is 100000000") != std::string::npos);
  const std::string cut_short = " bytes, but only 192 follow: the file is cut short (byte 0 of the file)";
  CHECK(refusal(std::string("PK\0\0\0\0\0\0", 8)) == "[m.pt] header length: 19280" + cut_short + kRemedy);
  CHECK(refusal(std::string("\x80\x02\0\0\0\0\0\0", 8)) == "[m.pt] header length: 640" + cut_short + kRemedy);
}

TEST_CASE("safetensors: a valid file cut or extended anywhere is refused", "[io]") {
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const std::vector<TensorEntry> entries{{"a", "F32", {2, 2}, std::as_bytes(std::span(values).first(4))},
                                         {"b", "F32", {2}, std::as_bytes(std::span(values).subspan(4))}};
  const auto bytes = write_safetensors(entries, {{"note", "x"}});
  for (size_t length = 0; length < bytes.size(); ++length) {
    INFO("cut to " << length << " bytes");
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + int64_t(length));
    REQUIRE_THROWS_AS(SafetensorsFile::parse(part, "cut"), CheckpointError);
  }
  auto longer = bytes;
  longer.push_back(std::byte(0));
  CHECK_THROWS_AS(SafetensorsFile::parse(longer, "longer"), CheckpointError);
}

TEST_CASE("safetensors: any byte changed gives a file or a CheckpointError, never anything else", "[io]") {
  const std::vector<int32_t> values{1, 2, 3};
  const auto bytes = write_safetensors(std::vector<TensorEntry>{{"w", "I32", {3}, std::as_bytes(std::span(values))}});
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at)
    for (int value = 0; value < 256; ++value) {
      auto changed = bytes;
      changed[at] = std::byte(value);
      try {
        const SafetensorsFile file = SafetensorsFile::parse(std::move(changed), "changed");
        for (const std::string& name : file.names()) CHECK(file.entry(name).bytes.size() == 12);
      } catch (const CheckpointError&) {
        ++refused;
      }
    }
  CHECK(refused > 10000);
}

TEST_CASE("safetensors: what is written comes back, bit by bit and in any dtype", "[io]") {
  const std::vector<float> f32{0.f, -0.f, std::numeric_limits<float>::denorm_min(), INFINITY, NAN, 3.5f};
  const std::vector<double> f64{1e-310, -2.25};
  const std::vector<uint16_t> bf16{0x3F80, 0x7FC1, 0x8000};
  const std::vector<int32_t> i32{std::numeric_limits<int32_t>::min(), 7};
  const std::vector<int64_t> i64{std::numeric_limits<int64_t>::max()};
  const std::vector<uint8_t> u8{0, 255};
  const auto bytes_of = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const std::vector<TensorEntry> entries{{"z/한국 \"quoted\"", "F32", {2, 3}, bytes_of(f32)},
                                         {"f64", "F64", {1, 2, 1}, bytes_of(f64)},
                                         {"bf16", "BF16", {3}, bytes_of(bf16)},
                                         {"i32", "I32", {2, 1, 1, 1, 1, 1}, bytes_of(i32)},
                                         {"i64", "I64", {}, bytes_of(i64)},
                                         {"u8", "U8", {2}, bytes_of(u8)},
                                         {"empty", "F32", {4, 0}, {}}};
  const std::map<std::string, std::string> metadata{{"ə", "tab\t, \"quote\""}, {"format", "pt"}};
  const auto bytes = write_safetensors(entries, metadata);
  const SafetensorsFile file = SafetensorsFile::parse(bytes, "round trip");
  CHECK(file.metadata() == metadata);
  CHECK(file.names().size() == entries.size());
  for (const TensorEntry& entry : entries) {
    INFO(entry.name);
    const TensorEntry& read = file.entry(entry.name);
    CHECK(read.dtype == entry.dtype);
    CHECK(read.shape == entry.shape);
    CHECK(as_text(read.bytes) == as_text(entry.bytes));
  }
  CHECK_FALSE(file.contains("none"));
  CHECK(message_of<CheckpointError>([&] { file.entry("none"); }) ==
        "[round trip] holds no tensor named 'none'; names() lists them");

  const TemporaryFile on_disk(as_text(bytes));
  const SafetensorsFile read = SafetensorsFile::read(on_disk.path());
  CHECK(as_text(read.entry("i64").bytes) == as_text(bytes_of(i64)));
  std::vector<TensorEntry> reversed(entries.rbegin(), entries.rend());
  CHECK(write_safetensors(reversed, metadata) == bytes);  // order does not matter
}

TEST_CASE("safetensors: no tensors, and tensors in an order and with spaces of another writer", "[io]") {
  CHECK(SafetensorsFile::parse(write_safetensors({}), "empty").names().empty());
  const std::string file = safetensors_of(
      "{ \"b\" : {\"data_offsets\":[1,5],\"shape\":[1],\"dtype\":\"F32\"},\"a\":{\"dtype\":\"U8\",\"shape\":[],"
      "\"data_offsets\":[0,1]} }   ",
      5);
  const SafetensorsFile read = SafetensorsFile::parse(as_bytes(file), "other");
  CHECK(read.names() == std::vector<std::string>{"a", "b"});
  CHECK(read.entry("b").bytes.size() == 4);
}

TEST_CASE("safetensors: the header ends on a multiple of eight bytes, and begins the data", "[io]") {
  for (const std::string name : {"a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"}) {
    const std::vector<uint8_t> one_byte{7};
    const auto bytes =
        write_safetensors(std::vector<TensorEntry>{{name, "U8", {1}, std::as_bytes(std::span(one_byte))}});
    CHECK(uint64_t(bytes[0]) % 8 == 0);
    CHECK(bytes.size() == 8 + uint64_t(bytes[0]) + 1);
  }
}

TEST_CASE("safetensors: what cannot be written is an InvalidArgument", "[io]") {
  const std::vector<float> values{1, 2};
  const auto bytes = std::as_bytes(std::span(values));
  const auto refused = [](std::vector<TensorEntry> entries) {
    return message_of<InvalidArgument>([&] { write_safetensors(entries); });
  };
  CHECK(refused({{"w", "F32", {3}, bytes}}) ==
        "[write_safetensors] tensor 'w' of dtype F32 does not fit its 8 bytes; shape, dtype and bytes must agree, in "
        "at most 8 dimensions");
  CHECK(refused({{"w", "F8", {8}, bytes}}).find("dtype F8") != std::string::npos);
  CHECK(refused({{"w", "F32", {-2}, bytes}}) != "no exception");
  CHECK(refused({{"w", "F32", {int64_t(1) << 62, 4}, bytes}}) != "no exception");
  CHECK(refused({{"__metadata__", "F32", {2}, bytes}}) != "no exception");
  CHECK(refused({{"w", "F32", {2}, bytes}, {"v", "F32", {2}, bytes}, {"w", "F32", {2}, bytes}}) ==
        "[write_safetensors] two tensors are named 'w'; rename one");
  CHECK(refused({{"\xFF", "F32", {2}, bytes}}).find("UTF-8") != std::string::npos);
  CHECK(message_of<InvalidArgument>([&] {
          write_safetensors({}, {{"note", "\xC0"}});
        }).find("UTF-8") != std::string::npos);
}

TEST_CASE("safetensors: files that cannot be read are an IoError", "[io]") {
  const TemporaryFile file("");
  const auto refused = [](const std::string& path) {
    return message_of<IoError>([&] { SafetensorsFile::read(path); });
  };
  CHECK(refused(file.folder() + "/none") ==
        "[" + file.folder() + "/none] cannot open: No such file or directory; check the path");
  CHECK(refused(file.folder()) == "[" + file.folder() + "] cannot read: Is a directory; name a file, not a folder");
  CHECK(refused("/dev/zero") == "[/dev/zero] is no regular file; name a file, not a pipe or a device");
}

}  // namespace libtrain::testing
