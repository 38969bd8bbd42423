"""Decoding beside Pillow, squares, what is no picture, augmentation, and all of it exported."""

import io
import struct

import keras
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from picture_files import H, W, encoded, smooth

from kzoo import image
from kzoo.image import ImageAugment, exif, fields
from kzoo.image.decoding import GREY


def with_opacity():
    opacity = np.uint8(255 * (np.mgrid[:H, :W][1] > 11))
    return np.dstack([smooth(), opacity])


PALETTE = PIL.Image.fromarray(smooth()).quantize(17)
LOSSLESS = {
    "png": (encoded(smooth(), "PNG"), smooth()),
    "png, grey": (encoded(smooth()[:, :, 0], "PNG"), smooth()[:, :, :1]),
    "png, palette": (encoded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "png, opacity": (
        encoded(with_opacity(), "PNG"),
        np.where(with_opacity()[:, :, 3:], smooth(), 255),
    ),
    "gif": (encoded(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
    "gif, animated": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[PIL.Image.fromarray(255 - smooth())]),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "bmp": (encoded(smooth(), "BMP"), smooth()),
    "bmp, opacity": (encoded(with_opacity(), "BMP"), smooth()),
    "bmp, palette": (encoded(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB"))),
    "bmp, grey": (encoded(smooth()[:, :, 0], "BMP"), smooth()[:, :, :1]),
}


def turned_jpeg(orientation, order="<", before=b"", entries=1):
    """A JPEG that says in either order of bytes, behind other entries, how it is to be turned."""
    wanted = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    other = struct.pack(order + "HHII", 256, 4, 1, 274)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    directory = struct.pack(order + "H", entries) + other * (entries - 1) + wanted + bytes(4)
    data = b"Exif\x00\x00" + head + directory
    plain = encoded(smooth(), "JPEG", quality=95)
    return plain[:2] + before + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + plain[2:]


COMMENT = b"\xff\xfe\x00\x0a\xff\xe1\x00\x11Exif"  # looks like EXIF for a while


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(("order", "entries", "before"), [("<", 1, b""), (">", 3, COMMENT)])
def test_a_jpeg_is_turned_as_its_exif_data_say(orientation, order, entries, before):
    content = turned_jpeg(orientation, order, before, entries)
    plain = image.decode(encoded(smooth(), "JPEG", quality=95)).numpy()
    shown = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content)))
    pixels = image.decode(content).numpy()
    assert pixels.shape[:2] == shown.size[::-1]
    assert sorted(pixels.ravel()) == sorted(plain.ravel())  # turned and no more
    np.testing.assert_allclose(pixels, shown, atol=4)


def test_exif_data_that_break_off_or_point_nowhere_turn_nothing():
    content = turned_jpeg(6)
    value = content.index(b"Exif") + 24
    assert int(exif.orientation(content)) == int(exif.orientation(content[: value + 2])) == 6
    for end in range(value + 1):
        for rest in (b"", b"\xff" * 40, bytes(40)):
            assert int(exif.orientation(content[:end] + rest)) == 1


def test_only_exif_data_of_the_picture_itself_count_and_only_near_its_start():
    plain, turned = encoded(smooth(), "JPEG"), turned_jpeg(6)
    assert int(exif.orientation(plain + turned[2:])) == 1  # of another one behind it
    assert int(exif.orientation(turned.replace(b"II*", b"XX*"))) == 1
    for length, side in ((65_000, 6), (65_530, 1)):
        other = b"\xff\xe2" + struct.pack(">H", length) + bytes(length - 2)
        assert int(exif.orientation(turned_jpeg(6, before=other))) == side


def test_what_looks_like_a_scan_inside_a_segment_hides_no_exif_data():
    other = b"\xff\xe2" + struct.pack(">H", 60) + b"\xff\xda" * 29  # a colour profile, say
    assert int(exif.orientation(turned_jpeg(6, before=other))) == 6
    endless = b"\xff" * 60_000
    assert int(exif.orientation(turned_jpeg(6, before=endless))) == 1


def test_the_exif_data_of_a_png_may_begin_as_in_a_jpeg():
    tiff = turned_jpeg(6)
    tiff = tiff[tiff.index(b"Exif") + 6 :]
    assert int(exif.orientation_of(tiff)) == int(exif.orientation_of(b"Exif\0\0" + tiff)) == 6


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_loses_nothing_has_the_pixels_that_were_stored(name):
    content, expected = LOSSLESS[name]
    found = image.decode(content)
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (H, W, 3)))


def test_every_opacity_of_every_colour_lies_on_white_within_half_a_step():
    colour, opacity = np.meshgrid(np.arange(256), np.arange(256))
    picture = np.dstack([colour, 255 - colour, colour // 2, opacity]).astype(np.uint8)
    exact = 255 + opacity[:, :, None] / 255 * (picture[:, :, :3] - 255.0)
    found = image.decode(encoded(picture, "PNG")).numpy()
    np.testing.assert_array_equal(found, np.rint(exact))


TRANSPARENT = {  # by a colour that is transparent, and by a palette with opacities
    "RGB": (smooth(), tuple(smooth()[3, 4].tolist())),
    "grey": (smooth()[:, :, 0], int(smooth()[3, 4, 0])),
    "palette": (PALETTE, bytes(range(0, 255, 15))),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_png_without_an_alpha_channel_may_be_transparent_all_the_same(name):
    picture, transparency = TRANSPARENT[name]
    content = encoded(picture, "PNG", transparency=transparency)
    shown = PIL.Image.open(io.BytesIO(content)).convert("RGBA")
    expected = PIL.Image.alpha_composite(PIL.Image.new("RGBA", (W, H), "white"), shown)
    assert (np.asarray(shown)[:, :, 3] < 255).any() and expected != shown
    found = image.decode(content).numpy().astype(int)
    np.testing.assert_allclose(found, np.asarray(expected)[:, :, :3], atol=1)


def test_only_what_may_be_transparent_is_blended(monkeypatch):
    blended = []
    blend = fields.on_white
    monkeypatch.setattr(fields, "on_white", lambda pixels: blended.append(1) or blend(pixels))
    for name, (content, _) in LOSSLESS.items():
        image.decode(content)
        assert len(blended) == (name == "png, opacity"), name
        blended.clear()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_any_colours_looks_as_pillow_shows_it(mode, progressive):
    picture = PIL.Image.fromarray(smooth()).convert(mode)
    content = encoded(picture, "JPEG", quality=95, progressive=progressive)
    expected = np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    difference = np.abs(image.decode(content).numpy() - expected)
    assert difference.mean() < 2 and difference.max() < 20


def test_a_bmp_whose_rows_come_from_the_top_is_the_same_picture():
    rows = smooth()[:, :, ::-1].reshape(H, -1)
    rows = np.pad(rows, [[0, 0], [0, -3 * W % 4]]).tobytes()
    head = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(rows), 0, 54, 40, W, -H, 1, 24, *[0] * 6)
    np.testing.assert_array_equal(image.decode(head + rows), smooth())


@pytest.mark.parametrize(("height", "width"), [(13, 29), (29, 13), (7, 7), (1, 1), (10, 1200)])
def test_a_picture_lies_in_the_middle_of_its_square_with_its_aspect_kept(height, width):
    size = 17
    picture = smooth(height, width)
    square = image.letterbox(picture, size).numpy()
    scale = size / max(height, width)
    inner = [max(round(height * scale), 1), max(round(width * scale), 1)]
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    rows, columns = slice(top, top + inner[0]), slice(left, left + inner[1])
    border = np.ones((size, size), bool)
    border[rows, columns] = False
    assert (square[border] == GREY).all()
    # Pillow, whose bilinear filter is antialiased, works in fixed point.
    expected = PIL.Image.fromarray(picture).resize(inner[::-1], PIL.Image.Resampling.BILINEAR)
    np.testing.assert_allclose(square[rows, columns], np.asarray(expected), atol=1.5)


NO_PICTURES = {
    "wav": tf.audio.encode_wav(tf.zeros((99, 1)), 8000).numpy(),
    "empty": b"",
    "three bytes": b"\xff\xd8\xff",
    "text": b"a picture of a dog, but in words only",
    "truncated png": LOSSLESS["png"][0][:-60],
    "truncated gif": LOSSLESS["gif"][0][:40],
    "truncated bmp": LOSSLESS["bmp"][0][:-60],
    "truncated jpeg": encoded(smooth(), "JPEG")[:-60],
    "truncated jpeg header": encoded(smooth(), "JPEG")[:40],
}


def test_of_a_gif_only_the_first_frame_need_be_whole():
    content, expected = LOSSLESS["gif, animated"]
    second = content.index(b"\x21\xf9\x04")  # of two frames it alone has such an extension
    np.testing.assert_array_equal(image.decode(content[: second + 30]), expected)
    np.testing.assert_array_equal(image.decode(content[: len(content) - 60]), expected)
    with pytest.raises(tf.errors.InvalidArgumentError):
        image.decode(content[: second - 30])


NO_PICTURE = "expected the bytes of a JPEG, PNG, GIF or BMP picture"
RULES = {
    **dict.fromkeys(("wav", "empty", "three bytes", "text"), NO_PICTURE),
    "truncated gif": "a GIF must have a whole first frame",
    "truncated bmp": "a BMP must be whole",
    "truncated jpeg": "a JPEG must not break off",
}  # of what is broken TensorFlow says what


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_whole_picture_is_an_invalid_argument(name):
    with pytest.raises(tf.errors.InvalidArgumentError, match=RULES.get(name)):
        image.decode(NO_PICTURES[name])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "JPEG"])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(kind):
    content = encoded(smooth(), kind)
    image.decode(content, megapixels=H * W / 1e6)
    message = f"must have 1 to {H * W - 1:,} pixels"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        image.decode(content, megapixels=(H * W - 1) / 1e6)
    if kind == "PNG":  # 60,000 x 60,000 pixels by its header, and nothing behind it
        large = content[:16] + struct.pack(">II", 60_000, 60_000) + content[24:]
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have 1 to 64,000,000"):
            image.decode(large)


def test_a_session_decodes_mixed_batches_without_xla(tmp_path):
    contents = [content for content, _ in LOSSLESS.values()] + [encoded(smooth(31, 9), "JPEG")]
    archive = keras.export.ExportArchive()
    archive.track(ImageAugment())

    def serve(image_bytes):
        return {"pixels": image.decode_batch(image_bytes, 19)}

    archive.add_endpoint("serve", serve, [tf.TensorSpec([None], tf.string, name="image_bytes")])
    archive.write_out(str(tmp_path / "1"), verbose=False)
    expected = [image.letterbox(image.decode(content), 19) for content in contents]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "1"))
        signature = graph.signature_def["serve"]
        fetched, fed = signature.outputs["pixels"].name, signature.inputs["image_bytes"].name
        found = session.run(fetched, {fed: contents})
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert session.run(fetched, {fed: []}).shape == (0, 19, 19, 3)
        for name, bad in NO_PICTURES.items():
            message = RULES.get(name)
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                session.run(fetched, {fed: [*contents, bad]})
        large = contents[0][:16] + struct.pack(">II", 60_000, 60_000) + contents[0][24:]
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have 1 to 64,000,000"):
            session.run(fetched, {fed: [large]})
        np.testing.assert_array_equal(session.run(fetched, {fed: contents}), found)


# Augmentation.


def batch(rows=5):
    return np.stack([smooth(seed=seed) for seed in range(rows)]).astype("float32")


def test_without_training_or_with_nothing_to_do_pictures_stay_as_they_are():
    np.testing.assert_array_equal(ImageAugment()(batch()), batch())
    still = ImageAugment(degrees=0, zoom=0, shift=0, light=0)
    np.testing.assert_allclose(still(batch(), training=True), batch(), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_light_changes_in_every_dtype_as_it_does_in_float32(dtype):
    pixels = np.round(batch())
    expected = ImageAugment(seed=7)(tf.cast(pixels, tf.float32), training=True)
    keras.config.set_dtype_policy("float32" if dtype == "uint8" else f"mixed_{dtype}")
    try:
        found = ImageAugment(seed=7)(tf.cast(pixels, dtype), training=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == dtype
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=1.01)


def test_mirrored_pictures_are_mirrored_and_about_half_of_them_are():
    augment = ImageAugment(degrees=0, zoom=0, shift=0, light=0, mirror=True, seed=3)
    pictures = np.repeat(batch(1), 64, 0)
    found = augment(pictures, training=True).numpy()
    mirrored = np.abs(found - pictures[:, :, ::-1]).max((1, 2, 3)) < 1e-3
    same = np.abs(found - pictures).max((1, 2, 3)) < 1e-3
    assert (mirrored ^ same).all() and 20 < mirrored.sum() < 44


def test_light_changes_brightness_and_contrast_within_its_bounds():
    pictures = 127 + batch(32) / 20  # too pale to be clipped
    found = ImageAugment(0, 0, 0, light=0.3, seed=5)(pictures, training=True).numpy()
    contrast = found.std((1, 2, 3)) / pictures.std((1, 2, 3))
    brightness = (found.mean((1, 2, 3)) - pictures.mean((1, 2, 3))) / 255
    for value, middle in ((contrast, 1), (brightness, 0)):
        assert (np.abs(value - middle) < 0.3 + 1e-4).all() and value.std() > 0.1


def test_shapes_are_turned_zoomed_and_moved_about_the_centre_within_their_bounds():
    size = 63
    down, right = np.mgrid[:size, :size] - 31.0
    disc = 127 + 100.0 * ((down**2 + right**2 < 12**2)[None, :, :, None]) * np.ones((40, 1, 1, 3))
    found = ImageAugment(0, 0, shift=0.2, light=0, seed=1)(disc, training=True).numpy() - 127
    mass = found.sum((1, 2, 3))
    centres = [(found.sum(3) * axis).sum((1, 2)) / found.sum((1, 2, 3)) for axis in (down, right)]
    assert np.abs(centres).max() < 0.2 * size + 0.1 and np.std(centres) > 5
    zoomed = ImageAugment(0, zoom=0.4, shift=0, light=0, seed=1)(disc, training=True).numpy() - 127
    scale = np.sqrt(zoomed.sum((1, 2, 3)) / mass.mean())
    assert 0.58 < scale.min() < 0.8 and 1.2 < scale.max() < 1.42
    bar = 127 + 100.0 * ((np.abs(down) < 3) & (np.abs(right) < 20))[None, :, :, None]
    bar = bar * np.ones((40, 1, 1, 3))
    turned = ImageAugment(30, 0, 0, light=0, seed=1)(bar, training=True).numpy()[..., 0] - 127
    moments = [(turned * product).sum((1, 2)) for product in (right**2 - down**2, 2 * right * down)]
    angles = np.degrees(np.arctan2(moments[1], moments[0]) / 2)
    assert 20 < np.abs(angles).max() < 30.5 and angles.min() < -10 < 10 < angles.max()


def test_the_same_seed_makes_the_same_pictures_and_the_config_makes_the_layer():
    augment = ImageAugment(degrees=9, mirror=True, seed=11)
    again = ImageAugment.from_config(augment.get_config())
    found = augment(batch(), training=True)
    np.testing.assert_array_equal(again(batch(), training=True), found)
    assert np.abs(augment(batch(), training=True) - found).max() > 1


@pytest.mark.parametrize("wrong", [{"degrees": -1}, {"zoom": 1}, {"shift": -0.1}, {"light": 2}])
def test_a_share_outside_its_bounds_is_refused(wrong):
    with pytest.raises(ValueError, match="`zoom`, `shift` and `light` lie in"):
        ImageAugment(**wrong)
