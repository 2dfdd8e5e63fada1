// Sources: the pickle opcodes of CPython's Lib/pickletools.py; the layout of PyTorch's zip files, torch/serialization.py (_save) and
// torch/_utils.py (_rebuild_tensor_v2).
#include "models/io/pth_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "models/io/zip_reader.h"

namespace nsic {
namespace {

constexpr size_t kMaxPickleBytes = size_t{32} << 20;
constexpr size_t kMaxValues = size_t{1} << 20;
constexpr size_t kMaxItems = size_t{8} << 20;  // of all containers together
constexpr int kMaxDepth = 64;                  // of values within values
constexpr size_t kMaxDimensions = 16;
// All tensors together, by the bytes of the storages that they are views of: a few tied weights, not a bomb of views.
constexpr uint64_t kMaxSharing = 4;
constexpr uint64_t kSmallBytes = 1 << 20;

// What a pickle may name. Everything else is code that we do not run.
enum class Global { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorage };

struct AllowedGlobal {
  std::string_view name;
  Global global;
  DType dtype;  // of a storage
};
constexpr AllowedGlobal kAllowedGlobals[] = {
    {"collections.OrderedDict", Global::kOrderedDict, DType::kFloat32},
    {"torch._utils._rebuild_tensor_v2", Global::kRebuildTensor, DType::kFloat32},
    {"torch._utils._rebuild_parameter", Global::kRebuildParameter, DType::kFloat32},
    {"torch.FloatStorage", Global::kStorage, DType::kFloat32},
    {"torch.HalfStorage", Global::kStorage, DType::kFloat16},
    {"torch.BFloat16Storage", Global::kStorage, DType::kBFloat16},
    {"torch.DoubleStorage", Global::kStorage, DType::kFloat64},
    {"torch.LongStorage", Global::kStorage, DType::kInt64},
    {"torch.IntStorage", Global::kStorage, DType::kInt32},
    {"torch.ShortStorage", Global::kStorage, DType::kInt16},
    {"torch.CharStorage", Global::kStorage, DType::kInt8},
    {"torch.ByteStorage", Global::kStorage, DType::kUInt8},
    {"torch.BoolStorage", Global::kStorage, DType::kBool},
};

// Values live in one vector and name each other by index: deep or circular ones cost no recursion when they are made or dropped.
using Ref = uint32_t;

struct Value {
  enum class Kind { kNone, kBool, kInteger, kFloat, kString, kTuple, kList, kDict, kGlobal, kStorage, kTensor };
  Kind kind = Kind::kNone;
  int depth = 1;
  int64_t integer = 0;                    // of a bool or integer; elements of a storage; offset of a tensor
  std::string text;                       // of a string; key of a storage
  std::vector<Ref> items;                 // of a tuple or list; of a dict key, value, key, value
  const AllowedGlobal* global = nullptr;  // of a global or storage
  Ref storage = 0;                        // of a tensor
  std::vector<int64_t> shape, strides;    // of a tensor
};

std::string_view KindName(Value::Kind kind) {
  constexpr std::string_view kNames[] = {"None", "bool", "int", "float", "string", "tuple", "list", "dict", "global", "storage", "tensor"};
  return kNames[static_cast<size_t>(kind)];
}

std::string Hex(unsigned char byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// Runs a pickle. After Run the values can be looked at.
class PickleMachine {
 public:
  PickleMachine(std::string_view pickle, std::string what) : pickle_(pickle), what_(std::move(what)) {}

  // The pickle's result.
  Result<Ref> Run();

  const Value& at(Ref ref) const { return values_[ref]; }

 private:
  Status Step(unsigned char opcode);
  Status Broken(const std::string& why) const {
    return DataLossError(what_ + ": broken pickle at byte " + std::to_string(at_) + ": " + why);
  }

  // Reading the program.
  Result<std::string_view> Bytes(uint64_t size) {
    if (size > pickle_.size() - at_) return Broken("it ends in the middle of an instruction");
    const std::string_view bytes = pickle_.substr(at_, size);
    at_ += size;
    return bytes;
  }
  Result<uint64_t> Unsigned(size_t size) {
    NSIC_ASSIGN_OR_RETURN(const std::string_view bytes, Bytes(size));
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
  }
  Result<std::string_view> Line() {
    const size_t end = pickle_.find('\n', at_);
    if (end == std::string_view::npos) return Broken("it ends in the middle of a line");
    const std::string_view line = pickle_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  // The stack.
  Status Push(Value value) {
    if (values_.size() >= kMaxValues) return ResourceExhaustedError(what_ + ": the pickle makes more values than any checkpoint has");
    if (value.depth > kMaxDepth) return TooDeep();
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<Ref>(values_.size() - 1));
    return OkStatus();
  }
  Status PushInteger(int64_t integer, Value::Kind kind = Value::Kind::kInteger) {
    Value value;
    value.kind = kind;
    value.integer = integer;
    return Push(std::move(value));
  }
  Status PushString(uint64_t size) {
    NSIC_ASSIGN_OR_RETURN(const std::string_view text, Bytes(size));
    Value value;
    value.kind = Value::Kind::kString;
    value.text = std::string(text);
    return Push(std::move(value));
  }
  Status PushItems(Value::Kind kind, const std::vector<Ref>& items) {
    Value value;
    value.kind = kind;
    NSIC_RETURN_IF_ERROR(Add(&value, items));
    return Push(std::move(value));
  }
  Result<Ref> Pop() {
    if (stack_.size() <= Bottom()) return Broken("its stack is empty");
    const Ref ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  // What was pushed since the last mark; the mark goes.
  Result<std::vector<Ref>> PopToMark() {
    if (marks_.empty()) return Broken("it has no mark");
    std::vector<Ref> items(stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  Result<std::vector<Ref>> PopItems(size_t count) {
    if (stack_.size() < Bottom() + count) return Broken("its stack is empty");
    std::vector<Ref> items(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  size_t Bottom() const { return marks_.empty() ? 0 : marks_.back(); }
  Status TooDeep() const {
    return ResourceExhaustedError(what_ + ": the pickle is nested deeper than " + std::to_string(kMaxDepth) + " levels");
  }

  Status Add(Value* container, const std::vector<Ref>& items) {
    if (container->kind == Value::Kind::kDict && items.size() % 2 != 0) return Broken("a dict has a key without a value");
    if ((items_ += items.size()) > kMaxItems) {
      return ResourceExhaustedError(what_ + ": the pickle's lists and dicts have more items than any checkpoint's");
    }
    for (Ref item : items) container->depth = std::max(container->depth, values_[item].depth + 1);
    if (container->depth > kMaxDepth) return TooDeep();
    container->items.insert(container->items.end(), items.begin(), items.end());
    return OkStatus();
  }
  // Adds to the list or dict on top of the stack.
  Status AddToTop(Value::Kind kind, const std::vector<Ref>& items) {
    if (stack_.size() <= Bottom()) return Broken("its stack is empty");
    Value& top = values_[stack_.back()];
    if (top.kind != kind) return Broken("it adds items to a " + std::string(KindName(top.kind)));
    return Add(&top, items);
  }

  Status Remember(uint64_t index) {
    if (stack_.size() <= Bottom()) return Broken("its stack is empty");
    memo_[index] = stack_.back();
    return OkStatus();
  }
  Status Recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) return Broken("it recalls what it never stored");
    if (stack_.size() >= kMaxValues) return ResourceExhaustedError(what_ + ": the pickle makes more values than any checkpoint has");
    stack_.push_back(found->second);
    return OkStatus();
  }

  Status PushGlobal(std::string_view module, std::string_view name);
  Status PushNumber(std::string_view text);
  Status PushLong(uint64_t size);
  Status LoadStorage();
  Status Reduce();
  Status RebuildTensor(const std::vector<Ref>& arguments);

  const std::string_view pickle_;
  const std::string what_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::map<uint64_t, Ref> memo_;
  size_t items_ = 0;
};

Result<Ref> PickleMachine::Run() {
  while (true) {
    NSIC_ASSIGN_OR_RETURN(const uint64_t opcode, Unsigned(1));
    if (opcode == '.') return Pop();
    NSIC_RETURN_IF_ERROR(Step(static_cast<unsigned char>(opcode)));
  }
}

Status PickleMachine::PushGlobal(std::string_view module, std::string_view name) {
  const std::string full = std::string(module) + "." + std::string(name);
  for (const AllowedGlobal& allowed : kAllowedGlobals) {
    if (allowed.name != full) continue;
    Value value;
    value.kind = Value::Kind::kGlobal;
    value.global = &allowed;
    return Push(std::move(value));
  }
  return PermissionDeniedError(what_ + ": the pickle names " + full +
                               ", and a checkpoint may hold tensors only; save the model's state_dict() alone");
}

// The text of INT and LONG: decimal, LONG with an L at its end, and 00 and 01 for booleans.
Status PickleMachine::PushNumber(std::string_view text) {
  if (text == "00" || text == "01") return PushInteger(text == "01", Value::Kind::kBool);
  if (!text.empty() && text.back() == 'L') text.remove_suffix(1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return Broken("it has a number that is none");
  return PushInteger(number);
}

Status PickleMachine::PushLong(uint64_t size) {
  if (size > sizeof(int64_t)) return Broken("it has an integer of " + std::to_string(size) + " bytes");
  NSIC_ASSIGN_OR_RETURN(uint64_t value, Unsigned(size));
  const bool negative = size > 0 && size < sizeof(int64_t) && (value >> (8 * size - 1) & 1) != 0;
  if (negative) value |= ~uint64_t{0} << (8 * size);
  return PushInteger(static_cast<int64_t>(value));
}

// ("storage", torch.FloatStorage, key, location, elements), PyTorch's only persistent id.
Status PickleMachine::LoadStorage() {
  NSIC_ASSIGN_OR_RETURN(const Ref ref, Pop());
  const Value& id = values_[ref];
  if (id.kind != Value::Kind::kTuple || id.items.size() != 5) return Broken("a persistent id is no storage");
  const auto item = [&](size_t i) -> const Value& { return values_[id.items[i]]; };
  if (item(0).kind != Value::Kind::kString || item(0).text != "storage" || item(1).kind != Value::Kind::kGlobal ||
      item(1).global->global != Global::kStorage || item(2).kind != Value::Kind::kString || item(4).kind != Value::Kind::kInteger ||
      item(4).integer < 0) {
    return Broken("a persistent id is no storage");
  }
  Value value;
  value.kind = Value::Kind::kStorage;
  value.global = item(1).global;
  value.text = item(2).text;
  value.integer = item(4).integer;
  return Push(std::move(value));
}

Status PickleMachine::Reduce() {
  NSIC_ASSIGN_OR_RETURN(const Ref arguments_ref, Pop());
  NSIC_ASSIGN_OR_RETURN(const Ref callable_ref, Pop());
  const Value& callable = values_[callable_ref];
  if (callable.kind != Value::Kind::kGlobal) return Broken("it calls a " + std::string(KindName(callable.kind)));
  constexpr size_t kMostArguments = 7;
  if (values_[arguments_ref].kind != Value::Kind::kTuple || values_[arguments_ref].items.size() > kMostArguments) {
    return Broken("its arguments are no tuple of up to " + std::to_string(kMostArguments));
  }
  const std::vector<Ref> arguments = values_[arguments_ref].items;
  switch (callable.global->global) {
    case Global::kOrderedDict: {
      std::vector<Ref> items;
      if (arguments.size() > 1) return Broken("OrderedDict has too many arguments");
      if (arguments.size() == 1) {  // a list of pairs
        const Value& list = values_[arguments[0]];
        if (list.kind != Value::Kind::kList) return Broken("OrderedDict wants a list of pairs");
        for (Ref pair_ref : list.items) {
          const Value& pair = values_[pair_ref];
          const bool is_pair = (pair.kind == Value::Kind::kTuple || pair.kind == Value::Kind::kList) && pair.items.size() == 2;
          if (!is_pair) return Broken("OrderedDict wants a list of pairs");
          items.insert(items.end(), pair.items.begin(), pair.items.end());
        }
      }
      return PushItems(Value::Kind::kDict, items);
    }
    case Global::kRebuildTensor: return RebuildTensor(arguments);
    case Global::kRebuildParameter:  // (tensor, requires_grad, hooks)
      if (arguments.size() != 3 || values_[arguments[0]].kind != Value::Kind::kTensor) return Broken("a parameter is no tensor");
      stack_.push_back(arguments[0]);
      return OkStatus();
    case Global::kStorage: return Broken("it calls " + std::string(callable.global->name));
  }
  return Broken("it calls what cannot be called");
}

// (storage, offset, shape, strides, requires_grad, hooks[, metadata])
Status PickleMachine::RebuildTensor(const std::vector<Ref>& arguments) {
  if (arguments.size() != 6 && arguments.size() != 7) return Broken("a tensor has a wrong number of arguments");
  const Value& offset = values_[arguments[1]];
  if (values_[arguments[0]].kind != Value::Kind::kStorage || offset.kind != Value::Kind::kInteger) return Broken("a tensor has no storage");
  Value tensor;
  tensor.kind = Value::Kind::kTensor;
  tensor.storage = arguments[0];
  tensor.integer = offset.integer;
  for (const auto& [ref, numbers] : {std::pair(arguments[2], &tensor.shape), std::pair(arguments[3], &tensor.strides)}) {
    const Value& tuple = values_[ref];
    if (tuple.kind != Value::Kind::kTuple || tuple.items.size() > kMaxDimensions) return Broken("a tensor has no shape");
    for (Ref item : tuple.items) {
      if (values_[item].kind != Value::Kind::kInteger) return Broken("a tensor has no shape");
      numbers->push_back(values_[item].integer);
    }
  }
  if (tensor.shape.size() != tensor.strides.size()) return Broken("a tensor has strides that do not fit its shape");
  return Push(std::move(tensor));
}

Status PickleMachine::Step(unsigned char opcode) {
  using Kind = Value::Kind;
  switch (opcode) {
    case 0x80: {  // PROTO
      NSIC_ASSIGN_OR_RETURN(const uint64_t protocol, Unsigned(1));
      return protocol <= 5 ? OkStatus() : Broken("unknown protocol " + std::to_string(protocol));
    }
    case 0x95: return Unsigned(8).status();  // FRAME: how much to read ahead
    case '(':                                // MARK
      if (marks_.size() >= kMaxDepth) return TooDeep();
      marks_.push_back(stack_.size());
      return OkStatus();
    case '0': return Pop().status();        // POP
    case '1': return PopToMark().status();  // POP_MARK

    case 'N': return Push(Value());                 // NONE
    case 0x88: return PushInteger(1, Kind::kBool);  // NEWTRUE
    case 0x89: return PushInteger(0, Kind::kBool);  // NEWFALSE
    case 'I':                                       // INT
    case 'L': {                                     // LONG
      NSIC_ASSIGN_OR_RETURN(const std::string_view line, Line());
      return PushNumber(line);
    }
    case 'K':    // BININT1
    case 'M': {  // BININT2
      NSIC_ASSIGN_OR_RETURN(const uint64_t value, Unsigned(opcode == 'K' ? 1 : 2));
      return PushInteger(static_cast<int64_t>(value));
    }
    case 'J': return PushLong(4);  // BININT
    case 0x8a:                     // LONG1
    case 0x8b: {                   // LONG4
      NSIC_ASSIGN_OR_RETURN(const uint64_t size, Unsigned(opcode == 0x8a ? 1 : 4));
      return PushLong(size);
    }
    case 'G': {  // BINFLOAT; no tensor depends on its value
      NSIC_RETURN_IF_ERROR(Bytes(8).status());
      return PushInteger(0, Kind::kFloat);
    }
    case 'X':     // BINUNICODE
    case 'T':     // BINSTRING
    case 'B':     // BINBYTES
    case 0x8c:    // SHORT_BINUNICODE
    case 'U':     // SHORT_BINSTRING
    case 'C':     // SHORT_BINBYTES
    case 0x8d:    // BINUNICODE8
    case 0x8e: {  // BINBYTES8
      const bool is_short = opcode == 0x8c || opcode == 'U' || opcode == 'C';
      NSIC_ASSIGN_OR_RETURN(const uint64_t size, Unsigned(is_short ? 1 : opcode == 0x8d || opcode == 0x8e ? 8 : 4));
      return PushString(size);
    }

    case ')': return PushItems(Kind::kTuple, {});  // EMPTY_TUPLE
    case ']': return PushItems(Kind::kList, {});   // EMPTY_LIST
    case '}': return PushItems(Kind::kDict, {});   // EMPTY_DICT
    case 0x85:                                     // TUPLE1
    case 0x86:                                     // TUPLE2
    case 0x87: {                                   // TUPLE3
      NSIC_ASSIGN_OR_RETURN(const std::vector<Ref> items, PopItems(opcode - 0x84u));
      return PushItems(Kind::kTuple, items);
    }
    case 't':    // TUPLE
    case 'l':    // LIST
    case 'd': {  // DICT
      NSIC_ASSIGN_OR_RETURN(const std::vector<Ref> items, PopToMark());
      return PushItems(opcode == 't' ? Kind::kTuple : opcode == 'l' ? Kind::kList : Kind::kDict, items);
    }
    case 'a':    // APPEND
    case 's': {  // SETITEM
      NSIC_ASSIGN_OR_RETURN(const std::vector<Ref> items, PopItems(opcode == 'a' ? 1 : 2));
      return AddToTop(opcode == 'a' ? Kind::kList : Kind::kDict, items);
    }
    case 'e':    // APPENDS
    case 'u': {  // SETITEMS
      NSIC_ASSIGN_OR_RETURN(const std::vector<Ref> items, PopToMark());
      return AddToTop(opcode == 'e' ? Kind::kList : Kind::kDict, items);
    }

    case 'q':    // BINPUT
    case 'r': {  // LONG_BINPUT
      NSIC_ASSIGN_OR_RETURN(const uint64_t index, Unsigned(opcode == 'q' ? 1 : 4));
      return Remember(index);
    }
    case 0x94: return Remember(memo_.size());  // MEMOIZE
    case 'h':                                  // BINGET
    case 'j': {                                // LONG_BINGET
      NSIC_ASSIGN_OR_RETURN(const uint64_t index, Unsigned(opcode == 'h' ? 1 : 4));
      return Recall(index);
    }

    case 'c':    // GLOBAL
    case 'i': {  // INST names one too
      NSIC_ASSIGN_OR_RETURN(const std::string_view module, Line());
      NSIC_ASSIGN_OR_RETURN(const std::string_view name, Line());
      NSIC_RETURN_IF_ERROR(PushGlobal(module, name));
      return opcode == 'c' ? OkStatus() : Broken("unknown instruction INST");
    }
    case 0x93: {  // STACK_GLOBAL
      NSIC_ASSIGN_OR_RETURN(const std::vector<Ref> names, PopItems(2));
      if (values_[names[0]].kind != Kind::kString || values_[names[1]].kind != Kind::kString) return Broken("a global has no name");
      const std::string module = values_[names[0]].text, name = values_[names[1]].text;  // Push may move the values
      return PushGlobal(module, name);
    }
    case 'Q': return LoadStorage();  // BINPERSID
    case 'R': return Reduce();       // REDUCE
    case 'b': {                      // BUILD: attributes of an OrderedDict (`_metadata`), which no tensor depends on
      NSIC_RETURN_IF_ERROR(Pop().status());
      if (stack_.size() <= Bottom() || values_[stack_.back()].kind != Kind::kDict) return Broken("it sets attributes of no dict");
      return OkStatus();
    }
    default: return Broken("unknown instruction " + Hex(opcode));
  }
}

// A checkpoint: the zip, and the pickle in it, run.
class Checkpoint {
 public:
  Checkpoint(const ZipReader& zip, std::string what) : zip_(zip), what_(std::move(what)) {}

  Result<TensorMap> Read();

 private:
  Status FindPickle();
  Result<Ref> StateDict(Ref root) const;
  Result<HostTensor> ReadTensor(const std::string& name, const Value& tensor);
  Result<std::string_view> StorageBytes(const Value& storage);

  const ZipReader& zip_;
  const std::string what_;
  std::string folder_;  // in the zip, with a slash at its end
  std::string pickle_buffer_;
  std::optional<PickleMachine> machine_;
  struct LoadedStorage {
    std::string buffer;  // of a deflated one
    std::string_view bytes;
    const AllowedGlobal* type;
  };
  std::map<std::string, LoadedStorage> storages_;
  uint64_t storage_bytes_ = 0;
  uint64_t tensor_bytes_ = 0;
};

Status Checkpoint::FindPickle() {
  constexpr std::string_view kPickle = "data.pkl";
  std::vector<std::string> found;
  for (const auto& [name, entry] : zip_.entries()) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && std::string_view(name).substr(slash + 1) == kPickle) found.push_back(name.substr(0, slash + 1));
  }
  if (found.size() != 1) {
    return InvalidArgumentError(what_ + ": a zip with " + std::to_string(found.size()) + " data.pkl is no PyTorch checkpoint");
  }
  folder_ = found[0];
  const auto order = zip_.entries().find(folder_ + "byteorder");
  if (order != zip_.entries().end()) {
    std::string buffer;
    NSIC_ASSIGN_OR_RETURN(const std::string_view text, zip_.Read(order->first, &buffer));
    if (text != "little") return InvalidArgumentError(what_ + ": the checkpoint is not little-endian");
  }
  return OkStatus();
}

Result<Ref> Checkpoint::StateDict(Ref root) const {
  if (machine_->at(root).kind != Value::Kind::kDict) {
    return InvalidArgumentError(what_ + ": the checkpoint holds a " + std::string(KindName(machine_->at(root).kind)) +
                                ", no state dict; save the model's state_dict()");
  }
  const std::vector<Ref>& items = machine_->at(root).items;
  for (std::string_view wrapper : {"params_ema", "params", "state_dict", "model_state_dict", "generator_state_dict"}) {
    for (size_t i = 0; i < items.size(); i += 2) {
      const Value& key = machine_->at(items[i]);
      if (key.kind == Value::Kind::kString && key.text == wrapper && machine_->at(items[i + 1]).kind == Value::Kind::kDict) {
        return items[i + 1];
      }
    }
  }
  return root;
}

Result<TensorMap> Checkpoint::Read() {
  NSIC_RETURN_IF_ERROR(FindPickle());
  const std::string name = folder_ + "data.pkl";
  if (zip_.entries().at(name).size > kMaxPickleBytes) {
    return ResourceExhaustedError(what_ + ": a pickle of " + std::to_string(zip_.entries().at(name).size) +
                                  " bytes is larger than any checkpoint's");
  }
  NSIC_ASSIGN_OR_RETURN(const std::string_view pickle, zip_.Read(name, &pickle_buffer_));
  machine_.emplace(pickle, what_);
  NSIC_ASSIGN_OR_RETURN(const Ref root, machine_->Run());
  NSIC_ASSIGN_OR_RETURN(const Ref dict, StateDict(root));

  TensorMap tensors;
  const std::vector<Ref>& items = machine_->at(dict).items;
  for (size_t i = 0; i < items.size(); i += 2) {
    const Value& key = machine_->at(items[i]);
    const Value& value = machine_->at(items[i + 1]);
    if (key.kind != Value::Kind::kString || value.kind != Value::Kind::kTensor) {
      const std::string which = key.kind == Value::Kind::kString ? "'" + key.text + "'" : "a key";
      return InvalidArgumentError(what_ + ": no state dict: " + which + " is a " + std::string(KindName(value.kind)) +
                                  ", not a tensor; save the model's state_dict()");
    }
    constexpr std::string_view kModule = "module.";
    const std::string tensor_name = key.text.substr(key.text.rfind(kModule, 0) == 0 ? kModule.size() : 0);
    NSIC_ASSIGN_OR_RETURN(HostTensor tensor, ReadTensor(tensor_name, value));
    if (!tensors.emplace(tensor_name, std::move(tensor)).second) {
      return InvalidArgumentError(what_ + ": the state dict has two tensors " + tensor_name);
    }
  }
  if (tensors.empty()) return InvalidArgumentError(what_ + ": the state dict has no tensors");
  return tensors;
}

Result<std::string_view> Checkpoint::StorageBytes(const Value& storage) {
  const auto [place, is_new] = storages_.try_emplace(storage.text);
  LoadedStorage& loaded = place->second;
  if (is_new) {
    const std::string name = folder_ + "data/" + storage.text;
    NSIC_ASSIGN_OR_RETURN(loaded.bytes, zip_.Read(name, &loaded.buffer));
    loaded.type = storage.global;
    storage_bytes_ += loaded.bytes.size();
  }
  const uint64_t element = DTypeSize(storage.global->dtype);
  if (loaded.type != storage.global || loaded.bytes.size() / element != static_cast<uint64_t>(storage.integer) ||
      loaded.bytes.size() % element != 0) {
    return DataLossError(what_ + ": storage " + storage.text + " claims " + std::to_string(storage.integer) + " elements of " +
                         std::string(storage.global->name) + ", but is " + std::to_string(loaded.bytes.size()) + " bytes long");
  }
  return loaded.bytes;
}

Result<HostTensor> Checkpoint::ReadTensor(const std::string& name, const Value& tensor) {
  const Value& storage = machine_->at(tensor.storage);
  NSIC_ASSIGN_OR_RETURN(const std::string_view bytes, StorageBytes(storage));
  const auto outside = [&] {
    return DataLossError(what_ + ": tensor " + name + " lies outside its storage of " + std::to_string(storage.integer) + " elements");
  };

  // The last element's position must be inside; every product is checked before it is made.
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t count = 1;
  for (int64_t side : tensor.shape) {
    if (side < 0) return DataLossError(what_ + ": tensor " + name + " has a negative size");
    if (side > 0 && count > kMax / side) return ResourceExhaustedError(what_ + ": tensor " + name + " claims more elements than there are");
    count *= side;
  }
  if (tensor.integer < 0 || tensor.integer > storage.integer) return outside();
  int64_t last = tensor.integer;
  bool contiguous = true;
  int64_t expected_stride = 1;
  for (size_t i = tensor.shape.size(); count > 0 && i-- > 0;) {
    const int64_t steps = tensor.shape[i] - 1, stride = tensor.strides[i];
    if (stride < 0) return outside();
    if (steps > 0) {
      if (stride > (kMax - last) / steps) return outside();
      last += steps * stride;
      contiguous &= stride == expected_stride;
    }
    expected_stride *= tensor.shape[i];
  }
  if (count > 0 && last >= storage.integer) return outside();

  const DType dtype = storage.global->dtype;
  const uint64_t element = DTypeSize(dtype);
  const uint64_t most = kMaxSharing * storage_bytes_ + kSmallBytes;
  if (static_cast<uint64_t>(count) > most / element || (tensor_bytes_ += static_cast<uint64_t>(count) * element) > most) {
    return ResourceExhaustedError(what_ + ": tensor " + name + " and those before it claim much more than their storages hold");
  }

  HostTensor result;
  result.dtype = dtype;
  result.shape = tensor.shape;
  result.data.resize(static_cast<size_t>(count) * element);
  const char* source = bytes.data() + static_cast<uint64_t>(tensor.integer) * element;
  if (contiguous) {
    if (count > 0) std::memcpy(result.data.data(), source, result.data.size());
    return result;
  }
  std::vector<int64_t> index(tensor.shape.size());
  int64_t position = 0;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(result.data.data() + static_cast<uint64_t>(i) * element, source + static_cast<uint64_t>(position) * element, element);
    for (size_t axis = index.size(); axis-- > 0;) {
      if (tensor.shape[axis] == 1) continue;  // its stride means nothing
      position += tensor.strides[axis];
      if (++index[axis] < tensor.shape[axis]) break;
      position -= tensor.strides[axis] * tensor.shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

}  // namespace

Result<TensorMap> ParsePth(std::string_view bytes, const std::string& what) {
  constexpr std::string_view kZip = "PK\x03\x04";
  if (bytes.substr(0, kZip.size()) != kZip) {
    // The old format begins with a pickle of protocol 2.
    if (bytes.substr(0, 2) == "\x80\x02") {
      return InvalidArgumentError(what + ": a checkpoint in the format before PyTorch 1.6; load it there and save it again");
    }
    return InvalidArgumentError(what + ": not a PyTorch checkpoint");
  }
  NSIC_ASSIGN_OR_RETURN(const ZipReader zip, ZipReader::Open(bytes, what));
  return Checkpoint(zip, what).Read();
}

Result<TensorMap> ReadPth(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return ParsePth(bytes, path);
}

}  // namespace nsic
