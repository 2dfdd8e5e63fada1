"""Three workers, sixty mixed pictures, a worker and the coordinator killed in the middle: the pixels are those of one worker's run."""
import os
import unittest

from farm import LITE, FarmTest, read, tree, wait_until
from pictures import mixed_library

COUNT = 60
SPLIT = "600000"  # pixels: only the last picture is larger


class FaultsTest(FarmTest):
    def test_killed_worker_and_coordinator_change_no_pixel(self):
        library = mixed_library(self.path("library"), COUNT)
        originals = {name: read(os.path.join(library, name)) for name in tree(library)}

        calm, reference = self.new_farm("calm"), self.path("reference")
        calm.start_coordinator()
        calm.start_worker("only", "--threads", "2")
        code, result = calm.submit(library, "--out", reference, "--model", LITE, "--split-pixels", SPLIT)
        self.assertEqual((code, len(result["files"])), (0, COUNT), result)
        calm.stop()

        farm, out = self.farm, self.path("out")
        farm.start_coordinator()
        for name in ["first", "second", "third"]:
            farm.start_worker(name)
        client = farm.start_client("submit", library, "--out", out, "--model", LITE, "--split-pixels", SPLIT, "--json")

        def outputs():
            self.assertTrue(client.running(), "the client ended early:\n" + client.text())
            return len(tree(out)) if os.path.isdir(out) else 0

        def second_has_work():
            return any(w["name"] == "second" and w["active_leases"] > 0 for w in farm.worker_list())

        wait_until(lambda: outputs() >= 8 and second_has_work(), "8 outputs, and work at the second worker")
        farm.workers["second"].kill()
        wait_until(lambda: outputs() >= 20, "20 outputs")
        farm.coordinator.kill()
        farm.start_coordinator()
        self.assertEqual(client.process.wait(600), 0, client.text())

        self.assertEqual(tree(out), tree(reference))
        self.assertEqual(len(tree(out)), COUNT)
        for name in tree(reference):
            with self.subTest(name=name):
                self.assertSamePixels(os.path.join(reference, name), os.path.join(out, name))
        self.assertEqual({name: read(os.path.join(library, name)) for name in tree(library)}, originals,
                         "an original was written to")


if __name__ == "__main__":
    unittest.main()
