"""The layering check passes on the house as it is, and fails when a forbidden include or link is added to a copy."""
import os
import shutil
import subprocess
import tempfile
import unittest

from farm import BIN, REPOSITORY

# file to add to, line to add, what the check must say
FORBIDDEN_INCLUDES = [
    ("core/base/files.h", "#include <grpcpp/grpcpp.h>", "core/base/files.h:%d: may not include grpcpp/grpcpp.h"),
    ("core/base/status.cc", '#include "core/farm/tile_grid.h"', "may not include core/farm/tile_grid.h"),
    ("core/infer/engine.h", "#include <opencv2/core.hpp>", "may not include opencv2/core.hpp"),
    ("core/infer/engine.h", '#include "core/media/picture.h"', "may not include core/media/picture.h"),
    ("models/io/model_pack.h", "#include <torch/torch.h>", "may not include torch/torch.h"),
    ("core/media/picture.h", "#  include <sqlite3.h>", "may not include sqlite3.h"),
    ("coordinator/NEW.cc", "#include <SQLiteCpp/SQLiteCpp.h>", "coordinator/NEW.cc:%d: may not include SQLiteCpp/SQLiteCpp.h"),
    ("coordinator/NEW.cc", '#include "core/media/picture.h"', "may not include core/media/picture.h"),
    ("coordinator/NEW.cc", '#include "core/infer/engine.h"', "may not include core/infer/engine.h"),
    ("coordinator/NEW.cc", "#include <vips/vips8>", "may not include vips/vips8"),
    ("coordinator/NEW.cc", "extern \"C\" {\n#include <libavcodec/avcodec.h>\n}", "may not include libavcodec/avcodec.h"),
    ("client/NEW.cc", '#include "core/infer/engine.h"', "may not include core/infer/engine.h"),
    ("client/NEW.cc", "#include <ATen/ATen.h>", "may not include ATen/ATen.h"),
    ("worker/NEW.cc", "#include <sqlite3.h>", "may not include sqlite3.h"),
    ("worker/NEW.cc", "#include <torch/torch.h>\n#include <grpcpp/grpcpp.h>", "worker/NEW.cc:1: sees both Torch and protobuf"),
    ("worker/new.h", "#include <torch/torch.h>", "worker/new.h:1: shows Torch"),
    ("core/new_layer/x.cc", '#include "core/base/status.h"', "no rule covers this folder"),
]


class LayersTest(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix="nsic-layers-")
        self.addCleanup(shutil.rmtree, self.scratch)
        self.copy = os.path.join(self.scratch, "house")
        os.mkdir(self.copy)
        for folder in ["core", "models", "coordinator", "worker", "client"]:
            shutil.copytree(os.path.join(REPOSITORY, folder), os.path.join(self.copy, folder),
                            ignore=lambda _, names: [n for n in names if "." in n and not n.endswith((".h", ".cc"))])

    def check(self, sources, binaries):
        return subprocess.run([os.path.join(REPOSITORY, ".ci/layers.sh"), sources, binaries], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test_the_house_is_in_order(self):
        result = self.check(REPOSITORY, BIN)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_forbidden_includes_fail(self):
        for path, line, says in FORBIDDEN_INCLUDES:
            with self.subTest(path=path, line=line):
                target = os.path.join(self.copy, path)
                before = open(target).read() if os.path.exists(target) else None
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "w") as out:
                    out.write((before or "") + line + "\n")
                result = self.check(self.copy, BIN)
                if "%d" in says:
                    says = says % ((before or "").count("\n") + 1)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn(says, result.stdout)
                if before is None:
                    os.remove(target)
                else:
                    with open(target, "w") as out:
                        out.write(before)
        self.assertEqual(self.check(self.copy, BIN).returncode, 0, "the copy is as it was")

    def test_forbidden_links_fail(self):
        binaries = os.path.join(self.scratch, "bin")
        os.mkdir(binaries)
        source = os.path.join(self.scratch, "empty.cc")
        with open(source, "w") as out:
            out.write("int main() {}\n")
        for program, library in [("nsic-client", "torch_cpu"), ("nsic-client", "c10"), ("nsic-coordinator", "avcodec"),
                                 ("nsic-coordinator", "vips"), ("nsic-worker", "sqlite3"), ("nsic-client", "sqlite3")]:
            with self.subTest(program=program, library=library):
                for name in ["nsic-client", "nsic-coordinator", "nsic-worker"]:
                    subprocess.run(["g++", source, "-o", os.path.join(binaries, name)], check=True)
                self.assertEqual(self.check(self.copy, binaries).returncode, 0)
                subprocess.run(["g++", source, "-o", os.path.join(binaries, program), "-Wl,--no-as-needed", "-l" + library],
                               check=True)
                result = self.check(self.copy, binaries)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertRegex(result.stdout, r"%s: links .*\blib%s\b" % (program, library))

    def test_programs_that_are_not_built_fail(self):
        result = self.check(self.copy, os.path.join(self.scratch, "nothing"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("nsic-client: not built", result.stdout)


if __name__ == "__main__":
    unittest.main()
