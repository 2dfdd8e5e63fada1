"""Peak memory of worker and coordinator on a picture of 100 megapixels: bounded by the worker's budget, and printed."""
import unittest

from farm import FarmTest, LITE
from pictures import plain

MEBI = 1 << 20
COORDINATOR_BUDGET = 256 * MEBI  # it never sees a pixel


class MemoryTest(FarmTest):
    def test_hundred_megapixels(self):
        picture = plain(self.path("large.jpg"), 10000, 10000)
        for what, mebi, options in [("in tile tasks", 1536, ["--model", LITE]),
                                    ("as one task", 2304, ["--split-pixels", "200000000", "--model", "identity"])]:
            with self.subTest(what):
                farm = self.new_farm(what.replace(" ", "-"))
                farm.start_coordinator()
                worker = farm.start_worker("only", "--threads", "2", "--max-memory", "%dM" % mebi)
                if "identity" in options:
                    self.assertEqual(farm.client("models", "import", self.identity_pack()).returncode, 0)
                out = self.path("out " + what)
                code, result = farm.submit(picture, "--out", out, *options, timeout=1500)
                self.assertEqual(code, 0, result)
                self.assertEqual((result["files"][0]["width"], result["files"][0]["height"]), (10000, 10000))
                peaks = {"worker": worker.peak_memory(), "coordinator": farm.coordinator.peak_memory()}
                print("100 megapixels %s: %.0f s; peak memory: worker %.0f MiB (budget %.0f), coordinator %.0f MiB" %
                      (what, result["files"][0]["seconds"], peaks["worker"] / MEBI, mebi, peaks["coordinator"] / MEBI))
                self.assertLessEqual(peaks["worker"], mebi * MEBI)
                self.assertLessEqual(peaks["coordinator"], COORDINATOR_BUDGET)
                farm.stop()


if __name__ == "__main__":
    unittest.main()
