#!/usr/bin/env python3
"""A whole job against the bare engine: pictures of 1080p through `submit --local` with the light model, and the same pictures through the
engine alone (picture_bench) in the precision that the job's worker chose, in one run.

  farm_pictures.py [COUNT [FORMAT [ROUNDS]]]      (100 jpg 3)

The job's time is the command's, with starting a farm, hashing, loading the model and the report. Beside it stands the part from the first
lease to the last picture delivered, as the worker's log has it. Programs are those of $NSIC_BIN or build/bin."""
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
from farm import BIN, LITE, SAMPLES, Farm, vips  # noqa: E402

MEGAPIXELS = 1920 * 1080 / 1e6
PACK = os.path.join(BIN, "..", "share", "nsic", "models", LITE)


def make_library(folder, count, ending, step):
    """`count` crops of 1920x1080 from an enlarged photograph, no two alike."""
    os.makedirs(folder)
    large = os.path.join(folder, "large.v")
    vips("thumbnail", os.path.join(SAMPLES, "4-open.jpg"), large, 2400, "--height", 1600, "--size", "force")
    files = []
    for i in range(count):
        files.append(os.path.join(folder, "%03d.%s" % (i, ending)))
        vips("crop", large, files[-1], (i * 7 + step) % 480, (i * 5 + step) % 520, 1920, 1080)
    os.remove(large)
    return files


def submit(farm, library, out):
    """(seconds of the command, seconds from the first lease to the last picture delivered, the precision that the worker chose)."""
    start = time.monotonic()
    code, result = farm.submit(library, "--local", "--model", LITE, "--out", out, local=True, timeout=36000)
    whole = time.monotonic() - start
    if code != 0:
        raise SystemExit(json.dumps(result, indent=1))
    with open(os.path.join(farm.folder, "xdg-state", "nsic", "local", "worker.log"), errors="replace") as file:
        log = file.read()
    times = [float(h) * 3600 + float(m) * 60 + float(s)
             for h, m, s in re.findall(r"(\d\d):(\d\d):(\d\d(?:\.\d+)?).*(?:leased \d+ tasks|: done in)", log)]
    return whole, (times[-1] - times[0]) % 86400, re.search(r"loaded model \S+ \((\w+)\)", log).group(1)


def main(count=100, ending="jpg", rounds=3):
    folder = tempfile.mkdtemp(prefix="nsic-bench-")
    farm_rates, whole_rates, engine_rates = [], [], []
    try:
        for i in range(rounds):
            farm = Farm(os.path.join(folder, "farm%d" % i))
            library = os.path.join(folder, "library%d" % i)
            files = make_library(library, count, ending, 3 * i)
            whole, restoring, precision = submit(farm, library, os.path.join(folder, "out%d" % i))
            text = subprocess.run([os.path.join(BIN, "picture_bench"), PACK, precision] + files, check=True, stdout=subprocess.PIPE, text=True).stdout
            engine_rates.append(float(re.search(r"enhance .* ([0-9.]+) MP/s", text).group(1)))
            farm_rates.append(count * MEGAPIXELS / restoring)
            whole_rates.append(count * MEGAPIXELS / whole)
            print("round %d, %s: job %.1f s, from the first lease %.1f s; alone:\n%s" % (i + 1, precision, whole, restoring, text.rstrip()),
                  flush=True)
            farm.stop()
            shutil.rmtree(library)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    farm_rate, whole_rate, engine = (statistics.median(rates) for rates in (farm_rates, whole_rates, engine_rates))
    print("%d %s of 1080p, %s, medians of %d rounds: job %.2f MP/s (from the first lease %.2f), bare engine %.2f MP/s, ratio %.2f (%.2f)" %
          (count, ending, LITE, rounds, whole_rate, farm_rate, engine, whole_rate / engine, farm_rate / engine))


if __name__ == "__main__":
    if len(sys.argv) > 4 or any(a.startswith("-") for a in sys.argv[1:]):
        raise SystemExit(__doc__)
    main(*[int(a) if a.isdigit() else a for a in sys.argv[1:]])
