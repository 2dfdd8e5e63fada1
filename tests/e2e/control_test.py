"""Drain on SIGTERM; cancel, pause, resume and retry; what a worker and a coordinator refuse."""
import os
import signal
import subprocess
import time
import unittest

from farm import BIN, LITE, FarmTest, wait_until
from pictures import many_small, plain

COUNT = 160  # small pictures: more than a worker has leased at any time


class ControlTest(FarmTest):
    def submit_in_background(self, library):
        """A job of which nobody waits for the end; its id."""
        result = self.farm.client("submit", library, "--out", self.path("out"), "--model", LITE, "--no-wait")
        self.assertEqual(result.returncode, 0, result.stderr)
        return self.farm.jobs()[0]["job_id"]

    def test_sigterm_drains_a_worker(self):
        farm = self.farm
        farm.start_coordinator()
        worker = farm.start_worker("leaves")
        job = self.submit_in_background(many_small(self.path("library"), COUNT))
        wait_until(lambda: farm.job(job)["tasks_done"] >= 2, "2 tasks done")
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.process.wait(60), 0, worker.text())
        status = farm.job(job)
        self.assertLess(status["tasks_done"], COUNT, "it stopped before the end")
        self.assertEqual(status["tasks_leased"], 0, "what it had not begun was released, not left to expire: %r" % status)
        self.assertEqual(status["tasks_failed"], 0)
        farm.start_worker("comes", "--threads", "2")
        wait_until(lambda: farm.job(job)["state"] == "succeeded", "the other worker finishes the job", timeout=300)

    def test_second_sigterm_ends_a_worker_at_once(self):
        farm = self.farm
        farm.start_coordinator()
        worker = farm.start_worker("leaves")
        # One picture that takes far longer than the test waits below.
        job = self.submit_in_background(plain(self.path("large.jpg"), 6000, 3900))
        wait_until(lambda: farm.job(job)["tasks_leased"] == 1, "the worker has the task")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: "giving back" in worker.text() or not worker.running(), "the worker drains")
        worker.signal(signal.SIGTERM)
        self.assertNotEqual(worker.process.wait(10), 0, "it did not finish its work")
        self.assertLess(farm.job(job)["tasks_done"], 1)

    def test_pause_resume_cancel(self):
        farm = self.farm
        farm.start_coordinator()
        farm.start_worker("only")
        job = self.submit_in_background(many_small(self.path("library"), COUNT))
        wait_until(lambda: farm.job(job)["tasks_done"] >= 1, "1 task done")
        self.assertEqual(farm.client("pause", job).returncode, 0)
        wait_until(lambda: farm.job(job)["tasks_leased"] == 0, "running tasks finish")
        paused = farm.job(job)
        self.assertTrue(paused["paused"])
        self.assertGreater(paused["tasks_queued"], 0, "the pause came too late to see anything: %r" % paused)
        time.sleep(2)
        self.assertEqual(farm.job(job)["tasks_done"], paused["tasks_done"], "it worked while paused")
        self.assertEqual(farm.client("resume", job).returncode, 0)
        wait_until(lambda: farm.job(job)["tasks_done"] > paused["tasks_done"], "it goes on")
        self.assertEqual(farm.client("cancel", job).returncode, 0)
        cancelled = wait_until(lambda: farm.job(job)["state"] == "cancelled" and farm.job(job), "the job is cancelled")
        self.assertEqual(cancelled["tasks_done"] + cancelled["tasks_cancelled"], COUNT, cancelled)
        self.assertEqual(farm.client("cancel", job).returncode, 0, "again is no error")

    def test_retry_does_failed_files_again(self):
        farm = self.farm
        farm.start_coordinator()
        farm.start_worker("only")
        library, out = self.path("library"), self.path("out")
        os.mkdir(library)
        plain(os.path.join(library, "good.jpg"), 120, 90)
        bad = plain(os.path.join(library, "cut.jpg"), 300, 200)
        os.truncate(bad, os.path.getsize(bad) // 2)
        code, result = farm.submit(library, "--out", out, "--model", LITE)
        self.assertEqual(code, 1, result)
        job = result["job_id"]
        self.assertEqual(farm.job(job)["tasks_failed"], 1)
        self.assertEqual(farm.client("retry", job).returncode, 0)
        self.assertEqual(farm.client("watch", job).returncode, 1, "the file is still cut")
        self.assertEqual(farm.job(job)["tasks_failed"], 1)
        self.assertEqual(farm.job(job)["tasks_done"], 1)

    def test_worker_of_another_version_is_refused(self):
        farm = self.farm
        farm.start_coordinator()
        worker = farm.start_worker("stranger", program="nsic-worker-other-version", wait=False)
        self.assertNotEqual(worker.process.wait(60), 0)
        text = worker.text()
        self.assertIn("99.0.0", text)
        self.assertIn("version", text)

    def test_wrong_token_is_refused(self):
        farm = self.farm
        farm.start_coordinator()
        wrong = self.write("wrong-token", "f" * 64 + "\n")
        result = farm.client("jobs", "--coordinator", farm.address, "--token-file", wrong, local=True)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("token", result.stderr)

    def test_beyond_loopback_wants_a_token(self):
        result = self.run_coordinator("serve", "--listen", "0.0.0.0:0", "--state", self.path("state"))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--token-file", result.stderr.decode())
        self.assertIn("--insecure", result.stderr.decode())

    def run_coordinator(self, *arguments):
        return subprocess.run([os.path.join(BIN, "nsic-coordinator")] + list(arguments), stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.farm.environment)


if __name__ == "__main__":
    unittest.main()
