"""WAV files as other programs write them: all that libsndfile can, what ffmpeg does, by hand.

`TAKEN` holds (bytes, samples that are expected, channels averaged), `REFUSED` (bytes, what is
said), each by the name of its kind.
"""

import io
import struct

import numpy as np
import soundfile

STEPS = 53
TWO = np.random.default_rng(0).uniform(-0.9, 0.9, (STEPS, 2))
GUID = b"\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
UNKNOWN = 0xFFFFFFFF


def written(samples, rate=16_000, subtype="PCM_16", container="WAV", endian="FILE"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container, endian=endian)
    return file.getvalue()


def read(contents):
    """What libsndfile makes of it."""
    return soundfile.read(io.BytesIO(contents), dtype="float32", always_2d=True)[0].mean(1)


def chunk(name, content, size=None):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def fmt(tag=1, channels=1, rate=16_000, bits=16, block=None, extension=b""):
    block = channels * (-(-bits // 8)) if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extension


def extensible(tag=1, channels=1, bits=16, valid=None, guid=GUID, block=None):
    extension = struct.pack("<HHII", 22, bits if valid is None else valid, 0, tag) + guid
    return fmt(0xFFFE, channels, bits=bits, block=block, extension=extension)


def riff(*chunks, size=None, magic=b"RIFF"):
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(content) if size is None else size) + content


def ds64(data, whole):
    return chunk(b"ds64", struct.pack("<QQQI", whole, data, data // 2, 0))


PCM = (TWO[:, 0] * 2**15).astype("<i2")
MEANT = (PCM / 2**15).astype(np.float32)
LAW = np.arange(256, dtype=np.uint8)
ISFT = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf60.16.100\0"))  # what ffmpeg writes
SOUND = chunk(b"data", PCM.tobytes())


def by_libsndfile():
    """Every container, subtype and byte order, 1, 2 and 6 channels, two rates."""
    for container, endians in {"WAV": "LITTLE BIG", "WAVEX": "LITTLE", "RF64": "LITTLE"}.items():
        for subtype in ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]:
            for endian in endians.split():
                for channels, rate in ((1, 8000), (2, 44_100), (6, 16_000)):
                    samples = np.tile(TWO, (1, 3))[:, :channels] * np.linspace(1, 0.5, channels)
                    contents = written(samples, rate, subtype, container, endian)
                    name = f"{container} {subtype} {endian} {channels} channels"
                    yield name, (contents, read(contents))


def by_ffmpeg():
    """`ffmpeg -i in out.wav` with each encoder, and through a pipe, where sizes are unknown."""
    fact = chunk(b"fact", struct.pack("<I", STEPS))
    for name, tag, bits, kind, values in (
        ("pcm_u8", 1, 8, "u1", TWO[:, 0] * 127 + 128),
        ("pcm_s16le", 1, 16, "<i2", TWO[:, 0] * 2**15),
        ("pcm_s32le", 1, 32, "<i4", TWO[:, 0] * 2**31),
        ("pcm_f32le", 3, 32, "<f4", TWO[:, 0]),
        ("pcm_f64le", 3, 64, "<f8", TWO[:, 0]),
    ):
        data = values.astype(kind).tobytes()
        form = chunk(b"fmt ", fmt(tag, bits=bits, extension=b"\0\0" if tag == 3 else b""))
        more = fact if tag == 3 else b""
        whole = riff(form, more, ISFT, chunk(b"data", data))
        yield f"ffmpeg {name}", (whole, read(whole))
        piped = riff(form, more, ISFT, chunk(b"data", b"", UNKNOWN) + data, size=UNKNOWN)
        yield f"ffmpeg {name} piped", (piped, read(whole))
    for name, tag in (("pcm_alaw", 6), ("pcm_mulaw", 7)):
        form = chunk(b"fmt ", fmt(tag, rate=8000, bits=8, extension=b"\0\0"))
        whole = riff(form, chunk(b"fact", struct.pack("<I", 256)), ISFT, chunk(b"data", bytes(LAW)))
        yield f"ffmpeg {name}", (whole, read(whole))
    wide = extensible(channels=6, bits=24)
    whole = riff(chunk(b"fmt ", wide), ISFT, chunk(b"data", bytes(range(18)) * 3))
    yield "ffmpeg pcm_s24le, 6 channels", (whole, read(whole))
    form = chunk(b"fmt ", fmt())
    auto = riff(chunk(b"JUNK", bytes(28)), form, ISFT, SOUND)
    yield "ffmpeg -rf64 auto", (auto, MEANT)
    for name, sizes in (("always", (2 * STEPS, 98 + 2 * STEPS)), ("always, piped", (0, 0))):
        sound = chunk(b"data", PCM.tobytes(), UNKNOWN)
        rest = () if sizes == (0, 0) else (ISFT,)  # not sound: the size of the sound is read
        contents = riff(ds64(*sizes), form, sound, *rest, size=UNKNOWN, magic=b"RF64")
        yield f"ffmpeg -rf64 {name}", (contents, MEANT)
    yield "BW64", (contents.replace(b"RF64", b"BW64"), MEANT)


def odd_ones():
    """Headers that are unusual or not quite true."""
    form, sound = chunk(b"fmt ", fmt()), PCM.tobytes()
    for size, whole in (
        *((0, 0), (0, 36), (0, UNKNOWN), (UNKNOWN, UNKNOWN), (UNKNOWN - 36, UNKNOWN)),
        *((0x7FFFFFFF, 0x7FFFFFFF), (0x7FFFF000, 0x7FFFF024), (0x80000000, 0), (1000, 1036)),
    ):
        contents = riff(form, chunk(b"data", sound, size), size=whole)
        yield f"sizes {size} and {whole}", (contents, MEANT)
    yield "cut within a sample", (riff(form, SOUND)[:-1], MEANT[:-1])
    contents = riff(chunk(b"bext", bytes(603)), form, chunk(b"fact", bytes(4)), SOUND, ISFT)
    yield "chunks before and after", (contents, MEANT)
    picture = riff(form, chunk(b"id3 ", bytes(70_001)), SOUND)
    yield "a long chunk before the sound", (picture, MEANT)
    for block in (0, 1):
        contents = riff(chunk(b"fmt ", fmt(block=block)), SOUND)
        yield f"16 bits in a block of {block}", (contents, MEANT)
    contents = riff(chunk(b"fmt ", fmt(bits=12)), chunk(b"data", (PCM & ~15).tobytes()))
    yield "12 bits in 16", (contents, (PCM & ~15) / 2**15)
    wide = (PCM.astype("<i4") << 16).view(np.uint8).reshape(-1, 4)
    three = chunk(b"data", wide[:, 1:].tobytes())
    for name, header in (("20 bits in 24", fmt(bits=20)), ("20 valid", extensible(1, 1, 24, 20))):
        yield name, (riff(chunk(b"fmt ", header), three), MEANT)
    four = chunk(b"data", wide.tobytes())
    for name, header in (
        ("24 bits in 32", fmt(bits=24, block=4)),
        ("24 bits in 32, extensible", extensible(bits=24, block=4)),
        ("24 valid bits in 32", extensible(1, 1, 32, 24)),
    ):
        yield name, (riff(chunk(b"fmt ", header), four), MEANT)
    for name, tag in (("A-law", 6), ("mu-law", 7)):
        contents = riff(chunk(b"fmt ", fmt(tag, bits=0, block=1)), chunk(b"data", bytes(LAW)))
        yield f"{name} of 0 bits", (contents, read(contents))
    ambisonic = b"\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0"
    yield "B format", (riff(chunk(b"fmt ", extensible(guid=ambisonic)), SOUND), MEANT)


def loud_floats():
    """Floats outside [-1, 1]: what is too large is clipped where it is the exception."""
    for bits, kind in ((32, "<f4"), (64, "<f8")):
        form = chunk(b"fmt ", fmt(3, bits=bits, extension=b"\0\0"))
        values = np.tile(TWO[:, 0], 4) / 0.9
        for peak in (1.5, 3.9):
            loud = (peak * values).astype(kind)
            contents = riff(form, chunk(b"data", loud.tobytes()))
            yield f"floats of {bits} bits, peak {peak}", (contents, np.clip(loud, -1, 1))
        broken = values.astype(kind)
        broken[[3, 50, 70, 90]] = np.nan, np.inf, -np.inf, 1e29
        broken[110] = 19_660
        meant = np.clip(np.nan_to_num(broken, nan=0), -1, 1)
        yield f"broken floats of {bits} bits", (riff(form, chunk(b"data", broken.tobytes())), meant)


TAKEN = {**dict(by_libsndfile()), **dict(by_ffmpeg()), **dict(odd_ones()), **dict(loud_floats())}


def refused():
    for subtype in ("IMA_ADPCM", "MS_ADPCM"):
        yield subtype, (written(TWO[:, 0], subtype=subtype), "expected PCM")
    for name, tag, bits in (
        ("GSM", 0x31, 0), ("MP3", 0x55, 0), ("G.726", 0x45, 4), ("pcm_s64le", 1, 64),
        ("half floats", 3, 16), ("no format", 0, 16),
    ):  # fmt: skip
        form = chunk(b"fmt ", fmt(tag, bits=bits, block=max(bits // 8, 1), extension=b"\0\0"))
        yield name, (riff(form, SOUND), f"expected PCM .*{tag}.*{bits}")
    for name, header in (
        ("an unknown subformat", extensible(guid=bytes(12))),
        ("an extensible format without its extension", fmt(0xFFFE)),
    ):
        yield name, (riff(chunk(b"fmt ", header), SOUND), "expected PCM")
    four = chunk(b"data", TWO[:, 0].astype("<f4").tobytes())
    yield "16 bits in 24", (riff(chunk(b"fmt ", fmt(block=3)), SOUND), "zeros in")
    yield "Cool Edit's floats", (riff(chunk(b"fmt ", fmt(bits=24, block=4)), four), "zeros in")
    yield "no channels", (riff(chunk(b"fmt ", fmt(channels=0)), SOUND), "expected channels")
    yield "500 Hz", (riff(chunk(b"fmt ", fmt(rate=500)), SOUND), "a rate of 1000 to 384000")
    yield "a short format", (riff(chunk(b"fmt ", fmt()[:14]), SOUND), "a fmt chunk of 16 bytes")
    yield "the sound first", (riff(SOUND, chunk(b"fmt ", fmt())), "a fmt chunk of 16 bytes")
    yield "no sound", (riff(chunk(b"fmt ", fmt()), ISFT), "expected a data chunk")
    yield "another RIFF", (riff(b"").replace(b"WAVE", b"AVI "), "the bytes of a WAV file")
    for peak in (19_660, 32_768, 2**31, 127, 1e29):
        for bits, kind in ((32, "<f4"), (64, "<f8")):
            values = np.concatenate([np.zeros(500), peak * TWO[:, 0]]).astype(kind)
            form = chunk(b"fmt ", fmt(3, bits=bits, extension=b"\0\0"))
            contents = riff(form, chunk(b"data", values.tobytes()))
            yield f"floats of {bits} bits, peak {peak:g}", (contents, "floats in .*the peak")


REFUSED = dict(refused())
