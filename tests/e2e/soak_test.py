"""A night in short: job after job while workers and the coordinator are killed at random and come back.

Every output has the pixels of a calm run, nothing fails, and the coordinator's memory and store do not grow from job to job.
NSIC_SOAK_MINUTES says how long (default 20); the order of the kills is printed as a seed, NSIC_SOAK_SEED repeats it."""
import os
import random
import time
import unittest

from farm import LITE, FarmTest, tree, wait_until
from pictures import mixed_library

COUNT = 24
SPLIT = "600000"
QUOTA = "256M"
MEBI = 1 << 20
GROWTH = 48 * MEBI  # what the coordinator's peak may grow after the first jobs: fragmentation, not a leak for each job


class SoakTest(FarmTest):
    def test_jobs_among_kills(self):
        minutes = float(os.environ.get("NSIC_SOAK_MINUTES", "20"))
        seed = int(os.environ.get("NSIC_SOAK_SEED", random.randrange(1 << 30)))
        chance = random.Random(seed)
        library = mixed_library(self.path("library"), COUNT)

        calm, reference = self.new_farm("calm"), self.path("reference")
        calm.start_coordinator()
        calm.start_worker("only", "--threads", "2")
        code, result = calm.submit(library, "--out", reference, "--model", LITE, "--split-pixels", SPLIT)
        self.assertEqual((code, len(result["files"])), (0, COUNT), result)
        calm.stop()

        farm = self.farm
        farm.start_coordinator("--quota", QUOTA)
        for name in ["a", "b", "c"]:
            farm.start_worker(name)
        end = time.monotonic() + 60 * minutes
        jobs = kills = 0
        memory = []
        while jobs < 3 or time.monotonic() < end:
            out = self.path("out-%d" % jobs)
            # Another strength makes another job: what was done before does not answer it.
            strength = 1 if jobs % 2 == 0 else 1 - 1e-6 * jobs
            client = farm.start_client("submit", library, "--out", out, "--model", LITE, "--split-pixels", SPLIT, "--strength", "%.6f" % strength,
                                       name="client-%d" % jobs)
            for _ in range(chance.randrange(3)):
                at = chance.randrange(1, COUNT)
                wait_until(lambda: not client.running() or (os.path.isdir(out) and len(tree(out)) >= at), "%d outputs" % at, timeout=600)
                victim = chance.choice(["a", "b", "c", "coordinator"])
                kills += 1
                if victim == "coordinator":
                    farm.coordinator.kill()
                    farm.start_coordinator("--quota", QUOTA)
                else:
                    farm.workers[victim].kill()
                    farm.start_worker(victim)
            self.assertEqual(client.process.wait(900), 0, "seed %d, job %d:\n%s" % (seed, jobs, client.text()))
            self.assertEqual(tree(out), tree(reference))
            if strength == 1:
                for name in tree(reference):
                    self.assertSamePixels(os.path.join(reference, name), os.path.join(out, name), "seed %d, job %d" % (seed, jobs))
            memory.append(farm.coordinator.peak_memory())
            jobs += 1
        print("soak: seed %d, %d jobs of %d pictures, %d kills; coordinator's peak memory %.0f MiB after the first job, %.0f MiB at most" %
              (seed, jobs, COUNT, kills, memory[0] / MEBI, max(memory) / MEBI))
        self.assertLessEqual(max(memory), memory[0] + GROWTH)


if __name__ == "__main__":
    unittest.main()
