#include "models/io/pth_reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "tests/unit/pth_writer.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

template <typename T>
std::vector<T> Values(const HostTensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

bool SameTensors(const TensorMap& a, const TensorMap& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.dtype == y.second.dtype && x.second.shape == y.second.shape && x.second.data == y.second.data;
  };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same);
}

std::string Floats(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return bytes;
}

// A checkpoint of one pickle and one storage "0" of twelve floats.
std::string OneStorage(const PickleWriter& pickle) {
  ZipWriter zip;
  zip.Add("archive/data.pkl", pickle.Finish());
  zip.Add("archive/data/0", Floats(12));
  return zip.Finish();
}

// {"w": tensor over storage "0"}
PickleWriter OneTensor(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides, int64_t offset = 0,
                       std::string_view type = "FloatStorage", int64_t elements = 12) {
  PickleWriter pickle;
  pickle.EmptyDict().Mark().String("w").Tensor(type, "0", elements, offset, shape, strides).Raw("u");
  return pickle;
}

// What CPython's own pickler and zipfile wrote: see tests/data/checkpoints/make.py.
TEST(PthReaderTest, ReadsWhatCPythonWrites) {
  for (const char* file : {"protocol2.pth", "protocol3.pth", "protocol4.pth", "protocol5.pth", "deflated.pth"}) {
    SCOPED_TRACE(file);
    const Result<TensorMap> tensors = ReadPth(std::string(NSIC_TEST_DATA) + "/checkpoints/" + file);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    ASSERT_EQ(tensors->size(), 6u);
    EXPECT_EQ(tensors->at("conv.weight").shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(Values<float>(tensors->at("conv.weight")), (std::vector<float>{0, 0.5, 1, 1.5, 2, 2.5}));
    EXPECT_EQ(tensors->at("conv.transposed").shape, (std::vector<int64_t>{3, 2}));
    EXPECT_EQ(Values<float>(tensors->at("conv.transposed")), (std::vector<float>{0, 1.5, 0.5, 2, 1, 2.5}));
    EXPECT_EQ(Values<float>(tensors->at("conv.tail")), (std::vector<float>{2.5, 3.5, 4.5, 5.5}));
    EXPECT_EQ(tensors->at("half").dtype, DType::kFloat16);
    EXPECT_EQ(Values<uint16_t>(tensors->at("half")), (std::vector<uint16_t>{0x3c00, 0xc000, 0x3800}));
    EXPECT_EQ(tensors->at("brain").dtype, DType::kBFloat16);
    EXPECT_EQ(tensors->at("brain").shape, (std::vector<int64_t>{2, 1}));
    EXPECT_EQ(Values<uint16_t>(tensors->at("brain")), (std::vector<uint16_t>{0x3f80, 0xc000}));
    EXPECT_EQ(tensors->at("norm.num_batches_tracked").dtype, DType::kInt64);
    EXPECT_TRUE(tensors->at("norm.num_batches_tracked").shape.empty());
    EXPECT_EQ(Values<int64_t>(tensors->at("norm.num_batches_tracked")), std::vector<int64_t>{123456789012});
  }
}

TEST(PthReaderTest, RefusesHostileCallsThatCPythonWrites) {
  const struct {
    const char* file;
    const char* name;
  } kRows[] = {{"os-system.pth", "posix.system"}, {"eval.pth", "builtins.eval"}};
  for (const auto& row : kRows) {
    const Status status = ReadPth(std::string(NSIC_TEST_DATA) + "/checkpoints/" + row.file).status();
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << row.file;
    EXPECT_NE(status.message().find(std::string("names ") + row.name), std::string::npos) << status;
    EXPECT_NE(status.message().find(row.file), std::string::npos) << status;
  }
}

TEST(PthReaderTest, UnwrapsAndDropsThePrefix) {
  const TensorMap tensors = RandomNsIqe(2, 1, 4);
  for (const char* wrapper : {"", "params_ema", "params", "state_dict", "model_state_dict", "generator_state_dict"}) {
    for (const char* prefix : {"", "module."}) {
      const Result<TensorMap> read = ParsePth(WritePth(tensors, wrapper, prefix), "test.pth");
      ASSERT_TRUE(read.ok()) << "'" << wrapper << "' '" << prefix << "': " << read.status();
      EXPECT_TRUE(SameTensors(*read, tensors)) << "'" << wrapper << "' '" << prefix << "'";
    }
  }
}

TEST(PthReaderTest, TakesTheFirstWrapperOfTheList) {
  PickleWriter pickle;
  pickle.EmptyDict().Mark();
  for (const char* wrapper : {"state_dict", "params", "params_ema"}) {
    pickle.String(wrapper).EmptyDict().Mark().String(std::string("of_") + wrapper).Tensor("FloatStorage", "0", 12, 0, {1}, {1}).Raw("u");
  }
  pickle.Raw("u");
  const Result<TensorMap> read = ParsePth(OneStorage(pickle), "test.pth");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ(read->begin()->first, "of_params_ema");
}

TEST(PthReaderTest, StridesAndOffsets) {
  const struct {
    std::vector<int64_t> shape, strides;
    int64_t offset;
    std::vector<float> expected;
  } kRows[] = {
      {{}, {}, 7, {7}},
      {{3}, {1}, 9, {9, 10, 11}},
      {{3}, {2}, 1, {1, 3, 5}},
      {{2, 2, 2}, {1, 2, 4}, 0, {0, 4, 2, 6, 1, 5, 3, 7}},
      {{2, 1, 3}, {6, std::numeric_limits<int64_t>::max(), 2}, 1, {1, 3, 5, 7, 9, 11}},  // the stride of one step means nothing
      {{2, 2}, {0, 1}, 3, {3, 4, 3, 4}},                                                 // an expanded row
      {{0, 5}, {5, 1}, 12, {}},
  };
  for (size_t i = 0; i < std::size(kRows); ++i) {
    const Result<TensorMap> read = ParsePth(OneStorage(OneTensor(kRows[i].shape, kRows[i].strides, kRows[i].offset)), "test.pth");
    ASSERT_TRUE(read.ok()) << "row " << i << ": " << read.status();
    EXPECT_EQ(read->at("w").shape, kRows[i].shape) << "row " << i;
    EXPECT_EQ(Values<float>(read->at("w")), kRows[i].expected) << "row " << i;
  }
}

TEST(PthReaderTest, ReadsEveryKindOfZip) {
  for (bool zip64_end : {false, true}) {
    for (bool deflate : {false, true}) {
      for (bool zip64_fields : {false, true}) {
        ZipWriter zip;
        for (auto& [name, content] :
             {std::pair<std::string, std::string>{"archive/data.pkl", OneTensor({12}, {1}).Finish()}, {"archive/data/0", Floats(12)}}) {
          ZipWriter::Entry entry;
          entry.name = name;
          entry.content = content;
          entry.deflate = deflate;
          entry.in_zip64_fields = zip64_fields;
          zip.Add(entry);
        }
        const Result<TensorMap> read = ParsePth(zip.Finish(zip64_end), "test.pth");
        ASSERT_TRUE(read.ok()) << zip64_end << deflate << zip64_fields << ": " << read.status();
        EXPECT_EQ(Values<float>(read->at("w"))[11], 11.0f);
      }
    }
  }
}

// The pickle of {"w": tensor} and the storage, with one of the two changed.
std::string BrokenEntry(const std::function<void(ZipWriter::Entry&)>& change) {
  ZipWriter zip;
  zip.Add("archive/data.pkl", OneTensor({12}, {1}).Finish());
  ZipWriter::Entry storage;
  storage.name = "archive/data/0";
  storage.content = Floats(12);
  change(storage);
  zip.Add(storage);
  return zip.Finish();
}

struct HostileRow {
  std::string name;
  std::string bytes;
  StatusCode code;
  std::string message;
};

class HostilePth : public testing::Test {
 protected:
  static void Check(const std::vector<HostileRow>& rows) {
    for (const HostileRow& row : rows) {
      const Status status = ParsePth(row.bytes, "evil.pth").status();
      EXPECT_EQ(status.code(), row.code) << row.name << ": " << status;
      EXPECT_NE(status.message().find(row.message), std::string::npos) << row.name << ": " << status;
      EXPECT_EQ(status.message().rfind("evil.pth: ", 0), 0u) << row.name << ": " << status;
    }
  }
};

TEST_F(HostilePth, GlobalsAreRefusedByName) {
  std::vector<HostileRow> rows;
  const std::pair<const char*, const char*> kNames[] = {{"os", "system"},
                                                        {"posix", "system"},
                                                        {"builtins", "eval"},
                                                        {"builtins", "exec"},
                                                        {"__builtin__", "eval"},
                                                        {"subprocess", "Popen"},
                                                        {"torch", "load"},
                                                        {"torch.hub", "load"},
                                                        {"numpy.core.multiarray", "_reconstruct"},
                                                        {"collections", "Counter"},
                                                        {"torch", "FloatStorage.__init__"},
                                                        {"argparse", "Namespace"},
                                                        {"", ""}};
  for (const auto& [module, name] : kNames) {
    const std::string full = std::string(module) + "." + name;
    PickleWriter call;
    call.EmptyDict().Mark().String("w").Global(module, name).Mark().String("echo owned").Raw("tRu");
    rows.push_back({"call of " + full, OneStorage(call), StatusCode::kPermissionDenied, "names " + full});
    PickleWriter stack_global;
    stack_global.String(module).String(name).Raw("\x93");
    rows.push_back({"STACK_GLOBAL " + full, OneStorage(stack_global), StatusCode::kPermissionDenied, "names " + full});
    PickleWriter inst;
    inst.Mark().Raw("i").Raw(module).Raw("\n").Raw(name).Raw("\n");
    rows.push_back({"INST " + full, OneStorage(inst), StatusCode::kPermissionDenied, "names " + full});
  }
  Check(rows);
}

TEST_F(HostilePth, Pickles) {
  const auto repeat = [](std::string_view text, size_t times) {
    std::string all;
    for (size_t i = 0; i < times; ++i) all += text;
    return all;
  };
  const auto raw = [](std::string_view program) { return OneStorage(PickleWriter().Raw(program)); };
  const std::string many_none = repeat("N", 100'000);
  Check({
      {"deep marks", raw(repeat("(", 1'000'000)), StatusCode::kResourceExhausted, "nested deeper than 64"},
      {"deep tuples", raw("N" + repeat("\x85", 1'000'000)), StatusCode::kResourceExhausted, "nested deeper than 64"},
      {"deep lists", raw(repeat("](", 70) + repeat("e", 70)), StatusCode::kResourceExhausted, "nested deeper than 64"},
      {"deep dicts", raw(repeat("}(K\x01", 100) + repeat("u", 100)), StatusCode::kResourceExhausted, "nested deeper than 64"},
      {"a list in itself", raw("]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a"), StatusCode::kInvalidArgument,
       "holds a list"},
      {"millions of values", raw(repeat("N", 2'000'000)), StatusCode::kResourceExhausted, "more values"},
      {"lists that multiply",
       raw("(" + many_none + "lq\x01" + "0" + repeat("]q\x02(h\x01" + std::string("h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01") + "e0", 10) +
           repeat("(" + repeat("h\x01", 100'000) + "l0", 90)),
       StatusCode::kResourceExhausted, "more items"},
      {"string beyond the end", raw(std::string("X\xff\xff\xff\x7f", 5)), StatusCode::kDataLoss, "ends in the middle"},
      {"string of 2^64 bytes", raw("\x8d" + std::string(8, '\xff')), StatusCode::kDataLoss, "ends in the middle"},
      {"integer of 255 bytes", raw("\x8a\xff" + std::string(255, '\x7f')), StatusCode::kDataLoss, "integer of 255 bytes"},
      {"integer of 2^32 - 1 bytes", raw("\x8b" + std::string(4, '\xff')), StatusCode::kDataLoss, "integer of 4294967295 bytes"},
      {"integer that is text", raw("Iten\n"), StatusCode::kDataLoss, "number that is none"},
      {"line without an end", raw("cos"), StatusCode::kDataLoss, "middle of a line"},
      {"empty", OneStorage(PickleWriter()), StatusCode::kDataLoss, "stack is empty"},
      {"pop of nothing", raw("0"), StatusCode::kDataLoss, "stack is empty"},
      {"pop across a mark", raw("N(0"), StatusCode::kDataLoss, "stack is empty"},
      {"tuple across a mark", raw("NN(\x86"), StatusCode::kDataLoss, "stack is empty"},
      {"no mark", raw("t"), StatusCode::kDataLoss, "has no mark"},
      {"recall of nothing", raw("h\x05"), StatusCode::kDataLoss, "never stored"},
      {"key without a value", raw("}(NNNu"), StatusCode::kDataLoss, "key without a value"},
      {"items of a number", raw("K\x01(Ne"), StatusCode::kDataLoss, "adds items to a int"},
      {"call of a number", raw("K\x01)R"), StatusCode::kDataLoss, "calls a int"},
      {"call of a storage class", OneStorage(PickleWriter().Global("torch", "FloatStorage").Raw(")R")), StatusCode::kDataLoss,
       "calls torch.FloatStorage"},
      {"attributes of a tuple", raw(")Nb"), StatusCode::kDataLoss, "attributes of no dict"},
      {"protocol 9", OneStorage(PickleWriter().Raw("\x80\x09")), StatusCode::kDataLoss, "unknown protocol 9"},
      {"NEWOBJ", raw("))\x81"), StatusCode::kDataLoss, "unknown instruction 0x81"},
      {"OBJ", raw("(No"), StatusCode::kDataLoss, "unknown instruction 0x6f"},
      {"EXT1", raw("\x82\x01"), StatusCode::kDataLoss, "unknown instruction 0x82"},
      {"PERSID", raw("Pstorage\n"), StatusCode::kDataLoss, "unknown instruction 0x50"},
      {"persistent id that is no storage", raw("NQ"), StatusCode::kDataLoss, "no storage"},
      {"OrderedDict of a number", OneStorage(PickleWriter().Global("collections", "OrderedDict").Raw("K\x01\x85R")), StatusCode::kDataLoss,
       "list of pairs"},
      {"tensor of nothing", OneStorage(PickleWriter().Global("torch._utils", "_rebuild_tensor_v2").Raw(")R")), StatusCode::kDataLoss,
       "wrong number of arguments"},
      {"parameter of nothing", OneStorage(PickleWriter().Global("torch._utils", "_rebuild_parameter").Raw("NNN\x87R")),
       StatusCode::kDataLoss, "a parameter is no tensor"},
  });
}

TEST_F(HostilePth, Tensors) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  // A thousand views of one storage of 200,000 floats: far more bytes than the file.
  PickleWriter views;
  views.EmptyDict().Mark();
  for (int i = 0; i < 1000; ++i) {
    views.String("w" + std::to_string(i)).Tensor("FloatStorage", "0", 200'000, 0, {200'000}, {1});
  }
  views.Raw("u");
  ZipWriter views_zip;
  views_zip.Add("archive/data.pkl", views.Finish());
  views_zip.Add("archive/data/0", Floats(200'000));

  PickleWriter two_types;
  two_types.EmptyDict().Mark().String("a").Tensor("FloatStorage", "0", 12, 0, {12}, {1});
  two_types.String("b").Tensor("HalfStorage", "0", 24, 0, {24}, {1}).Raw("u");
  PickleWriter twice;
  twice.EmptyDict().Mark().String("w").Tensor("FloatStorage", "0", 12, 0, {1}, {1});
  twice.String("module.w").Tensor("FloatStorage", "0", 12, 0, {1}, {1}).Raw("u");

  Check({
      {"longer than its storage", OneStorage(OneTensor({13}, {1})), StatusCode::kDataLoss, "tensor w lies outside its storage of 12"},
      {"offset outside", OneStorage(OneTensor({1}, {1}, 12)), StatusCode::kDataLoss, "outside its storage"},
      {"negative offset", OneStorage(OneTensor({1}, {1}, -1)), StatusCode::kDataLoss, "outside its storage"},
      {"huge offset", OneStorage(OneTensor({1}, {1}, kMax)), StatusCode::kDataLoss, "outside its storage"},
      {"stride outside", OneStorage(OneTensor({2, 2}, {11, 1})), StatusCode::kDataLoss, "outside its storage"},
      {"negative stride", OneStorage(OneTensor({2}, {-1}, 5)), StatusCode::kDataLoss, "outside its storage"},
      {"huge stride", OneStorage(OneTensor({3}, {kMax / 2 + 1}, 0)), StatusCode::kDataLoss, "outside its storage"},
      {"negative size", OneStorage(OneTensor({-2, -6}, {6, 1})), StatusCode::kDataLoss, "negative size"},
      {"size that overflows", OneStorage(OneTensor({kMax, 4, 4}, {0, 0, 0})), StatusCode::kResourceExhausted,
       "more elements than there are"},
      {"expanded to 4 EB", OneStorage(OneTensor({int64_t{1} << 60}, {0})), StatusCode::kResourceExhausted, "more than their storages hold"},
      {"a thousand views", views_zip.Finish(), StatusCode::kResourceExhausted, "more than their storages hold"},
      {"storage claims more", OneStorage(OneTensor({12}, {1}, 0, "FloatStorage", 13)), StatusCode::kDataLoss, "claims 13 elements"},
      {"storage claims 2^62", OneStorage(OneTensor({12}, {1}, 0, "FloatStorage", int64_t{1} << 62)), StatusCode::kDataLoss, "claims 4611"},
      {"negative storage", OneStorage(OneTensor({12}, {1}, 0, "FloatStorage", -1)), StatusCode::kDataLoss, "no storage"},
      {"storage of two types", OneStorage(two_types), StatusCode::kDataLoss, "torch.HalfStorage"},
      {"strides missing", OneStorage(OneTensor({12}, {})), StatusCode::kDataLoss, "do not fit its shape"},
      {"17 dimensions", OneStorage(OneTensor(std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1))), StatusCode::kDataLoss, "no shape"},
      {"same name twice", OneStorage(twice), StatusCode::kInvalidArgument, "two tensors w"},
  });
}

TEST_F(HostilePth, Zips) {
  const std::string good = OneStorage(OneTensor({12}, {1}));
  std::string flipped = good;
  flipped[good.find(Floats(12)) + 20] ^= 1;
  ZipWriter twice;
  twice.Add("archive/data.pkl", OneTensor({12}, {1}).Finish());
  twice.Add("archive/data/0", Floats(12));
  twice.Add("archive/data/0", Floats(12));
  ZipWriter two_pickles;
  two_pickles.Add("a/data.pkl", "N.");
  two_pickles.Add("b/data.pkl", "N.");
  ZipWriter no_storage;
  no_storage.Add("archive/data.pkl", OneTensor({12}, {1}).Finish());
  ZipWriter big_endian;
  big_endian.Add("archive/data.pkl", OneTensor({12}, {1}).Finish());
  big_endian.Add("archive/byteorder", "big");
  ZipWriter::Entry big_pickle;
  big_pickle.name = "archive/data.pkl";
  big_pickle.content = std::string(40 << 20, 'N');
  ZipWriter huge_pickle;
  huge_pickle.Add(big_pickle);
  ZipWriter claims;
  claims.Add("archive/data.pkl", "N.");
  // Two storages whose bytes are the same place in the file, the second one's local header copied into the first one's content.
  ZipWriter inner;
  inner.Add("archive/data/1", Floats(100));
  ZipWriter overlapping;
  ZipWriter::Entry outer_entry;
  outer_entry.name = "archive/data/0";
  outer_entry.content = inner.Finish(false);
  overlapping.Add(outer_entry);
  ZipWriter::Entry inner_entry;
  inner_entry.name = "archive/data/1";
  inner_entry.content = Floats(100);
  inner_entry.claimed_offset = 30 + 14 + 8;  // into the first entry's content
  overlapping.Add(inner_entry);

  std::vector<HostileRow> rows = {
      {"wrong checksum", flipped, StatusCode::kDataLoss, "does not have its checksum"},
      {"duplicate names", twice.Finish(), StatusCode::kDataLoss, "archive/data/0 is there twice"},
      {"overlapping storages", overlapping.Finish(), StatusCode::kDataLoss, "overlaps what follows it"},
      {"two pickles", two_pickles.Finish(), StatusCode::kInvalidArgument, "2 data.pkl"},
      {"no pickle", ZipWriter(claims).Finish().replace(34, 4, "DATA"), StatusCode::kDataLoss, "two names"},
      {"storage missing", no_storage.Finish(), StatusCode::kDataLoss, "archive/data/0 is missing"},
      {"big-endian", big_endian.Finish(), StatusCode::kInvalidArgument, "not little-endian"},
      {"pickle of 40 MiB", huge_pickle.Finish(), StatusCode::kResourceExhausted, "pickle of 41943040 bytes"},
      {"claims a billion entries", claims.Finish(true, 1'000'000'000), StatusCode::kResourceExhausted, "claims 1000000000 entries"},
      {"claims two entries", claims.Finish(false, 2), StatusCode::kDataLoss, "fewer entries than it claims"},
      {"encrypted", BrokenEntry([](auto& e) { e.flags = 1; }), StatusCode::kInvalidArgument, "is encrypted"},
      {"bzip2", BrokenEntry([](auto& e) { e.method_error = 12; }), StatusCode::kInvalidArgument, "unknown compression 12"},
      {"stored beyond the end", BrokenEntry([](auto& e) { e.claimed_size = 1 << 20; }), StatusCode::kDataLoss, "beyond the file's end"},
      {"stored with 2^60 bytes", BrokenEntry([](auto& e) {
         e.claimed_size = int64_t{1} << 60;
         e.in_zip64_fields = true;
       }),
       StatusCode::kResourceExhausted, "claim more than 4 GiB"},
      {"offset beyond the end", BrokenEntry([](auto& e) { e.claimed_offset = 1 << 30; }), StatusCode::kDataLoss,
       "not where the directory says"},
      {"offset of 2^63", BrokenEntry([](auto& e) {
         e.claimed_offset = std::numeric_limits<int64_t>::max();
         e.in_zip64_fields = true;
       }),
       StatusCode::kDataLoss, "not where the directory says"},
      {"bomb of zeros", BrokenEntry([](auto& e) {
         e.deflate = true;
         e.content = std::string(8 << 20, '\0');
       }),
       StatusCode::kResourceExhausted, "is a zip bomb"},
      {"bomb that hides its size", BrokenEntry([](auto& e) {
         e.deflate = true;
         e.content = std::string(8 << 20, '\0');
         e.claimed_size = 48;
       }),
       StatusCode::kDataLoss, "does not inflate to the size"},
      {"bomb that claims 3 GB", BrokenEntry([](auto& e) {
         e.deflate = true;
         e.claimed_size = 3'000'000'000;
       }),
       StatusCode::kResourceExhausted, "is a zip bomb"},
      {"deflated too short", BrokenEntry([](auto& e) {
         e.deflate = true;
         e.claimed_size = 100;
       }),
       StatusCode::kDataLoss, "does not inflate to the size"},
  };
  // Cut anywhere, it is refused.
  for (size_t size : {size_t{5}, size_t{60}, good.size() / 2, good.size() - 100, good.size() - 30, good.size() - 1}) {
    rows.push_back({"truncated to " + std::to_string(size), good.substr(0, size), StatusCode::kDataLoss, "truncated"});
  }
  Check(rows);
}

// No single changed byte crashes the reader or makes it read out of bounds (the sanitizers' build tells).
TEST_F(HostilePth, EveryByteChanged) {
  const std::string good = OneStorage(OneTensor({3, 2}, {1, 3}));
  ASSERT_TRUE(ParsePth(good, "good.pth").ok()) << ParsePth(good, "good.pth").status();
  for (size_t i = 0; i < good.size(); ++i) {
    for (int change : {0x01, 0x80, 0xff}) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ change);
      const Result<TensorMap> read = ParsePth(changed, "changed.pth");
      if (!read.ok()) {
        EXPECT_FALSE(read.status().message().empty());
      }
    }
  }
}

// The same for the pickle, whose changes the zip's checksum would hide.
TEST_F(HostilePth, EveryByteOfThePickleChanged) {
  const std::string good = OneTensor({3, 2}, {1, 3}).Finish();
  for (size_t i = 0; i < good.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = good;
      changed[i] = static_cast<char>(value);
      ZipWriter zip;
      zip.Add("archive/data.pkl", changed);
      zip.Add("archive/data/0", Floats(12));
      const Result<TensorMap> read = ParsePth(zip.Finish(), "changed.pth");
      if (read.ok()) {
        for (const auto& [name, tensor] : *read) EXPECT_LE(tensor.data.size(), 1u << 20);
      }
    }
  }
}

TEST_F(HostilePth, NoCheckpoints) {
  ZipWriter number;
  number.Add("archive/data.pkl", PickleWriter().Integer(3).Finish());
  ZipWriter empty;
  empty.Add("archive/data.pkl", PickleWriter().EmptyDict().Finish());
  ZipWriter epoch;
  epoch.Add("archive/data.pkl", PickleWriter().EmptyDict().Mark().String("epoch").Integer(3).Raw("u").Finish());
  ZipWriter other;
  other.Add("readme.txt", "hello");
  Check({
      {"empty file", "", StatusCode::kInvalidArgument, "not a PyTorch checkpoint"},
      {"text", "hello, world", StatusCode::kInvalidArgument, "not a PyTorch checkpoint"},
      {"old format", std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15), StatusCode::kInvalidArgument,
       "before PyTorch 1.6"},
      {"another zip", other.Finish(), StatusCode::kInvalidArgument, "0 data.pkl"},
      {"a number", number.Finish(), StatusCode::kInvalidArgument, "holds a int"},
      {"an empty dict", empty.Finish(), StatusCode::kInvalidArgument, "no tensors"},
      {"a dict of numbers", epoch.Finish(), StatusCode::kInvalidArgument, "'epoch' is a int"},
  });
  EXPECT_EQ(ReadPth("/no/such.pth").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace nsic
