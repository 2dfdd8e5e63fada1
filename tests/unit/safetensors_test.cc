#include "models/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace nsic {
namespace {

using testing::HasSubstr;

HostTensor Tensor(DType dtype, std::vector<int64_t> shape) {
  HostTensor tensor{dtype, std::move(shape), {}};
  size_t bytes = DTypeSize(dtype);
  for (int64_t side : tensor.shape) bytes *= static_cast<size_t>(side);
  for (size_t i = 0; i < bytes; ++i) tensor.data.push_back(static_cast<std::byte>(i * 37 + 11));
  return tensor;
}

std::string LittleEndian64(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
  return bytes;
}

std::string File(const std::string& header, const std::string& data) { return LittleEndian64(header.size()) + header + data; }

TEST(Safetensors, RoundTripOfEveryType) {
  TensorMap tensors;
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt64, DType::kInt32, DType::kInt16,
                      DType::kInt8, DType::kUInt8, DType::kBool}) {
    tensors["matrix." + std::string(DTypeName(dtype))] = Tensor(dtype, {3, 5});
  }
  tensors["scalar"] = Tensor(DType::kFloat32, {});
  tensors["empty"] = Tensor(DType::kFloat32, {0, 4});
  tensors["name with \"quotes\" and 名前"] = Tensor(DType::kInt64, {2});

  const std::string bytes = SerializeSafetensors(tensors);
  const Result<TensorMap> parsed = ParseSafetensors(bytes, "test");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    ASSERT_EQ(parsed->count(name), 1u);
    EXPECT_EQ(parsed->at(name).dtype, tensor.dtype);
    EXPECT_EQ(parsed->at(name).shape, tensor.shape);
    EXPECT_EQ(parsed->at(name).data, tensor.data);
  }
  EXPECT_EQ(SerializeSafetensors(*parsed), bytes);
}

TEST(Safetensors, ReadsWhatOtherProgramsWrite) {
  // Tensors in any order of the data, metadata, a header padded with spaces.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"I16","shape":[1,1],"data_offsets":[2,4]}}   )";
  const Result<TensorMap> parsed = ParseSafetensors(File(header, "wxyz"), "test");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->size(), 2u);
  EXPECT_EQ(std::memcmp(parsed->at("a").data.data(), "yz", 2), 0);
}

TEST(Safetensors, RefusesHostileFiles) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  struct Row {
    const char* name;
    std::string bytes;
    StatusCode code;
    const char* message;
  };
  const std::vector<Row> rows = {
      {"empty", "", StatusCode::kDataLoss, "truncated"},
      {"seven bytes", "1234567", StatusCode::kDataLoss, "truncated"},
      {"truncated header", File(good, "").substr(0, 20), StatusCode::kDataLoss, "truncated inside its header"},
      {"truncated data", File(good, "abc"), StatusCode::kDataLoss, "outside the file"},
      {"huge header length", LittleEndian64(uint64_t{1} << 40) + good, StatusCode::kDataLoss, "header claims"},
      {"header length of all ones", LittleEndian64(~uint64_t{0}) + good, StatusCode::kDataLoss, "header claims"},
      {"no JSON", File("{", "abcd"), StatusCode::kDataLoss, "no JSON object"},
      {"an array", File("[]", ""), StatusCode::kDataLoss, "no JSON object"},
      {"invalid UTF-8", File("{\"\xff\":1}", ""), StatusCode::kDataLoss, "no JSON object"},
      {"deep nesting", File(std::string(100000, '[') + std::string(100000, ']'), ""), StatusCode::kDataLoss, "no JSON object"},
      {"entry is no object", File(R"({"a":1})", ""), StatusCode::kDataLoss, "no JSON object"},
      {"unknown dtype", File(R"({"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", "abcd"), StatusCode::kInvalidArgument,
       "unknown dtype 'F8_E4M3'"},
      {"missing dtype", File(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "abcd"), StatusCode::kDataLoss, "dtype is missing"},
      {"missing shape", File(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "abcd"), StatusCode::kDataLoss, "shape is missing"},
      {"negative side", File(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "abcd"), StatusCode::kDataLoss,
       "no natural number"},
      {"fraction as a side", File(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "abcd"), StatusCode::kDataLoss,
       "no natural number"},
      {"overflowing shape", File(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]}})", "abcd"),
       StatusCode::kDataLoss, "overflows"},
      {"overflow that wraps to the size", File(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", ""),
       StatusCode::kDataLoss, "overflows"},
      {"shape larger than its range", File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "abcd"), StatusCode::kDataLoss,
       "needs 8 bytes"},
      {"range backwards", File(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}})", "abcd"), StatusCode::kDataLoss, "outside"},
      {"range of three", File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "abcd"), StatusCode::kDataLoss, "no pair"},
      {"overlapping ranges",
       File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", "abcdef"),
       StatusCode::kDataLoss, "overlap"},
      {"the same range twice",
       File(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "abcd"),
       StatusCode::kDataLoss, "overlap"},
      {"hole between ranges",
       File(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", "abc"),
       StatusCode::kDataLoss, "hole"},
      {"bytes left over", File(good, "abcdefgh"), StatusCode::kDataLoss, "4 bytes after the last tensor"},
  };
  for (const Row& row : rows) {
    const Result<TensorMap> parsed = ParseSafetensors(row.bytes, "weights.safetensors");
    ASSERT_FALSE(parsed.ok()) << row.name;
    EXPECT_EQ(parsed.status().code(), row.code) << row.name << ": " << parsed.status();
    EXPECT_THAT(parsed.status().message(), HasSubstr(row.message)) << row.name;
    EXPECT_THAT(parsed.status().message(), HasSubstr("weights.safetensors")) << row.name;
  }
}

}  // namespace
}  // namespace nsic
