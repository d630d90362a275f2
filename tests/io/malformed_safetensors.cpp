#include "io/malformed_safetensors.h"

#include <cstdint>

namespace libtrain::testing {
namespace {

/// The eight bytes that begin a file.
std::string length_field(uint64_t length) {
  std::string text;
  for (int i = 0; i < 8; ++i) text.push_back(char(length >> (8 * i)));
  return text;
}

/// A file whose header has an @ before the character that the complaint must point at.
Malformed marked(const char* what, std::string header, size_t data_bytes, const std::string& complaint) {
  const size_t at = header.find('@');
  header.erase(at, 1);
  return {what, safetensors_of(header, data_bytes), complaint + " (byte " + std::to_string(8 + at) + " of the file)"};
}

/// One tensor 'w' with these fields.
Malformed one(const char* what, const std::string& fields, size_t data_bytes, const std::string& complaint) {
  return marked(what, "{\"w\":{" + fields + "}}", data_bytes, "tensor 'w'" + complaint);
}

/// One tensor 'w' of F32 with this shape and these offsets.
Malformed f32(const char* what, const std::string& shape, const std::string& offsets, size_t data_bytes,
              const std::string& complaint) {
  return one(what, "\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets, data_bytes, complaint);
}

/// Two tensors 'a' and 'b' of four bytes, at these places.
Malformed two(const char* what, const std::string& a, const std::string& b, size_t data_bytes,
              const std::string& complaint) {
  const std::string fields = R"("dtype":"F32","shape":[1],"data_offsets":)";
  return marked(what, "{\"a\":{" + fields + a + "},\"b\":@{" + fields + b + "}}", data_bytes, complaint);
}

/// What is wrong with the file as a whole is said of its first byte.
Malformed raw(const char* what, const std::string& bytes, const std::string& complaint) {
  return {what, bytes, "header length: " + complaint + " (byte 0 of the file)"};
}

std::string repeated(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

constexpr const char* kExactly = ": expected exactly dtype, shape and data_offsets";
constexpr const char* kSizes = " shape: expected whole numbers >= 0 below 2^63, got ";
constexpr const char* kOffsets = " data_offsets: expected whole numbers >= 0 below 2^63, got ";

std::vector<Malformed> lengths() {
  return {
      raw("zero bytes", "", "expected 8 bytes, got a file of 0"),
      raw("cut within the length", "\x10", "expected 8 bytes, got a file of 1"),
      raw("cut before the last byte of the length", std::string(7, '\0'), "expected 8 bytes, got a file of 7"),
      raw("a header that is cut short",
          length_field(100) + "{\"w\":", "100 bytes, but only 5 follow: the file is cut short"),
      raw("a length without a header", length_field(2), "2 bytes, but only 0 follow: the file is cut short"),
      raw("a huge header", length_field(100'000'001) + "{}", "100000001 bytes, the limit is 100000000"),
      raw("a length that wraps with its own eight bytes", length_field(UINT64_MAX - 7) + "{}",
          "18446744073709551608 bytes, the limit is 100000000"),
      raw("a header of 2^64 - 1 bytes", std::string(8, '\xFF') + "{}",
          "18446744073709551615 bytes, the limit is 100000000"),
      raw("a negative header length", length_field(uint64_t(1) << 63) + "{}",
          "9223372036854775808 bytes, the limit is 100000000"),
      raw("a length with its bytes the other way round", std::string("\0\0\0\0\0\0\0\x02", 8) + "{}",
          "144115188075855872 bytes, the limit is 100000000"),
  };
}

std::vector<Malformed> texts() {
  const std::string begin = "header: expected it to begin with '{'", no_json = "header: no JSON",
                    no_utf8 = "header: not UTF-8", escape = "header: no escape of JSON";
  return {
      marked("no header", "@", 0, begin),
      marked("a space before the header", "@ {}", 0, begin),
      marked("a line end before the header", "@\n{}", 0, begin),
      marked("a byte order mark", "@\xEF\xBB\xBF{}", 0, begin),
      marked("a header that is an array", "@[]", 0, begin),
      marked("a header that is a pickle", "@\x80\x04\x95", 0, begin),
      marked("bad JSON", "{\"w\" @1}", 0, no_json),
      marked("JSON that ends early", "{\"w\":{\"dtype\":\"F32\"@", 0, no_json),
      marked("JSON that ends in a text", "{\"w@", 0, no_json),
      marked("JSON that ends in an escape", "{\"w@\\", 0, escape),
      marked("something behind the header", "{} @{}", 0, no_json),
      marked("NUL as padding", std::string("{}@\0\0", 5), 0, no_json),
      marked("NUL in a name", std::string("{\"w@\0\":{}}", 10), 0, no_json),
      marked("a line end in a name", "{\"w@\n\":{}}", 0, no_json),
      marked("a comma at the end", "{\"w\":{},@}", 0, no_json),
      marked("a comma at the end of an array", "{\"w\":[1,@]}", 0, no_json),
      marked("a comment", "{@/**/}", 0, no_json),
      marked("apostrophes for quotes", "{@'w':{}}", 0, no_json),
      marked("NaN", "{\"w\":@NaN}", 0, no_json),
      marked("a number that begins with zero", "{\"w\":0@1}", 0, no_json),
      marked("a hexadecimal number", "{\"w\":0@x10}", 0, no_json),
      marked("a number with a plus", "{\"w\":@+1}", 0, no_json),
      marked("a name that is not UTF-8", "{\"@\xFF\":1}", 0, no_utf8),
      marked("an overlong name", "{\"@\xC0\x80\":1}", 0, no_utf8),
      marked("a surrogate in UTF-8", "{\"@\xED\xA0\x80\":1}", 0, no_utf8),
      marked("UTF-8 that is cut short by the quote", "{\"@\xE2\x82\":1}", 0, no_utf8),
      marked("half a surrogate pair", R"({"@\uD800":1})", 0, escape),
      marked("surrogates the wrong way round", R"({"@\uDC00\uD800":1})", 0, escape),
      marked("an escape of three digits", R"({"@\u12":1})", 0, escape),
      marked("an unknown escape", R"({"@\x41":1})", 0, escape),
      marked("a number beyond f64", "{\"w\":@1e999}", 0, "header: a number that f64 cannot hold"),
      marked("deep nesting", "{\"w\":[[@" + repeated(100000, "["), 0, "header: nested deeper than 3 levels"),
      marked("deep nesting of objects", "{\"w\":{\"w\":{\"w\":@" + repeated(50000, "{\"w\":"), 0,
             "header: nested deeper than 3 levels"),
      marked("nesting in the metadata", R"({"__metadata__":{"a":[@[]]}})", 0, "header: nested deeper than 3 levels"),
  };
}

std::vector<Malformed> names() {
  const std::string long_name(5000, 'n');
  return {
      marked("a tensor twice", R"({"w":{},@"w":{}})", 0, "header: key \"w\" occurs twice"),
      marked("a tensor twice, once with an escape", R"({"w":{},@"\u0077":{}})", 0, "header: key \"w\" occurs twice"),
      marked("a field twice", R"({"w":{"dtype":"F32",@"dtype":"F64"}})", 0, "header: key \"dtype\" occurs twice"),
      marked("metadata twice", R"({"__metadata__":{},@"__metadata__":{}})", 0,
             "header: key \"__metadata__\" occurs twice"),
      marked("a key of the metadata twice", R"({"__metadata__":{"a":"1",@"a":"2"}})", 0,
             "header: key \"a\" occurs twice"),
      marked("metadata that is no object", R"({"__metadata__":@3})", 0, "__metadata__: expected an object, got 3"),
      marked("metadata that is null", R"({"__metadata__":@null})", 0, "__metadata__: expected an object, got null"),
      marked("metadata that is no text", R"({"__metadata__":{"epoch":@3}})", 0,
             "__metadata__: expected texts, got 3 under \"epoch\""),
      marked("a name without end", "{@\"" + long_name + "\":{}}", 0,
             "tensor '" + long_name.substr(0, 100) + "…': a name of 5000 bytes, expected at most 4096"),
      marked("a tensor that is no object", "{\"w\":@7}", 0, std::string("tensor 'w'") + kExactly),
      marked("a missing field", R"({"w":@{"dtype":"F32","shape":[1]}})", 4, std::string("tensor 'w'") + kExactly),
      marked("a fourth field", R"({"w":@{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4,
             std::string("tensor 'w'") + kExactly),
      marked("a field misspelt", R"({"w":@{"dtype":"F32","shape":[1],"offsets":[0,4]}})", 4,
             std::string("tensor 'w'") + kExactly),
  };
}

std::vector<Malformed> shapes() {
  const std::string known = " dtype: expected F32, F64, BF16, I32, I64 or U8, got ";
  return {
      one("an unknown dtype", R"("dtype":@"F8","shape":[1],"data_offsets":[0,1])", 1, known + "\"F8\""),
      one("a dtype that is no text", R"("dtype":@4,"shape":[1],"data_offsets":[0,4])", 4, known + "4"),
      one("a dtype without end", "\"dtype\":@\"" + repeated(5000, "F") + R"(","shape":[1],"data_offsets":[0,4])", 4,
          known + "\"" + repeated(59, "F") + "…"),
      one("a dtype of another size", R"("dtype":"F64","shape":[1],"data_offsets":@[0,4])", 4,
          " data_offsets: F64 [1] takes 8 bytes, got 4"),
      f32("a shape that is no array", "@1", "[0,4]", 4, " shape: expected whole numbers in brackets, got 1"),
      f32("too many dimensions", "@[1,1,1,1,1,1,1,1,1]", "[0,4]", 4,
          " shape: expected at most 8 whole numbers, got [1,1,1,1,1,1,1,1,1]"),
      f32("a million dimensions", "@[" + repeated(1'000'000, "1,") + "1]", "[0,4]", 4,
          " shape: expected at most 8 whole numbers, got [" + repeated(29, "1,") + "1…"),
      f32("a negative size", "@[-1]", "[0,4]", 4, kSizes + std::string("[-1]")),
      f32("two negative sizes whose product fits", "@[-1,-1]", "[0,4]", 4, kSizes + std::string("[-1,-1]")),
      f32("a size with a fraction", "@[1.0]", "[0,4]", 4, kSizes + std::string("[1.0]")),
      f32("a size with an exponent", "@[1e0]", "[0,4]", 4, kSizes + std::string("[1e0]")),
      f32("a size of 2^63", "@[9223372036854775808]", "[0,4]", 4, kSizes + std::string("[9223372036854775808]")),
      f32("a size of 2^64 + 1, which wraps to 1", "@[18446744073709551617]", "[0,4]", 4,
          kSizes + std::string("[18446744073709551617]")),
      f32("a size that is a text", "@[\"1\"]", "[0,4]", 4, kSizes + std::string("[\"1\"]")),
      f32("a size that is null", "@[null]", "[0,4]", 4, kSizes + std::string("[null]")),
      f32("a product of sizes that overflows to 0", "[4294967296,4294967296,1]", "@[0,0]", 0,
          " data_offsets: F32 [4294967296,4294967296,1] takes too many bytes, got 0"),
      f32("a product that overflows with the element's size", "[4611686018427387905]", "@[0,4]", 4,
          " data_offsets: F32 [4611686018427387905] takes too many bytes, got 4"),
  };
}

std::vector<Malformed> places() {
  return {
      f32("one offset", "[1]", "@[4]", 4, " data_offsets: expected [begin, end], got [4]"),
      f32("no offsets", "[1]", "@[]", 4, " data_offsets: expected [begin, end], got []"),
      f32("three offsets", "[1]", "@[0,4,8]", 4, " data_offsets: expected at most 2 whole numbers, got [0,4,8]"),
      f32("a negative offset", "[1]", "@[-4,0]", 4, kOffsets + std::string("[-4,0]")),
      f32("an offset of minus zero", "[1]", "@[-0,4]", 4, kOffsets + std::string("[-0,4]")),
      f32("an offset with a fraction", "[1]", "@[0.0,4]", 4, kOffsets + std::string("[0.0,4]")),
      f32("an offset that is a text", "[1]", "@[\"0\",4]", 4, kOffsets + std::string("[\"0\",4]")),
      f32("an offset of 2^64 + 4, which wraps to 4", "[1]", "@[0,18446744073709551620]", 4,
          kOffsets + std::string("[0,18446744073709551620]")),
      f32("offsets the wrong way round", "[1]", "@[4,0]", 4, " data_offsets: expected [begin, end], got [4,0]"),
      f32("offsets that do not fit the shape", "[2]", "@[0,4]", 4, " data_offsets: F32 [2] takes 8 bytes, got 4"),
      marked("a hole at the beginning", R"({"w":@{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
             "tensor 'w' data_offsets: begins at byte 4 of the data, expected 0: a hole"),
      two("a hole", "[0,4]", "[8,12]", 12, "tensor 'b' data_offsets: begins at byte 8 of the data, expected 4: a hole"),
      two("an overlap", "[0,4]", "[2,6]", 6,
          "tensor 'b' data_offsets: begins at byte 2 of the data, expected 4: an overlap"),
      two("two in one place", "[0,4]", "[0,4]", 4,
          "tensor 'b' data_offsets: begins at byte 0 of the data, expected 4: an overlap"),
      marked("an empty tensor beyond the data", R"({"w":@{"dtype":"F32","shape":[0],"data_offsets":[99,99]}})", 0,
             "tensor 'w' data_offsets: begins at byte 99 of the data, expected 0: a hole"),
      marked("data that is cut short", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}@)", 7,
             "data: the tensors take 8 bytes, the file has 7: it is cut short"),
      marked("no data", R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}@)", 0,
             "data: the tensors take 8 bytes, the file has 0: it is cut short"),
      marked("bytes behind the data", R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}@)", 5,
             "data: the tensors take 4 bytes, the file has 5"),
      marked("data without tensors", "{}@", 3, "data: the tensors take 0 bytes, the file has 3"),
  };
}

}  // namespace

std::string safetensors_of(std::string_view header, size_t data_bytes) {
  return length_field(header.size()) + std::string(header) + std::string(data_bytes, 'x');
}

std::vector<Malformed> malformed_safetensors() {
  std::vector<Malformed> all;
  for (const auto& part : {lengths(), texts(), names(), shapes(), places()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace libtrain::testing
