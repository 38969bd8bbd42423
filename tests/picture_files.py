"""Picture files of every kind: what Pillow writes, and what it reads and others write.

VARIANTS are to be read, REFUSED not, by training and serving alike; `shown` is Pillow's answer.
"""

import contextlib
import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

H, W = 13, 29
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F")


def smooth(height=H, width=W, seed=0):
    """A picture that a JPEG keeps well: (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width] / 9
    waves = [np.sin(down * random.uniform(0, 1) + right + random.uniform(0, 6)) for _ in range(3)]
    return np.uint8(127.5 + 120 * np.stack(waves, -1))


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    picture = picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def shown(content):
    """The pixels that Pillow shows on white: (H, W, 3) int."""
    with PIL.Image.open(io.BytesIO(content)) as picture:
        picture.load()
        turned = PIL.ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I"):  # which Pillow cuts off at 255
        return np.repeat((np.asarray(turned).astype(int) >> 8)[:, :, None], 3, 2)
    layers = PIL.Image.new("RGBA", turned.size, "white"), turned.convert("RGBA")
    return np.asarray(PIL.Image.alpha_composite(*layers).convert("RGB")).astype(int)


def of_mode(mode):
    """The picture in a mode of Pillow, with all opacities if it has any."""
    picture = PIL.Image.fromarray(smooth())
    if mode in ("LA", "PA", "RGBA"):
        opacity = np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)
        picture.putalpha(PIL.Image.fromarray(opacity))
    if mode in ("I;16", "I"):
        wide = PIL.Image.fromarray(smooth()[:, :, 0].astype(np.uint16) * 257 - 3)
        return wide if mode == "I;16" else wide.convert("I")
    return picture.convert(mode)


def written_by_pillow():
    """What Pillow writes of each mode, as it comes: {"GIF RGBA": bytes}."""
    found = {}
    for kind in ("BMP", "GIF", "JPEG", "PNG"):
        for mode in MODES:
            with contextlib.suppress(OSError, ValueError):  # Pillow writes no such file
                found[f"{kind} {mode}"] = encoded(of_mode(mode), kind)
    return found


# PNG


def chunk(name, data):
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def png_with(content, *chunks, before=b"IDAT"):
    """A PNG with further chunks, which are (name, data)."""
    place = content.index(before) - 4
    return content[:place] + b"".join(chunk(*each) for each in chunks) + content[place:]


def interlaced_png(pixels):
    """Adam7, which Pillow reads and does not write; of (H, W, channels) uint8."""
    height, width, channels = pixels.shape
    rows = b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    for left, top, across, down in [*passes, (0, 1, 1, 2)]:
        part = pixels[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 1)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def exif_of(orientation):
    exif = PIL.Image.Exif()
    exif[274] = orientation
    return exif


def pngs():
    grey, palette = smooth()[:, :, 0], PIL.Image.fromarray(smooth()).quantize(17)
    rgba = np.asarray(of_mode("RGBA"))
    wide = np.random.default_rng(1).integers(0, 2**16, (H, W, 4)).astype(np.uint16)
    plain = encoded(smooth(), "PNG")
    found = {
        "clear RGB": encoded(smooth(), "PNG", transparency=tuple(smooth()[3, 4].tolist())),
        "clear grey": encoded(grey, "PNG", transparency=int(grey[3, 4])),
        "clear index": encoded(palette, "PNG", transparency=5),
        "clear indices": encoded(palette, "PNG", transparency=bytes(range(0, 255, 15))),
        "interlaced": interlaced_png(smooth()),
        "interlaced RGBA": interlaced_png(rgba),
        "interlaced LA": interlaced_png(rgba[:, :, 2:]),
        "gAMA": png_with(plain, (b"gAMA", struct.pack(">I", 100_000))),
        "gAMA of others": png_with(plain, (b"gAMA", struct.pack(">I", 45_455))),
        "texts": png_with(plain, (b"zTXt", b"a\0\0" + zlib.compress(b"b")), (b"tEXt", b"a\0b")),
        "profile": encoded(smooth(), "PNG", icc_profile=b"no profile, but some bytes" * 9),
        "two parts": png_with(plain, before=b"IEND"),
        "without an end": plain[:-12],
        "half an end": plain[:-5],
    }
    for bits in (1, 2, 4):
        found[f"{bits} bits"] = encoded(PIL.Image.fromarray(smooth()).quantize(2**bits), "PNG")
    for side in range(1, 9):
        found[f"on side {side}"] = encoded(smooth(), "PNG", exif=exif_of(side))
    tiff = exif_of(6).tobytes()[6:]
    found["on side 6 at its end"] = png_with(plain, (b"eXIf", tiff), before=b"IEND")
    found = {f"PNG {name}": content for name, content in found.items()}
    for channels in (1, 2, 3, 4):
        wider = tf.io.encode_png(wide[:, :, -channels:]).numpy()
        found[f"PNG 16 bits x {channels}"] = wider
    return found


# JPEG


def jpegs():
    large = smooth(61, 83)
    cmyk = PIL.Image.fromarray(large).convert("CMYK")
    found = {
        "progressive": encoded(large, "JPEG", progressive=True),
        "progressive grey": encoded(large[:, :, 0], "JPEG", progressive=True),
        "progressive CMYK": encoded(cmyk, "JPEG", progressive=True),
        "optimized": encoded(large, "JPEG", optimize=True),
        "restarts": encoded(large, "JPEG", restart_marker_blocks=2),
        "restarts, progressive": encoded(large, "JPEG", restart_marker_rows=1, progressive=True),
        "profile": encoded(large, "JPEG", icc_profile=bytes(range(256)) * 300),  # two segments
        "comment": encoded(large, "JPEG", comment="a comment \xff\xd9"),
        "as RGB": encoded(large, "JPEG", keep_rgb=True),
        "bytes behind it": encoded(large, "JPEG") + bytes(range(256)) * 9,
        "without an end": encoded(large, "JPEG")[:-2],
        "half an end": encoded(large, "JPEG")[:-1],
        "progressive, without an end": encoded(large, "JPEG", progressive=True)[:-2],
    }
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        found[sampling] = encoded(large, "JPEG", subsampling=sampling)
    for side in range(1, 9):
        found[f"on side {side}"] = encoded(large, "JPEG", exif=exif_of(side))
    return {f"JPEG {name}": content for name, content in found.items()}


# GIF


def gif_of(
    numbers, *, table=None, own=None, canvas=None, place=(0, 0), clear=None, before=b"", after=b""
):
    """A GIF of numbers (h, w) uint8 with parts that Pillow does not write.

    Args:
        table, own: bytes of the colours of all frames and of this one.
        canvas: width and height. place: left and top. clear: int, the transparent colour.
        before, after: bytes of other blocks.
    """
    plain = encoded(PIL.Image.fromarray(numbers), "GIF", interlace=0, optimize=False)
    size = plain[6:10]
    data = plain[13 + 3 * 256 :]  # the picture and the end
    data = data[data.index(b"," + bytes(4) + size) :][10:-1]

    def flags(colours):
        return 0 if colours is None else 0x80 | (len(colours) // 3).bit_length() - 2

    content = b"GIF89a" + (size if canvas is None else struct.pack("<HH", *canvas))
    content += bytes([flags(table), 0, 0]) + (table or b"") + before
    if clear is not None:
        content += bytes([0x21, 0xF9, 4, 1, 0, 0, clear, 0])
    content += b"," + struct.pack("<HH", *place) + size + bytes([flags(own)]) + (own or b"")
    return content + data + after + b";"


def gifs():
    random = np.random.default_rng(3)
    numbers = random.integers(0, 16, (H, W)).astype(np.uint8)
    all_numbers = random.integers(0, 256, (61, 83)).astype(np.uint8)  # many parts
    colours, others = random.bytes(3 * 16), random.bytes(3 * 32)
    palette = PIL.Image.fromarray(smooth()).quantize(17)
    other = PIL.Image.fromarray(255 - smooth())
    comment = b"!\xfe\x05a, ;!\x03\xf9\x04\x00\x00"
    application = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    of_other = b"!\xf9\x04\x01\x00\x00\x02\x00"  # what is transparent in another frame
    large = b"," + bytes(4) + struct.pack("<HHB", 6000, 6000, 0) + b"\x02\x01\x00\x00"
    frames = {"save_all": True, "append_images": [other], "duration": 50}
    found = {
        "a table": gif_of(numbers, table=colours),
        "its own table": gif_of(numbers, own=others),
        "both tables": gif_of(numbers, table=colours, own=others),
        "no table": gif_of(numbers),
        "all colours": gif_of(all_numbers, table=random.bytes(3 * 256)),
        "clear": gif_of(numbers, table=colours, clear=3),
        "clear in its own table": gif_of(numbers, table=colours, own=others, clear=0),
        "clear is in no table": gif_of(numbers, table=colours, clear=200),
        "smaller than its canvas": gif_of(numbers, table=colours, canvas=(37, 19), place=(5, 3)),
        "smaller and clear": gif_of(numbers, table=colours, canvas=(37, 19), place=(8, 6), clear=7),
        "larger than its canvas": gif_of(numbers, table=colours, canvas=(1, 1), place=(2, 3)),
        "blocks before it": gif_of(numbers, table=colours, clear=1, before=comment + application),
        "frames behind it": gif_of(numbers, table=colours, after=of_other + large),
        "bytes behind it": gif_of(numbers, table=colours) + b"\0more",
        "without an end": gif_of(numbers, table=colours)[:-1],
        "half an end": gif_of(numbers, table=colours)[:-2],
        "interlaced": encoded(palette, "GIF", interlace=1),
        "not interlaced": encoded(palette, "GIF", interlace=0),
        "written clear": encoded(palette, "GIF", transparency=4),
        "background": encoded(palette, "GIF", background=5),
        "comment": encoded(palette, "GIF", comment=b"a comment" * 99),
        "animated": encoded(palette, "GIF", **frames),
        "animated, clear": encoded(palette, "GIF", transparency=2, **frames),
        "animated RGBA": encoded(of_mode("RGBA"), "GIF", **frames),
    }
    for disposal in (1, 2, 3):
        found[f"disposal {disposal}"] = encoded(palette, "GIF", disposal=disposal, **frames)
    return {f"GIF {name}": content for name, content in found.items()}


# BMP


def bmp_of(rows, bits, height=H, *, header=40, compression=0, table=b"", masks=(), colours=0):
    """A BMP of rows as they are stored; what stands in `header` bytes behind the 40 is 0."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, W, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", 40, W, height, 1, bits, compression, 0, 0, 0, colours, 0)
        head = struct.pack("<I", header) + head[4:]
    head += struct.pack(f"<{len(masks)}I", *masks)
    head += bytes(max(14 + header - 14 - len(head), 0)) + table
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + rows


def bmps():
    random = np.random.default_rng(5)
    rgb = smooth()[::-1, :, ::-1]  # from the bottom, blue first
    padded = np.pad(rgb.reshape(H, -1), [[0, 0], [0, -3 * W % 4]])
    rgba = np.asarray(of_mode("RGBA"))[::-1]
    numbers = random.integers(0, 16, (H, W)).astype(np.uint8)
    nibbles = np.pad(numbers, [[0, 0], [0, -W % 8]])
    nibbles = (nibbles[:, ::2] * 16 + nibbles[:, 1::2]).astype(np.uint8)
    bits = np.packbits(np.pad(numbers % 2, [[0, 0], [0, -W % 32]]), axis=1)
    octets = np.pad(numbers, [[0, 0], [0, -W % 4]])
    tables = {count: random.bytes(4 * count) for count in (2, 16, 256)}
    old = {count: random.bytes(3 * count) for count in (2, 16, 256)}
    rgb_first = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    found = {
        "from the top": bmp_of(padded[::-1].tobytes(), 24, -H),
        "1 bit": bmp_of(bits.tobytes(), 1, table=tables[2]),
        "4 bits": bmp_of(nibbles.tobytes(), 4, table=tables[16]),
        "4 bits from the top": bmp_of(nibbles.tobytes(), 4, -H, table=tables[16]),
        "8 bits": bmp_of(octets.tobytes(), 8, table=tables[256]),
        "8 bits of few colours": bmp_of(octets.tobytes(), 8, table=tables[16], colours=16),
        "of OS/2": bmp_of(padded.tobytes(), 24, header=12),
        "of OS/2, 1 bit": bmp_of(bits.tobytes(), 1, header=12, table=old[2]),
        "of OS/2, 4 bits": bmp_of(nibbles.tobytes(), 4, header=12, table=old[16]),
        "of OS/2, 8 bits": bmp_of(octets.tobytes(), 8, header=12, table=old[256]),
        "of a later OS/2": bmp_of(padded.tobytes(), 24, header=64),
        "with bytes behind it": bmp_of(padded.tobytes() + bytes(2), 24),
        "32 bits": bmp_of(np.ascontiguousarray(rgba[:, :, [2, 1, 0, 3]]).tobytes(), 32),
    }
    for header in (108, 124):
        found[f"a header of {header}"] = bmp_of(padded.tobytes(), 24, header=header)
        found[f"clear, a header of {header}"] = bmp_of(
            rgba.tobytes(), 32, header=header, compression=3, masks=rgb_first
        )
    for name, masks, order in (
        ("BGRX", (0xFF0000, 0xFF00, 0xFF), [2, 1, 0, 3]),
        ("XBGR", (0xFF000000, 0xFF0000, 0xFF00), [3, 2, 1, 0]),
    ):
        rows = np.ascontiguousarray(rgba[:, :, order]).tobytes()
        found[f"masks of {name}"] = bmp_of(rows, 32, compression=3, masks=masks)
    return {f"BMP {name}": content for name, content in found.items()}


VARIANTS = {**written_by_pillow(), **pngs(), **jpegs(), **gifs(), **bmps()}


# What is refused, and by which rule; of some TensorFlow says what is wrong.


def scans(count):
    """A progressive JPEG with `count` further scans without data."""
    content = encoded(smooth(61, 83), "JPEG", progressive=True)
    scan = content[content.index(b"\xff\xda") :][:14]
    assert scan[2:5] == b"\0\x0c\x03"
    return content[:-2] + scan * count + content[-2:]


NO_PICTURE = "expected the bytes of a JPEG, PNG, GIF or BMP picture"
NO_BMP = "a BMP must have 1, 4, 8, 24 or 32 bits and no compression"
NO_FRAME = "a GIF must have a whole first frame"


def refused():
    numbers = np.random.default_rng(7).integers(0, 16, (H, W)).astype(np.uint8)
    gif = gif_of(numbers, table=bytes(3 * 16))
    rgb = bytes(4 * W * H)
    return {
        "empty": (b"", NO_PICTURE),
        "TIFF": (encoded(smooth(), "TIFF"), NO_PICTURE),
        "WebP": (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(60), NO_PICTURE),
        "BMP cut": (bmp_of(rgb[:-1], 32), "a BMP must be whole"),
        "BMP compressed": (bmp_of(rgb, 8, compression=1, table=bytes(1024)), NO_BMP),
        "BMP of 16 bits": (bmp_of(rgb, 16), NO_BMP),
        "BMP of a JPEG": (bmp_of(rgb, 0, compression=4), NO_BMP),
        "BMP header": (bmp_of(rgb, 32, header=41), NO_BMP),
        "BMP masks": (
            bmp_of(rgb, 32, compression=3, masks=(0x3FF, 0xFFC00, 0x3FF00000)),
            "the channels of a BMP must be whole bytes",
        ),
        "BMP colours": (
            bmp_of(bytes([7]) * 32 * H, 8, table=bytes(16), colours=4),
            r"the colours of a BMP must be in its table.*\[7\] \[4\]",
        ),
        "GIF without a picture": (gif[: 13 + 48] + b";", NO_FRAME),
        "GIF of a header": (gif[:13] + bytes(9), NO_FRAME),
        "GIF cut": (gif[:-9], NO_FRAME),
        "GIF without width": (gif_of(numbers, table=bytes(48)).replace(
            b"," + bytes(4) + struct.pack("<H", W), b"," + bytes(6)), NO_FRAME),
        "GIF of other blocks": (gif_of(numbers, table=bytes(48), before=b"?"), NO_FRAME),
        "GIF of few codes": (gif.replace(
            struct.pack("<HH", W, H) + b"\0", struct.pack("<HH", W, H + 1) + b"\0"), "Invalid GIF"),
        "GIF colours": (gif_of(numbers, table=bytes(12)), "the colours of a GIF must be in"),
        "JPEG cut": (encoded(smooth(), "JPEG")[:-60], "a JPEG must not break off"),
        "JPEG filled with zeros": (
            encoded(smooth(), "JPEG")[:-60] + bytes(60), "a JPEG must not break off"),
        "JPEG header": (encoded(smooth(), "JPEG")[:40], None),
        "JPEG of scans": (scans(200), "a JPEG must have at most 100 scans"),
        "JPEG of segments": (
            b"\xff\xd8" + b"\xff\xfe\0\2" * 2000 + encoded(smooth(), "JPEG")[2:],
            "at most 100 scans and 1,000 segments"),
        "PNG cut": (encoded(smooth(), "PNG")[:-60], "Invalid PNG"),
    }  # fmt: skip


REFUSED = refused()


def too_large():
    """Files of more than 64 megapixels by what they say, with little behind it."""
    numbers, size = np.zeros((1, 1), np.uint8), struct.pack("<HH", 60_000, 60_000)
    gif = gif_of(numbers)
    png = encoded(smooth(), "PNG")
    jpeg = encoded(smooth(), "JPEG")
    place = jpeg.index(struct.pack(">HH", H, W))
    return {
        "PNG": png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:],
        "JPEG": jpeg[:place] + size[1::-1] * 2 + jpeg[place + 4 :],
        "BMP": bmp_of(b"", 24).replace(
            struct.pack("<ii", W, H), struct.pack("<ii", 60_000, -60_000)
        ),
        "BMP of OS/2": bmp_of(b"", 1, header=12).replace(struct.pack("<HH", W, H), size),
        "GIF, its canvas": gif_of(numbers, canvas=(60_000, 60_000)),
        "GIF, its frame": gif[:-1].replace(b"," + bytes(4) + gif[6:10], b"," + bytes(4) + size),
        "GIF, its place": gif_of(numbers, place=(60_000, 60_000)),
    }
