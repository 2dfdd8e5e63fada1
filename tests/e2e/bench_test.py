"""nsic-client bench: workers measure themselves, those that are busy, die or are away are not waited for without end."""
import signal
import unittest

from farm import LITE, FarmTest, wait_until
from pictures import many_small


class BenchTest(FarmTest):
    def bench(self, *arguments, code=0, **options):
        result = self.farm.client_json("bench", "--json", *arguments, **options)
        return {worker["name"]: worker for worker in result["workers"]}, result

    def assertMeasured(self, worker):
        self.assertEqual(worker["state"], "done", worker)
        self.assertEqual([(f["width"], f["height"]) for f in worker["frames"]], [(1280, 720), (1920, 1080), (3840, 2160)])
        for frame in worker["frames"]:
            self.assertGreater(frame["frames_per_second"], 0, worker)
        self.assertGreater(worker["megapixels_per_second"], 0)
        self.assertGreater(worker["peak_memory_bytes"], 25_000_000, "a frame alone is as large")
        self.assertTrue(worker["precision"])

    def test_busy_dead_and_absent_workers(self):
        farm = self.farm
        farm.start_coordinator()
        farm.start_worker("lives")
        farm.start_worker("dies")
        # Both are at work: they finish what they hold before they measure.
        library = many_small(self.path("library"), 60)
        submit = farm.start_client("submit", library, "--out", self.path("out"), "--model", LITE, "--json")
        wait_until(lambda: any(job["tasks_done"] for job in farm.jobs()), "the first task is done")
        client = farm.start_client("bench", "--model", LITE, "--json", name="bench")
        wait_until(lambda: "measuring the model" in farm.workers["dies"].text(), "it is told to measure")
        farm.workers["dies"].signal(signal.SIGKILL)
        self.assertEqual(client.process.wait(300), 1, client.text())
        text = client.text()
        self.assertIn("dies", text)
        self.assertIn("it fell silent", text)
        self.assertEqual(submit.process.wait(300), 0, "the job goes on: " + submit.text())

        # Gone by now: named, but nobody waits for it, and it is no failure.
        workers, result = self.bench("--model", LITE)
        self.assertEqual(workers["dies"]["state"], "away")
        self.assertIn("not connected", workers["dies"]["error"])
        self.assertMeasured(workers["lives"])
        self.assertGreater(workers["lives"]["fraction_of_peak"], 0.05)
        self.assertEqual(result["model"], LITE)

        table = farm.client("bench")
        self.assertEqual(table.returncode, 0, table.stderr)
        self.assertRegex(table.stdout, r"WORKER +DEVICE +PRECISION +MP/S +720P +1080P +4K +OF PEAK +MEMORY\n")
        self.assertRegex(table.stdout, r"\nlives +cpu .* fp32 .* fps +\S+ fps +")
        self.assertIn("dies was not measured: it is not connected", table.stdout)

    def test_refusals(self):
        farm = self.farm
        farm.start_coordinator()
        nobody = farm.client("bench", "--model", LITE)
        self.assertEqual(nobody.returncode, 3)
        self.assertIn("no worker is connected", nobody.stderr)
        unknown = farm.client("bench", "--model", "no-such-model")
        self.assertEqual(unknown.returncode, 3)
        self.assertIn("no-such-model", unknown.stderr)

    def test_this_machine_alone(self):
        result = self.farm.client_json("bench", "--local", "--json", local=True)
        self.assertEqual(len(result["workers"]), 1)
        self.assertMeasured(result["workers"][0])


if __name__ == "__main__":
    unittest.main()
