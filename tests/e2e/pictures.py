"""Pictures for the end-to-end tests, made on the spot with the vips and ffmpeg command lines."""
import os
import struct
import tempfile
import zlib

from farm import SAMPLES, ffmpeg, picture_header, vips

# Odd ones, flat ones, tall ones: (width, height)
SIZES = [(321, 241), (200, 133), (97, 255), (480, 270), (513, 257), (33, 400), (640, 17), (250, 250)]


def plain(path, width, height, shift=0, source="4-open.jpg"):
    """A photograph of exactly this size, as a file that vips reads (the name's ending decides the format)."""
    sample = os.path.join(SAMPLES, source)
    if width <= 900 and height <= 480:
        vips("crop", sample, path, shift % (960 - width), shift % (540 - height), width, height)
    else:
        vips("thumbnail", sample, path, width, "--height", height, "--size", "force")
    return path


def with_orientation(path, orientation):
    """Puts an EXIF block with nothing but the orientation into a JPEG."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0]) + b"\0\0\0\0"
    block = b"Exif\0\0" + tiff
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as out:
        out.write(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width, height):
    """The beginning of a PNG with this header and hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


def _alpha(base, folder):
    """`base` with a transparency that rises from left to right."""
    ramp, out = os.path.join(folder, "ramp.v"), os.path.join(folder, "with-alpha.v")
    width, height = picture_header(base)[:2]
    vips("grey", ramp, width, height, "--uchar")
    vips("bandjoin", "%s %s" % (base, ramp), out)
    return out


def _sixteen(base, folder, name, space="rgb16"):
    """`base` as 16 bits a sample, with the low bits in use."""
    wide, out = os.path.join(folder, name + "-wide.v"), os.path.join(folder, name + ".v")
    vips("linear", base, wide, 257, 3)
    cast = os.path.join(folder, name + "-cast.v")
    vips("cast", wide, cast, "ushort")
    vips("copy", cast, out, "--interpretation", space)
    return out


def _kinds():
    """name, ending, function of (base .v file, scratch folder, output path)"""
    def save(operation, *options):
        return lambda base, folder, out: vips(operation, base, out, *options)

    def grey(then):
        def make(base, folder, out):
            one = os.path.join(folder, "grey.v")
            vips("colourspace", base, one, "b-w")
            then(one, folder, out)
        return make

    def alpha(then):
        return lambda base, folder, out: then(_alpha(base, folder), folder, out)

    def sixteen(then, space="rgb16"):
        return lambda base, folder, out: then(_sixteen(base, folder, "wide-" + space, space), folder, out)

    def oriented(base, folder, out):
        vips("jpegsave", base, out, "--Q", 40)
        with_orientation(out, 6)

    def bmp(base, folder, out):
        png = os.path.join(folder, "for-bmp.png")
        vips("pngsave", base, png)
        ffmpeg("-i", png, "-pix_fmt", "bgr24", out)

    return [
        ("jpeg-420", "jpg", save("jpegsave", "--Q", 15)),
        ("jpeg-444", "jpeg", save("jpegsave", "--Q", 40, "--subsample-mode", "off")),
        ("jpeg-progressive", "JPG", save("jpegsave", "--Q", 60, "--interlace")),
        ("jpeg-grey", "jpg", grey(save("jpegsave", "--Q", 30))),
        ("jpeg-rotated", "jpg", oriented),
        ("png-8", "png", save("pngsave")),
        ("png-alpha", "png", alpha(save("pngsave"))),
        ("png-grey", "png", grey(save("pngsave"))),
        ("png-palette", "png", save("pngsave", "--palette")),
        ("png-16", "png", sixteen(save("pngsave"))),
        ("png-grey-16", "png", grey(sixteen(save("pngsave"), "grey16"))),
        ("webp", "webp", save("webpsave", "--Q", 60)),
        ("webp-lossless-alpha", "webp", alpha(save("webpsave", "--lossless"))),
        ("tiff", "tif", save("tiffsave", "--compression", "lzw")),
        ("tiff-16-tiled", "tiff", sixteen(save("tiffsave", "--compression", "deflate", "--tile"))),
        ("bmp", "bmp", bmp),
    ]


def mixed_library(folder, count):
    """`count` pictures of all kinds and sizes in a tree below `folder`; the last is by far the largest, for tile tasks."""
    kinds = _kinds()
    with tempfile.TemporaryDirectory(prefix="nsic-pictures-") as scratch:
        for index in range(count):
            name, ending, make = kinds[index % len(kinds)]
            # A size moves on by one each round, so that kinds meet different sizes.
            width, height = SIZES[(index + index // len(kinds)) % len(SIZES)]
            if index == count - 1:
                name, ending, make = kinds[5]
                width, height = 1403, 1101
            base = plain(os.path.join(scratch, "base-%d.v" % index), width, height, shift=37 * index)
            below = os.path.join(folder, "part %d" % (index % 3))
            os.makedirs(below, exist_ok=True)
            make(base, scratch, os.path.join(below, "%02d-%s.%s" % (index, name, ending)))
            os.remove(base)
    return folder


def many_small(folder, count):
    """`count` JPEG pictures of 160x120 that differ in their bytes only (a comment), so that none is another's twin."""
    os.makedirs(folder)
    with tempfile.TemporaryDirectory(prefix="nsic-pictures-") as scratch:
        with open(plain(os.path.join(scratch, "one.jpg"), 160, 120), "rb") as file:
            data = file.read()
    for index in range(count):
        comment = b"%08d" % index
        with open(os.path.join(folder, "%04d.jpg" % index), "wb") as out:
            out.write(data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:])
    return folder


def noise(path, width, height):
    """A picture that nothing can compress: about 3 bytes a pixel, whatever the format without loss."""
    with tempfile.TemporaryDirectory(prefix="nsic-pictures-") as scratch:
        raw = os.path.join(scratch, "noise.ppm")
        with open(raw, "wb") as out:
            out.write(b"P6 %d %d 255\n" % (width, height) + os.urandom(3 * width * height))
        vips("copy", raw, path)
    return path
