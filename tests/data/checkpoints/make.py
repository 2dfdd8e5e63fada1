#!/usr/bin/env python3
"""Writes the .pth files beside this script with CPython's own pickler and zipfile: PyTorch's layout, without PyTorch.

pth_reader_test reads them. Run it again only to change them: zipfile stamps are fixed, so the bytes stay the same.
"""
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def fake(module, name, value):
    """Makes `value` importable as module.name, as the pickler demands."""
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
    value.__module__, value.__qualname__, value.__name__ = module, name, name
    setattr(sys.modules[module], name, value)
    return value


def _rebuild(*arguments):
    raise AssertionError("never called")


REBUILD = fake("torch._utils", "_rebuild_tensor_v2", types.FunctionType(_rebuild.__code__, globals()))
PARAMETER = fake("torch._utils", "_rebuild_parameter", types.FunctionType(_rebuild.__code__, globals()))
TYPES = {n: fake("torch", n, type(n, (), {})) for n in
         ("FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage", "LongStorage", "ByteStorage")}


class Storage:
    def __init__(self, type_name, key, element_format, values):
        self.type, self.key = TYPES[type_name], key
        self.count = len(values)
        self.bytes = b"".join(v if isinstance(v, bytes) else struct.pack("<" + element_format, v) for v in values)


class Tensor:
    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return (REBUILD, self.arguments)


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return (PARAMETER, (self.tensor, True, collections.OrderedDict()))


class Call:
    """Pickles as a call of any function: what a hostile checkpoint holds."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return (self.function, self.arguments)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", value.type, value.key, "cpu", value.count) if isinstance(value, Storage) else None


def write(name, root, storages, protocol=2, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(root)
    with zipfile.ZipFile(os.path.join(HERE, name), "w", compression) as archive:
        def add(entry, data):
            info = zipfile.ZipInfo("archive/" + entry, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            archive.writestr(info, data)

        add("data.pkl", buffer.getvalue())
        add("byteorder", "little")
        for storage in storages:
            add("data/" + storage.key, storage.bytes)
        add("version", "3\n")


floats = Storage("FloatStorage", "0", "f", [0.5 * i for i in range(12)])
halves = Storage("HalfStorage", "1", "e", [1.0, -2.0, 0.5])
brains = Storage("BFloat16Storage", "2", "", [b"\x80\x3f", b"\x00\xc0"])
counter = Storage("LongStorage", "3", "q", [123456789012])
state = collections.OrderedDict()
state["module.conv.weight"] = Parameter(Tensor(floats, (2, 3), (3, 1)))
state["module.conv.transposed"] = Tensor(floats, (3, 2), (1, 3))
state["module.conv.tail"] = Tensor(floats, (2, 2), (4, 2), offset=5)
state["module.half"] = Tensor(halves, (3,), (1,))
state["module.brain"] = Tensor(brains, (2, 1), (1, 1))
state["module.norm.num_batches_tracked"] = Tensor(counter, (), ())
state._metadata = collections.OrderedDict({"": {"version": 1}})
storages = [floats, halves, brains, counter]

for protocol in (2, 3, 4, 5):
    wrapped = {"epoch": 7, "loss": 0.25, "params_ema": state, "name": "test"}
    write(f"protocol{protocol}.pth", wrapped, storages, protocol)
write("deflated.pth", state, storages, compression=zipfile.ZIP_DEFLATED)
write("os-system.pth", {"weight": Call(os.system, "echo owned")}, [])
write("eval.pth", {"weight": Call(eval, "1 + 1")}, [], protocol=4)
