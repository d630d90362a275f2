#include "libtrain/io/safetensors.h"

#include <cmath>
#include <limits>

#include "catch.h"
#include "data/temporary_file.h"

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

/// The eight bytes that begin a file.
std::string length_field(uint64_t length) {
  std::string text;
  for (int i = 0; i < 8; ++i) text.push_back(char(length >> (8 * i)));
  return text;
}

std::string file_of(std::string_view header, size_t data_bytes = 0) {
  return length_field(header.size()) + std::string(header) + std::string(data_bytes, 'x');
}

/// One tensor 'w' with these fields, and so many bytes of data.
std::string one(const std::string& fields, size_t data_bytes) {
  return file_of("{\"w\":{" + fields + "}}", data_bytes);
}

/// Two tensors 'a' and 'b' of four bytes, at these places.
std::string two(const std::string& a, const std::string& b, size_t data_bytes) {
  const std::string head = R"({"dtype":"F32","shape":[1],"data_offsets":)";
  return file_of("{\"a\":" + head + a + "},\"b\":" + head + b + "}}", data_bytes);
}

struct Malformed {
  const char* what;
  std::string bytes;
  std::string message;  // behind "[PATH] "
};

std::string numbered(int count) {
  std::string shape;
  for (int i = 0; i < count; ++i) shape += i ? ",1" : "1";
  return shape;
}

std::vector<Malformed> malformed_files() {
  const std::string nested(100000, '[');
  return {
      {"zero bytes", "", "file: expected at least 8 bytes, got 0"},
      {"cut within the length", "\x10\0\0", "file: expected at least 8 bytes, got 1"},
      {"a header that is cut short",
       length_field(100) + "{\"w\":", "header length: 100 bytes, but only 5 follow: the file is cut short"},
      {"a huge header", length_field(100'000'001) + "{}", "header length: 100000001 bytes, the limit is 100000000"},
      {"a header of 2^64 - 1 bytes", std::string(8, '\xFF') + "{}",
       "header length: 18446744073709551615 bytes, the limit is 100000000"},
      {"a negative header length", length_field(uint64_t(1) << 63) + "{}",
       "header length: 9223372036854775808 bytes, the limit is 100000000"},
      {"no header", file_of(""), "header: expected it to begin with '{' at byte 8"},
      {"a space before the header", file_of(" {}"), "header: expected it to begin with '{' at byte 8"},
      {"a byte order mark", file_of("\xEF\xBB\xBF{}"), "header: expected it to begin with '{' at byte 8"},
      {"a header that is an array", file_of("[]"), "header: expected it to begin with '{' at byte 8"},
      {"bad JSON", file_of("{\"w\" 1}"), "header: no JSON at byte 13 of the file"},
      {"JSON that ends early", file_of("{\"w\":{\"dtype\":\"F32\""), "header: no JSON at byte 27 of the file"},
      {"something behind the header", file_of("{} {}"), "header: no JSON at byte 11 of the file"},
      {"NUL as padding", file_of(std::string_view("{}\0\0", 4)), "header: no JSON at byte 10 of the file"},
      {"a name that is not UTF-8", file_of("{\"\xFF\":1}"), "header: no JSON at byte 10 of the file"},
      {"a number beyond f64", one(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,4])", 4),
       "header: no JSON at byte 41 of the file"},
      {"deep nesting", file_of("{\"w\":" + nested), "header: nested deeper than 3 levels"},
      {"nesting in the metadata", file_of(R"({"__metadata__":{"a":[[]]}})"), "header: nested deeper than 3 levels"},
      {"a tensor twice", file_of(R"({"w":{},"w":{}})"), "header: key 'w' occurs twice"},
      {"a field twice", file_of(R"({"w":{"dtype":"F32","dtype":"F64"}})"), "header: key 'dtype' occurs twice"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})"),
       "header: key '__metadata__' occurs twice"},
      {"metadata that is no object", file_of(R"({"__metadata__":3})"), "__metadata__: expected an object, got number"},
      {"metadata that is no text", file_of(R"({"__metadata__":{"epoch":3}})"),
       "__metadata__: expected texts, got number under 'epoch'"},
      {"a tensor that is no object", file_of("{\"w\":7}"),
       "tensor 'w': expected exactly dtype, shape and data_offsets"},
      {"a missing field", one(R"("dtype":"F32","shape":[1])", 4),
       "tensor 'w': expected exactly dtype, shape and data_offsets"},
      {"a fourth field", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1)", 4),
       "tensor 'w': expected exactly dtype, shape and data_offsets"},
      {"a field misspelt", one(R"("dtype":"F32","shape":[1],"offsets":[0,4])", 4),
       "tensor 'w': expected exactly dtype, shape and data_offsets"},
      {"a name without end", file_of("{\"" + std::string(5000, 'n') + "\":{}}"),
       "tensor '" + std::string(100, 'n') + "': a name of 5000 bytes, expected at most 4096"},
      {"an unknown dtype", one(R"("dtype":"F8","shape":[1],"data_offsets":[0,1])", 1),
       "tensor 'w': dtype: expected F32, F64, BF16, I32, I64 or U8, got \"F8\""},
      {"a dtype that is no text", one(R"("dtype":4,"shape":[1],"data_offsets":[0,4])", 4),
       "tensor 'w': dtype: expected F32, F64, BF16, I32, I64 or U8, got 4"},
      {"a dtype of another size", one(R"("dtype":"F64","shape":[1],"data_offsets":[0,4])", 4),
       "tensor 'w': F64 [1] takes 8 bytes, data_offsets give 4"},
      {"a shape that is no array", one(R"("dtype":"F32","shape":1,"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected at most 8 whole numbers, got 1"},
      {"too many dimensions", one(R"("dtype":"F32","shape":[)" + numbered(9) + R"(],"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected at most 8 whole numbers, got [1,1,1,1,1,1,1,1,1]"},
      {"a negative size", one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected whole numbers >= 0 below 2^63, got [-1]"},
      {"a size with a fraction", one(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected whole numbers >= 0 below 2^63, got [1.0]"},
      {"a size of 2^63", one(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected whole numbers >= 0 below 2^63, got [9223372036854775808]"},
      {"a size that is a text", one(R"("dtype":"F32","shape":["1"],"data_offsets":[0,4])", 4),
       "tensor 'w' shape: expected whole numbers >= 0 below 2^63, got [\"1\"]"},
      {"a product of sizes that overflows to 4 bytes",
       one(R"("dtype":"F32","shape":[4294967296,4294967296,1],"data_offsets":[0,0])", 0),
       "tensor 'w': F32 [4294967296,4294967296,1] takes too many bytes, data_offsets give 0"},
      {"a product that overflows with the element's size",
       one(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])", 4),
       "tensor 'w': F32 [4611686018427387905] takes too many bytes, data_offsets give 4"},
      {"one offset", one(R"("dtype":"F32","shape":[1],"data_offsets":[4])", 4),
       "tensor 'w': data_offsets: expected [begin, end], got [4]"},
      {"three offsets", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,8])", 4),
       "tensor 'w' data_offsets: expected at most 2 whole numbers, got [0,4,8]"},
      {"a negative offset", one(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])", 4),
       "tensor 'w' data_offsets: expected whole numbers >= 0 below 2^63, got [-4,0]"},
      {"offsets the wrong way round", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", 4),
       "tensor 'w': data_offsets: expected [begin, end], got [4,0]"},
      {"offsets that do not fit the shape", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", 4),
       "tensor 'w': F32 [2] takes 8 bytes, data_offsets give 4"},
      {"a hole at the beginning", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])", 8),
       "tensor 'w': begins at byte 4 of the data, expected 0: a hole"},
      {"a hole", two("[0,4]", "[8,12]", 12), "tensor 'b': begins at byte 8 of the data, expected 4: a hole"},
      {"an overlap", two("[0,4]", "[2,6]", 6), "tensor 'b': begins at byte 2 of the data, expected 4: an overlap"},
      {"two in one place", two("[0,4]", "[0,4]", 4),
       "tensor 'b': begins at byte 0 of the data, expected 4: an overlap"},
      {"an empty tensor beyond the data", one(R"("dtype":"F32","shape":[0],"data_offsets":[99,99])", 0),
       "tensor 'w': begins at byte 99 of the data, expected 0: a hole"},
      {"data that is cut short", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 7),
       "data: the tensors take 8 bytes, the file has 7: it is cut short"},
      {"bytes behind the data", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", 5),
       "data: the tensors take 4 bytes, the file has 5"},
      {"data without tensors", file_of("{}", 3), "data: the tensors take 0 bytes, the file has 3"},
  };
}

}  // namespace

const char* const kRemedy = "; copy the file again";

TEST_CASE("safetensors: every kind of malformed file is refused by file and field", "[io]") {
  for (const Malformed& file : malformed_files()) {
    INFO(file.what);
    const std::string parsed =
        message_of<CheckpointError>([&] { SafetensorsFile::parse(as_bytes(file.bytes), "m.safetensors"); });
    CHECK(parsed == "[m.safetensors] " + file.message + kRemedy);
    const TemporaryFile on_disk(file.bytes);
    const std::string read = message_of<CheckpointError>([&] { SafetensorsFile::read(on_disk.path()); });
    CHECK(read == "[" + on_disk.path() + "] " + file.message + kRemedy);
  }
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
  const std::string file = file_of(
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
