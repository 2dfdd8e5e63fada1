#!/usr/bin/env python3
"""The most memory that a worker takes (VmHWM) for pictures sent through a farm of real processes, each row with a worker of its own.

  farm_memory.py [ROW...]     light-1080p, light-100mp, ns-iqe-1080p; all of them without arguments

NS-IQE has random weights of the published shapes. Programs are those of $NSIC_BIN or build/bin."""
import array
import hashlib
import json
import math
import os
import random
import shutil
import struct
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from farm import LITE, SAMPLES, Farm, FarmTest, vips  # noqa: E402

MEBI = 1 << 20
# Model, size, --max-memory of the worker, and what it must stay within.
ROWS = {
    "light-1080p": (LITE, (1920, 1080), "768M", 400 * MEBI),
    "light-100mp": (LITE, (12288, 8192), "1G", 1024 * MEBI),
    "ns-iqe-1080p": ("ns-iqe", (1920, 1080), "1536M", 1536 * MEBI),
}


def ns_iqe_tensors(features=64, blocks=16):
    """Names and shapes, with the half width of the uniform distribution that keeps signals their size, or a constant."""
    def conv(name, outputs, inputs, kernel):
        yield name + ".weight", (outputs, inputs, kernel, kernel), math.sqrt(3 / (inputs * kernel * kernel))
        yield name + ".bias", (outputs,), 0.1

    def norm(name, channels):
        for part, value in (("weight", "1"), ("bias", "0"), ("running_mean", "0"), ("running_var", "1")):
            yield name + "." + part, (channels,), value

    wide = 4 * features
    yield from conv("conv_first", features, 3, 3)
    yield from conv("encoder.0", 2 * features, features, 4)
    yield from norm("encoder.1", 2 * features)
    yield from conv("encoder.3", wide, 2 * features, 4)
    yield from norm("encoder.4", wide)
    for i in range(blocks):
        for j in range(3):
            yield from conv("rrdb_blocks.%d.dense%d.0" % (i, j + 1), 32, wide + 32 * j, 3)
        yield from conv("rrdb_blocks.%d.final_conv" % i, wide, wide + 96, 3)
    yield from conv("attention.query", wide // 8, wide, 1)
    yield from conv("attention.key", wide // 8, wide, 1)
    yield from conv("attention.value", wide, wide, 1)
    yield "attention.gamma", (1,), "1"
    for i in (1, 5):
        yield from conv("upsample.%d" % i, wide, wide, 3)
        yield from norm("upsample.%d" % (i + 1), wide)
    for i, outputs, inputs in ((0, 2 * features, wide), (3, features, 2 * features)):
        yield from conv("final_conv.%d" % i, outputs, inputs, 3)
        yield from norm("final_conv.%d" % (i + 1), outputs)
    yield from conv("final_conv.6", 3, features, 3)


def write_ns_iqe_pack(folder):
    source = random.Random(1)
    uniform = [source.uniform(-1, 1) for _ in range(65521)]
    header, data = {}, bytearray()
    for name, shape, scale in ns_iqe_tensors():
        count = math.prod(shape)
        values = array.array("f", [float(scale)]) * count if isinstance(scale, str) else array.array("f", [scale * v for v in uniform])
        while len(values) < count:
            values.extend(values)
        start = len(data)
        data += values[:count].tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    weights = struct.pack("<Q", len(text)) + text + bytes(data)
    card = {"format": 1, "name": "ns-iqe", "task": "enhance", "architecture": "ns-iqe", "parameters": {"features": 64, "blocks": 16},
            "scale": 1, "tiling": {"tile": 256, "halo": 0, "overlap": 32, "multiple": 4, "blend": "feather"},
            "weights_sha256": hashlib.sha256(weights).hexdigest(), "licence": "Apache-2.0", "description": "Random weights."}
    os.makedirs(folder)
    with open(os.path.join(folder, "weights.safetensors"), "wb") as out:
        out.write(weights)
    with open(os.path.join(folder, "model.json"), "w") as out:
        json.dump(card, out)


class Bench(FarmTest):
    def runTest(self):
        pass

    def measure(self, row):
        model, (width, height), limit, allowed = ROWS[row]
        self.folder = tempfile.mkdtemp(prefix="nsic-bench-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        farm = Farm(self.path("farm"))
        try:
            farm.start_coordinator()
            if model == "ns-iqe":
                write_ns_iqe_pack(self.path("pack"))
                if farm.client("models", "import", self.path("pack")).returncode != 0:
                    raise SystemExit("the pack could not be imported")
            picture = self.path("picture.jpg")
            vips("replicate", os.path.join(SAMPLES, "4-open.jpg"), self.path("many.v"), 13, 16)
            vips("crop", self.path("many.v"), picture, 0, 0, width, height)
            os.remove(self.path("many.v"))
            worker = farm.start_worker("only", "--threads", str(os.cpu_count()), "--max-memory", limit)
            before = worker.peak_memory()
            code, result = farm.submit(picture, "--out", self.path("out"), "--model", model, timeout=36000)
            if code != 0:
                raise SystemExit(json.dumps(result, indent=1))
            peak = worker.peak_memory()
            print("%-12s %5dx%-5d --max-memory %-5s  %4d MiB before, %5d MiB at the peak; allowed %5d MiB: %s" %
                  (row, width, height, limit, before // MEBI, peak // MEBI, allowed // MEBI, "within" if peak <= allowed else "TOO MUCH"),
                  flush=True)
        finally:
            farm.stop()
            self.doCleanups()


if __name__ == "__main__":
    rows = sys.argv[1:] or list(ROWS)
    if any(row not in ROWS for row in rows):
        raise SystemExit(__doc__)
    for name in rows:
        Bench().measure(name)
