"""Videos for the end-to-end tests, made on the spot with the ffmpeg command line, and what is read back from them.

Every frame of a made video has its number drawn into it as a row of black and white blocks, which survive any codec."""
import hashlib
import json
import os
import subprocess

from farm import ffmpeg

os.environ["SVT_LOG"] = "1"  # errors only: SVT-AV1 does not ask FFmpeg

WIDTH, HEIGHT = 128, 96
BITS, BLOCK, BAND = 12, 10, 16  # a number's blocks: BLOCK x BAND pixels each, the lowest bit first
RATE = 25


def run(*command):
    """The standard output of a command that must succeed."""
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def numbered(path, frames, rate=RATE, size=(WIDTH, HEIGHT), pixel_format="yuv420p", picture="testsrc2"):
    """A lossless video whose frames bear their numbers, 0 and on."""
    width, height = size
    coded = "lt(Y,%d)*lt(X,%d)" % (BAND, BITS * BLOCK)
    chroma = "lt(Y,%d)*lt(X,%d)" % (BAND // 2, BITS * BLOCK // 2)
    bit = "16+219*mod(floor(N/pow(2,floor(X/%d))),2)" % BLOCK
    geq = "geq=lum='if(%s,%s,lum(X,Y))':cb='if(%s,128,cb(X,Y))':cr='if(%s,128,cr(X,Y))'" % (coded, bit, chroma, chroma)
    ffmpeg("-f", "lavfi", "-i", "%s=size=%dx%d:rate=%s" % (picture, width, height, rate), "-frames:v", frames,
           "-vf", "format=yuv420p,%s,format=%s" % (geq, pixel_format), "-c:v", "ffv1", path)
    return path


def tone(path, seconds):
    ffmpeg("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=%g" % seconds, "-ac", 2, "-c:a", "pcm_s16le", path)
    return path


def numbers(path):
    """The numbers drawn into the frames that a player presents, in that order."""
    width, height = frame_size(path)
    raw = run("ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo",
              "-pix_fmt", "gray", "-")
    found = []
    for start in range(0, len(raw) - width * height + 1, width * height):
        row = start + (BAND // 2) * width
        found.append(sum((raw[row + bit * BLOCK + BLOCK // 2] > 127) << bit for bit in range(BITS)))
    return found


def probe(path, *entries):
    return json.loads(run("ffprobe", "-v", "error", "-of", "json", *entries, path))


def frame_size(path):
    stream = probe(path, "-select_streams", "v:0", "-show_entries", "stream=width,height")["streams"][0]
    return stream["width"], stream["height"]


def timestamps(path):
    """The times in seconds at which frames are presented."""
    frames = probe(path, "-select_streams", "v:0", "-show_entries", "frame=pts_time,best_effort_timestamp_time")["frames"]
    return [float(frame.get("pts_time", frame.get("best_effort_timestamp_time"))) for frame in frames]


def time_base(path):
    base = probe(path, "-select_streams", "v:0", "-show_entries", "stream=time_base")["streams"][0]["time_base"]
    num, den = base.split("/")
    return int(num) / int(den)


def streams(path):
    return probe(path, "-show_streams")["streams"]


def packets(path, which, bitstream_filter=None):
    """The hashes of the packets of one stream ("a:0"), in order."""
    filters = ["-bsf", bitstream_filter] if bitstream_filter else []
    text = run("ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:" + which, "-c", "copy", *filters, "-copyts", "-f",
               "framehash", "-hash", "sha256", "-").decode()
    return [line.split(",")[5].strip() for line in text.splitlines() if line and not line.startswith("#")]


def cues(path):
    """The subtitles that are shown: (milliseconds, hash). QuickTime fills gaps with empty ones, and edit lists hide some."""
    listed = probe(path, "-select_streams", "s:0", "-show_entries", "packet=pts_time,size,flags,data_hash", "-show_data_hash", "sha256")["packets"]
    return [(round(1000 * float(cue["pts_time"])), cue["data_hash"]) for cue in listed if int(cue["size"]) > 2 and "D" not in cue["flags"]]


def decoded_frames(path, pixel_format=None):
    """The SHA-256 of each decoded frame's samples."""
    wanted = ["-pix_fmt", pixel_format] if pixel_format else []
    text = run("ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", *wanted, "-f", "framehash",
               "-hash", "sha256", "-").decode()
    return [line.split(",")[5].strip() for line in text.splitlines() if line and not line.startswith("#")]


def psnr(path, reference):
    """The mean PSNR in decibels of one video against another with as many frames; "inf" when they are equal."""
    result = subprocess.run(["ffmpeg", "-v", "info", "-nostdin", "-i", path, "-i", reference, "-lavfi",
                             "[0:v]settb=1,setpts=N[a];[1:v]settb=1,setpts=N[b];[a][b]psnr", "-f", "null", "-"],
                            check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return float(result.stderr.split("average:")[1].split()[0])


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# What a codec of the matrix is encoded with, by its GOP structure; text: why there is none.
CODECS = {
    "h264": {"closed": ["libx264", "-preset", "veryfast", "-x264-params", "keyint=12:min-keyint=12:open-gop=0:bframes=2:log=0"],
             "open": ["libx264", "-preset", "veryfast", "-x264-params", "keyint=12:min-keyint=12:open-gop=1:bframes=3:b-adapt=0:log=0"],
             "pyramid": ["libx264", "-preset", "veryfast", "-x264-params", "keyint=24:bframes=7:b-pyramid=normal:b-adapt=0:ref=4:log=0"],
             "long": ["libx264", "-preset", "veryfast", "-x264-params", "keyint=infinite:scenecut=0:bframes=3:log=0"]},
    "hevc": {"closed": ["libx265", "-preset", "ultrafast", "-x265-params", "keyint=12:min-keyint=12:open-gop=0:bframes=2:log-level=none"],
             "open": ["libx265", "-preset", "ultrafast", "-x265-params", "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=none"],
             "pyramid": ["libx265", "-preset", "ultrafast", "-x265-params", "keyint=24:bframes=6:b-pyramid=1:b-adapt=0:rc-lookahead=12:log-level=none"],
             "long": ["libx265", "-preset", "ultrafast", "-x265-params", "keyint=-1:scenecut=0:bframes=3:log-level=none"]},
    "vp9": {"closed": ["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12", "-lag-in-frames", "0"],
            "open": "VP9 has no open GOP",
            "pyramid": ["libvpx-vp9", "-deadline", "good", "-cpu-used", "5", "-g", "24", "-auto-alt-ref", "1", "-lag-in-frames", "16"],
            "long": ["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "9999", "-lag-in-frames", "0"]},
    "av1": {"closed": ["libsvtav1", "-preset", "12", "-g", "16", "-svtav1-params", "irefresh-type=2"],
            "open": ["libsvtav1", "-preset", "12", "-g", "16", "-svtav1-params", "irefresh-type=1"],
            "pyramid": ["libsvtav1", "-preset", "10", "-g", "32", "-svtav1-params", "hierarchical-levels=4"],
            "long": ["libsvtav1", "-preset", "12", "-g", "-1"]},
    "mpeg2": {"closed": ["mpeg2video", "-q:v", "3", "-g", "12", "-bf", "2", "-flags", "+cgop", "-sc_threshold", "1000000000"],
              "open": ["mpeg2video", "-q:v", "3", "-g", "12", "-bf", "2"],
              "pyramid": "MPEG-2 has no B-frame references",
              "long": ["mpeg2video", "-q:v", "3", "-g", "600", "-bf", "2", "-sc_threshold", "1000000000"]},
    "ffv1": {"closed": ["ffv1", "-level", "3", "-g", "1"],
             "open": "FFV1 has no B-frames",
             "pyramid": "FFV1 has no B-frames",
             "long": ["ffv1", "-level", "3", "-g", "300"]},
}
CONTAINERS = {"mp4": ("aac", "mov_text"), "mkv": ("aac", "srt"), "webm": ("libopus", "webvtt"), "ts": ("aac", None)}
TIMINGS = ("cfr", "vfr", "edit list", "start offset")


class Matrix:
    """Every combination of codec, GOP structure, timing and container that Debian's FFmpeg can make, as files in one folder.

    files: name -> (codec, gop, timing, container). left_out: combination -> why."""

    def __init__(self, folder, scratch, frames=60):
        self.folder, self.scratch = folder, scratch
        self.files, self.left_out = {}, {}
        os.makedirs(folder)
        os.makedirs(scratch)
        self.base = numbered(os.path.join(scratch, "base.mkv"), frames)
        self.sound = tone(os.path.join(scratch, "sound.wav"), frames / RATE)
        self.words = os.path.join(scratch, "words.srt")
        with open(self.words, "w") as out:
            out.write("1\n00:00:00,200 --> 00:00:00,900\none\n\n2\n00:00:01,000 --> 00:00:01,800\ntwo\n")
        for codec, gops in CODECS.items():
            for gop, options in gops.items():
                if isinstance(options, str):
                    self.left_out[(codec, gop)] = options
                    continue
                for rate in ("cfr", "vfr"):
                    self._encode(codec, gop, rate, options)

    def _encode(self, codec, gop, rate, options):
        """One encode, then copied into every container and timing."""
        # Variable: every third frame is missing, and time runs unevenly. Millisecond times, so that every container can hold them.
        vary = ["-vf", "select='mod(n,3)',setpts='(N*40+20*mod(N,2))/1000/TB'", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
        if codec == "mpeg2":  # knows no rate of 1000: there only the gaps
            vary = ["-vf", "select='mod(n,3)'", "-fps_mode", "vfr"]
        stream = os.path.join(self.scratch, "%s-%s-%s.mkv" % (codec, gop, rate))
        ffmpeg("-i", self.base, *(vary if rate == "vfr" else []), "-c:v", *options, "-pix_fmt", "yuv420p", stream)
        for container, (audio, subtitles) in CONTAINERS.items():
            # The container is part of the name: MPEG-TS becomes Matroska.
            name = "%s-%s-%s-in-%s.%s" % (codec, gop, rate, container, container)
            path = os.path.join(self.folder, name)
            inputs = ["-i", stream, "-i", self.sound] + (["-i", self.words] if subtitles else [])
            maps = ["-map", "0:v", "-map", "1:a"] + (["-map", "2:s", "-c:s", subtitles] if subtitles else [])
            command = inputs + maps + ["-c:v", "copy", "-c:a", audio, "-b:a", "64k", "-metadata:s:a:0", "language=eng"]
            try:
                run("ffmpeg", "-v", "error", "-nostdin", "-y", *command, path)
            except subprocess.CalledProcessError as error:
                if os.path.exists(path):
                    os.remove(path)
                self.left_out[(codec, container)] = "the muxer refuses it: " + error.stderr.decode().strip().splitlines()[0]
                continue
            if container == "ts" and not frame_count(path):  # muxed as private data, which no demuxer recognises
                os.remove(path)
                self.left_out[(codec, container)] = "MPEG-TS carries it as private data only"
                continue
            self.files[name] = (codec, gop, rate, container)
            if rate == "vfr":
                continue
            shifted = "%s-%s-offset-in-%s.%s" % (codec, gop, container, container)
            run("ffmpeg", "-v", "error", "-nostdin", "-y", *command, "-output_ts_offset", "1.5", os.path.join(self.folder, shifted))
            self.files[shifted] = (codec, gop, "start offset", container)
            if container == "mp4":
                edited = "%s-%s-edit-in-%s.%s" % (codec, gop, container, container)
                # Copied from the middle of a GOP: the frames before are there, and an edit list hides them.
                run("ffmpeg", "-v", "error", "-nostdin", "-y", "-ss", "0.7", "-i", path, "-map", "0", "-c", "copy",
                    os.path.join(self.folder, edited))
                self.files[edited] = (codec, gop, "edit list", container)
            else:
                self.left_out[("edit list", container)] = "only MP4 has edit lists"


def frame_count(path):
    listed = probe(path, "-select_streams", "v:0", "-count_frames", "-show_entries", "stream=nb_read_frames").get("streams", [])
    return int(listed[0].get("nb_read_frames", 0)) if listed else 0
