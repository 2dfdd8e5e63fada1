"""A library four times the coordinator's quota flows through it."""
import os
import subprocess
import unittest

from farm import FarmTest, free_port, metrics, tree
from pictures import noise

MEBI = 1 << 20


class QuotaTest(FarmTest):
    def test_library_of_four_quotas_completes(self):
        library = self.path("library")
        os.mkdir(library)
        # 2.0 MB each, sources and outputs.
        for index in range(26):
            noise(os.path.join(library, "%02d.tif" % index), 900, 740)
        total = sum(os.path.getsize(os.path.join(library, name)) for name in tree(library))
        quota = 12 * MEBI
        self.assertGreaterEqual(total, 4 * quota)

        farm, out, address = self.farm, self.path("out"), "127.0.0.1:%d" % free_port()
        # The shipped packs alone would fill it.
        farm.start_coordinator("--quota", "12M", "--metrics", address, "--models", os.path.dirname(self.identity_pack()))
        farm.start_worker("only", "--threads", "2")

        client = farm.start_client("submit", library, "--out", out, "--model", "identity", "--json")
        most = 0
        while client.running():
            most = max(most, metrics(address)["nsic_blob_bytes"])
            try:
                client.process.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        self.assertEqual(client.process.returncode, 0, client.text())
        print("library %.1f MiB, quota %.1f MiB, most stored %.1f MiB" % (total / MEBI, quota / MEBI, most / MEBI))
        self.assertLessEqual(most, quota)
        self.assertEqual(tree(out), tree(library))
        for name in tree(library):
            self.assertSamePixels(os.path.join(library, name), os.path.join(out, name))


if __name__ == "__main__":
    unittest.main()
