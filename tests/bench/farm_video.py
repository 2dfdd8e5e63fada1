#!/usr/bin/env python3
"""What the farm makes of videos, each figure beside the one it is held against, measured in the same run.

  farm_video.py throughput [ROUNDS] [CLIP]  1080p, decode + identity + encode (x264 medium, CRF 18, 2 threads) against the ffmpeg command line
  farm_video.py lite [ROUNDS] [CLIP]        1080p through kairitsu-lite, against the bare engine on the same frames (video_bench)
  farm_video.py held [CLIP]                 every frame doubled, against as many distinct frames; hit rates and PSNR of --static-threshold
  farm_video.py long [MINUTES]              minutes (30) of 320x180 end to end: peak memory of coordinator, worker and client

With CLIP, frames are those of that video, scaled and repeated; else a crop that moves over a photograph, with noise, which encoders find hard.
Programs are those of $NSIC_BIN or build/bin."""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from farm import BIN, LITE, SAMPLES, Farm, FarmTest, ffmpeg, free_port, metrics, read  # noqa: E402
from videos import frame_count, psnr  # noqa: E402

MEBI = 1 << 20


class Bench(FarmTest):
    """A farm with one worker that has all cores."""

    def runTest(self):
        pass

    def start(self):
        self.folder = tempfile.mkdtemp(prefix="nsic-bench-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.farm = Farm(self.path("farm"))
        self.farm.start_coordinator()
        pack = self.identity_pack()
        if self.farm.client("models", "import", pack).returncode != 0:
            raise SystemExit("the identity pack could not be imported")
        self.metrics_at = "127.0.0.1:%d" % free_port()
        return self.farm.start_worker("only", "--threads", str(os.cpu_count()), "--metrics", self.metrics_at)

    def tiles_repeated(self):
        """Of all jobs so far."""
        return sum(value for key, value in metrics(self.metrics_at).items() if key.startswith("nsic_worker_tiles_repeated_total"))

    def end(self):
        self.farm.stop()
        self.doCleanups()

    def submit(self, path, out, *options):
        """Restores one file; (seconds, what the report says of the video, the output)."""
        start = time.monotonic()
        code, result = self.farm.submit(path, "--out", self.path(out), *options, timeout=36000)
        seconds = time.monotonic() - start
        if code != 0:
            raise SystemExit(json.dumps(result, indent=1))
        report = json.loads(read(self.path(out, "nsic-report", "report.json")))
        return seconds, report["files"][0]["video"], result["files"][0]["output"]


def moving(path, frames, rate, size, codec, clip=None):
    """A crop that moves over a photograph, or the clip: content as cameras see it, no two frames in a row alike."""
    width, height = size
    if clip is not None:
        ffmpeg("-stream_loop", "-1", "-i", clip, "-an", "-frames:v", frames, "-vf",
               "scale=%d:%d:flags=lanczos,setpts=N/%s/TB,format=yuv420p" % (width, height, rate), "-r", rate, "-c:v", *codec, path)
        return path
    ffmpeg("-loop", "1", "-i", os.path.join(SAMPLES, "4-open.jpg"), "-frames:v", frames, "-vf",
           "scale=%d:-2:flags=lanczos,fps=%s,crop=%d:%d:x='mod(2*n,iw-ow)':y='mod(n,ih-oh)',noise=alls=4:allf=t,format=yuv420p" % (width * 3 // 2, rate, width, height),
           "-c:v", *codec, path)
    return path


def throughput(rounds=3, clip=None):
    bench = Bench()
    bench.start()
    frames = 750
    source = moving(bench.path("source.mp4"), frames, 25, (1920, 1080), ["libx264", "-preset", "veryfast", "-crf", "16"], clip)
    farm_seconds, cli_seconds = [], []
    for i in range(int(rounds)):
        farm_seconds.append(bench.submit(source, "out%d" % i, "--model", "identity", "--codec", "x264", "--preset", "medium", "--crf", "18")[0])
        start = time.monotonic()
        ffmpeg("-i", source, "-c:v", "libx264", "-preset", "medium", "-crf", "18", "-threads", "2", "-x264-params", "open-gop=0", bench.path("cli.mp4"))
        cli_seconds.append(time.monotonic() - start)
        # The same work again would be taken from the results there are.
        source = moving(bench.path("source%d.mp4" % i), frames, 25, (1920, 1080), ["libx264", "-preset", "veryfast", "-crf", str(17 + i)], clip)
    ours, theirs = frames / statistics.median(farm_seconds), frames / statistics.median(cli_seconds)
    print("1080p, x264 medium CRF 18, 2 threads, medians of %d rounds: farm %.2f fps, ffmpeg %.2f fps, ratio %.2f" %
          (rounds, ours, theirs, ours / theirs))
    bench.end()


def lite(rounds=3, clip=None):
    bench = Bench()
    bench.start()
    frames, pack = 120, os.path.join(BIN, "..", "share", "nsic", "models", LITE)
    farm_seconds, engine_seconds, work_seconds = [], [], []
    for i in range(int(rounds) + 1):  # the first loads and measures the model
        source = moving(bench.path("source%d.mp4" % i), frames, 25, (1920, 1080), ["libx264", "-preset", "veryfast", "-crf", str(20 + i)], clip)
        farm_seconds.append(bench.submit(source, "out%d" % i, "--model", LITE)[0])
        text = subprocess.run([os.path.join(BIN, "video_bench"), source, pack], check=True, stdout=subprocess.PIPE, text=True).stdout
        engine_seconds.append(frames * float(re.search(r"enhance +([0-9.]+) ms a frame", text).group(1)) / 1000)
        stages = re.findall(r"^(?:decode|to rgb|enhance|finish|encode) .* ([0-9.]+) ms of CPU", text, re.M)
        work_seconds.append(frames * sum(map(float, stages)) / 1000 / os.cpu_count())
    ours, bare = frames / statistics.median(farm_seconds[1:]), frames / statistics.median(engine_seconds[1:])
    most = frames / statistics.median(work_seconds[1:])
    print("1080p, %s, medians of %d rounds: farm %.2f fps, bare engine %.2f fps, ratio %.2f; %.2f fps if all stages kept every core busy" %
          (LITE, rounds, ours, bare, ours / bare, most))
    bench.end()


def held(clip=None):
    bench = Bench()
    bench.start()
    size = (960, 540)
    moving(bench.path("half.mkv"), 40, 10, size, ["ffv1"], clip)
    doubled, distinct = bench.path("doubled.mkv"), moving(bench.path("distinct.mkv"), 80, 20, size, ["ffv1"], clip)
    ffmpeg("-i", bench.path("half.mkv"), "-vf", "fps=20", "-c:v", "ffv1", doubled)
    lossy = bench.path("lossy.mp4")
    ffmpeg("-i", doubled, "-c:v", "libx264", "-crf", "18", lossy)
    ffv1 = ["--model", LITE, "--codec", "ffv1", "--container", "mkv"]
    bench.submit(moving(bench.path("warm.mkv"), 4, 10, size, ["ffv1"]), "warm", *ffv1)  # loads and measures the model
    distinct_seconds = bench.submit(distinct, "distinct", *ffv1)[0]
    seconds, facts, _ = bench.submit(doubled, "doubled", *ffv1)
    print("doubled, lossless: %.1f s against %.1f s of distinct frames: %.2f; %d of %d frames repeated" %
          (seconds, distinct_seconds, seconds / distinct_seconds, facts["frames_repeated"], frame_count(doubled)))
    exact = None
    for threshold in (0, 1, 2, 4, 8):
        before = bench.tiles_repeated()
        seconds, facts, output = bench.submit(lossy, "lossy%d" % threshold, *ffv1, "--static-threshold", str(threshold))
        exact = exact or output
        print("doubled, CRF 18, threshold %d: %.1f s, %d frames and %d tiles repeated, PSNR to exact %s dB" %
              (threshold, seconds, facts["frames_repeated"], bench.tiles_repeated() - before, psnr(output, exact)))
    bench.end()


def long(minutes=30):
    bench = Bench()
    worker = bench.start()
    frames = int(minutes * 60 * 25)
    source = bench.path("long.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-frames:v", frames, "-c:v", "libx264", "-preset", "ultrafast", source)
    client = bench.farm.start_client("submit", source, "--out", bench.path("out"), "--model", "identity", "--preset", "ultrafast", "--json")
    start = time.monotonic()
    peak, shown = 0, start
    while client.running():
        try:
            peak = client.peak_memory()
        except (FileNotFoundError, AttributeError):
            break
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            print("  after %4.0f s: coordinator %d, worker %d, client %d MiB" %
                  (shown - start, bench.farm.coordinator.peak_memory() // MEBI, worker.peak_memory() // MEBI, peak // MEBI), flush=True)
        time.sleep(0.5)
    if client.process.wait() != 0:
        raise SystemExit(client.text())
    seconds = time.monotonic() - start
    output = json.loads(client.text().splitlines()[-1])["files"][0]["output"]
    print("%g minutes of 320x180 (%d frames): %.0f s, %.0f fps, %d frames out; peak memory: coordinator %d, worker %d, client %d MiB" %
          (minutes, frames, seconds, frames / seconds, frame_count(output), bench.farm.coordinator.peak_memory() // MEBI,
           worker.peak_memory() // MEBI, peak // MEBI))
    bench.end()


if __name__ == "__main__":
    commands = {"throughput": throughput, "lite": lite, "held": held, "long": long}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*[float(a) if re.fullmatch(r"[0-9.]+", a) else a for a in sys.argv[2:]])
