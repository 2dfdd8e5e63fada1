"""Videos of every codec, GOP structure, timing and container that FFmpeg makes here: frame count, every time stamp, the order of the frames,
audio packets and subtitles are the source's."""
import concurrent.futures
import os
import unittest

from farm import FarmTest
from videos import Matrix, cues, frame_size, numbers, packets, streams, time_base, timestamps


def shown(path):
    """(time, number) of each frame. What an edit list hides has a time before 0: FFmpeg shows it nevertheless where libdav1d decodes."""
    return [(time, number) for time, number in zip(timestamps(path), numbers(path), strict=True) if time > -1e-9]


def compare(source, output, codec, container):
    """What is wrong with an output; empty when nothing is."""
    faults = []

    def expect(what, got, wanted):
        if got != wanted:
            faults.append("%s: %s instead of %s" % (what, got, wanted))

    expect("size", frame_size(output), frame_size(source))
    wanted, got, base = shown(source), shown(output), time_base(output)
    expect("frames in order", [number for _, number in got], [number for _, number in wanted])
    expect("time stamps", [round(time / base) for time, _ in got], [round(time / base) for time, _ in wanted])
    # MPEG-TS frames its AAC packets anew; without the header they are the same.
    expect("audio packets", packets(output, "a:0"), packets(source, "a:0", "aac_adtstoasc" if container == "ts" else None))
    kinds = lambda path: sorted((s["codec_type"], s.get("tags", {}).get("language")) for s in streams(path) if s["codec_type"] != "video")
    expect("streams", kinds(output), kinds(source))
    if container != "ts":
        expect("subtitles", cues(output), cues(source))
    return faults


class VideoMatrixTest(FarmTest):
    def test_every_frame_of_every_kind_of_file(self):
        matrix = Matrix(self.path("library"), self.path("scratch"))
        for combination, why in matrix.left_out.items():
            print("left out: %s (%s)" % (" in ".join(combination), why))
        print("%d files" % len(matrix.files))

        farm = self.farm
        farm.start_coordinator()
        self.assertEqual(farm.client("models", "import", self.identity_pack()).returncode, 0)
        farm.start_worker("first")
        farm.start_worker("second")
        out = self.path("out")
        code, result = farm.submit(matrix.folder, "--out", out, "--model", "identity", timeout=1500)
        outputs = {os.path.relpath(os.fsdecode(f["input"]), matrix.folder): f for f in result["files"]}
        failed = {name: f["error"] for name, f in outputs.items() if f["state"] != "done"}
        self.assertEqual(set(outputs), set(matrix.files))

        def check(name):
            codec, gop, timing, container = matrix.files[name]
            return compare(os.path.join(matrix.folder, name), outputs[name]["output"], codec, container)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            done = [name for name in matrix.files if name not in failed]
            for name, faults in list(zip(done, pool.map(check, done))) + list(failed.items()):
                with self.subTest(name=name):
                    self.assertEqual(faults, [])
        self.assertEqual(code, 0)


if __name__ == "__main__":
    unittest.main()
