"""What each kind of image file becomes, and what a folder of them leaves out: real files that the tests write."""

import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neulite_sim import room
from neulite_sim.data import cinic10, image_folder, mini_imagenet
from neulite_sim.data.image_files import READABLE, Sentences, class_files
from neulite_sim.data.pictures import FIRST_PICTURE, TRANSPARENT, TURNED, WITHOUT_PROFILE, PictureReader
from neulite_sim.errors import DataNotFoundError, ScenarioError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8)).astype(np.uint16)
OPAQUE = np.full((6, 8), 255, np.uint8)
CLEAR = np.where(np.arange(8) < 4, 0, 255).astype(np.uint8) * np.ones((6, 1), np.uint8)


def saved(picture, form, **options):
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def read(folder, content, channels=3, name="a.png"):
    """Return the pixels of a file as `[H, W]` or `[H, W, 3]`, and what was said of it."""
    file = folder / name
    file.write_bytes(content)
    reader, sentences = PictureReader("test", channels=channels, side=None), Sentences("test")
    image = reader.read([file])[0].transpose(1, 2, 0)
    reader.tell(sentences)
    return (image[..., 0] if channels == 1 else image), sentences.told


def png(width, height, *, bits, kind, rows, extra=b""):
    """A PNG of any depth and colour type, from its specification: ISO/IEC 15948, chapter 11."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


@pytest.mark.parametrize("suffix", READABLE)
def test_every_suffix_that_counts_as_an_image_is_read(tmp_path, suffix):
    form = Image.registered_extensions()[suffix]
    mode = "1" if suffix == ".pbm" else "L"
    found, told = read(tmp_path, saved(Image.new(mode, (8, 6), 255), form), channels=1, name=f"a{suffix}")
    np.testing.assert_array_equal(found, np.full((6, 8), 255))
    assert told == []


def test_the_content_says_what_a_file_is_not_its_name(tmp_path):
    found, _ = read(tmp_path, saved(Image.fromarray(COLOURS), "BMP"), name="a.png")
    np.testing.assert_array_equal(found, COLOURS)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bit_grey_the_upper_8_bits_are_taken(tmp_path, form, channels):
    options = {"irreversible": False} if form == "JPEG2000" else {}
    found, told = read(tmp_path, saved(Image.fromarray(DEEP), form, **options), channels)
    expected = DEEP >> 8 if channels == 1 else np.repeat((DEEP >> 8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(found, expected)
    assert told == []


def test_16_bit_levels_of_other_files_are_taken_alike(tmp_path):
    values = np.array([[0, 255], [256, 40000], [65535, 1000]], np.uint16)
    rows = [row.astype(">u2").tobytes() for row in values]
    colours = [np.repeat(row, 3).astype(">u2").tobytes() for row in values]
    pgm = b"P5 2 3 65535\n" + b"".join(rows)
    for content in (png(2, 3, bits=16, kind=0, rows=rows), png(2, 3, bits=16, kind=2, rows=colours), pgm):
        np.testing.assert_array_equal(read(tmp_path, content, 1)[0], values >> 8)


@pytest.mark.parametrize(("bits", "white"), [(1, 1), (2, 3), (4, 15)])
def test_few_bits_span_black_to_white(tmp_path, bits, white):
    row = bytes([white << (8 - bits)])  # one white pixel, then black ones
    found, _ = read(tmp_path, png(2, 2, bits=bits, kind=0, rows=[row, row]), 1)
    assert found.tolist() == [[255, 0]] * 2


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({258: (16,), 262: 0}, "16-bit grey in which 0 is white is not read"),
        ({258: (32,), 339: 3}, "its mode F is not read, only 8 or 16 bits per channel"),
        ({258: (32,), 339: 2}, "its mode I is not read"),
        ({258: (16,), 339: 2}, "its mode I is not read"),
    ],
)
def test_values_without_a_known_range_are_refused_by_name(tmp_path, tags, why):
    found = {256: 2, 257: 2, 259: 1, 262: 1, 277: 1, 278: 2, 339: 1, **tags}
    size = 4 * found[258][0] // 8
    found |= {273: 8 + 2 + 12 * 11 + 4, 279: size}
    found[258] = found[258][0]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(found.items()))
    content = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(found)) + entries + b"\0" * 4
    content += b"\0" * (found[273] - len(content)) + b"\1" * size
    with pytest.raises(DataNotFoundError, match=rf"^test: .*a\.png cannot be read as an image \({why}"):
        read(tmp_path, content)


def test_other_modes_are_refused_by_name(tmp_path):
    lab = Image.new("LAB", (8, 6))
    with pytest.raises(DataNotFoundError, match="its mode LAB is not read"):
        read(tmp_path, saved(lab, "TIFF"))
    clear = png(
        1, 1, bits=16, kind=0, rows=[b"\0\0"], extra=b"\0\0\0\2tRNS\0\0" + struct.pack(">I", zlib.crc32(b"tRNS\0\0"))
    )
    with pytest.raises(DataNotFoundError, match="16-bit grey with a transparent level is not read"):
        read(tmp_path, clear)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_white(tmp_path, form, channels):
    grey, colours = Image.merge("LA", [Image.fromarray(plane) for plane in (GREY, CLEAR)]), COLOURS
    expected = np.where(CLEAR, GREY, 255)
    found, told = read(tmp_path, saved(grey, form), channels)
    np.testing.assert_array_equal(found if channels == 1 else found[..., 1], expected)
    assert told == [f"test: 1 of 1 images {TRANSPARENT}"]
    layered = Image.fromarray(np.dstack([colours, CLEAR]))
    found, told = read(tmp_path, saved(layered, form))
    np.testing.assert_array_equal(found, np.where(CLEAR[..., None], colours, 255))
    assert len(told) == 1


def test_a_transparent_entry_of_a_palette_is_white(tmp_path):
    picture = Image.fromarray(GREY % 4).convert("P")
    picture.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.info["transparency"] = 2
    found, told = read(tmp_path, saved(picture, "PNG", transparency=2))
    palette = np.array([[0, 0, 0], [10, 20, 30], [255, 255, 255], [70, 80, 90]])
    np.testing.assert_array_equal(found, palette[GREY % 4])
    assert told == [f"test: 1 of 1 images {TRANSPARENT}"]


def test_a_layer_of_transparency_that_hides_nothing_changes_nothing(tmp_path):
    for picture, expected in (
        (Image.fromarray(np.dstack([COLOURS, OPAQUE])), COLOURS),
        (Image.merge("LA", [Image.fromarray(plane) for plane in (GREY, OPAQUE)]), np.dstack([GREY] * 3)),
    ):
        found, told = read(tmp_path, saved(picture, "PNG"))
        np.testing.assert_array_equal(found, expected)
        assert told == []


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 255, 0))
    for form in ("PNG", "GIF", "TIFF", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        found, told = read(tmp_path, saved(first, form, save_all=True, append_images=[second], **options))
        np.testing.assert_array_equal(found, np.asarray(first))
        assert told == [f"test: 1 of 1 images {FIRST_PICTURE}"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_as_their_exif_says(tmp_path, orientation):
    # What turns the stored picture upright: Exif 2.3, table 4.
    turns = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.transpose(1, 0, 2),
             lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).transpose(1, 0, 2), np.rot90]  # fmt: skip
    found, told = read(tmp_path, saved(Image.fromarray(COLOURS), "PNG", exif=exif(orientation)))
    np.testing.assert_array_equal(found, turns[orientation - 1](COLOURS))
    assert told == ([] if orientation == 1 else [f"test: 1 of 1 images {TURNED}"])


def test_16_bit_pictures_are_turned_too(tmp_path):
    found, _ = read(tmp_path, saved(Image.fromarray(DEEP), "PNG", exif=exif(3)), 1)
    np.testing.assert_array_equal(found, np.rot90(DEEP >> 8, 2))


def test_colours_for_print_are_read_without_their_profile(tmp_path):
    found, told = read(tmp_path, saved(Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "TIFF"))
    np.testing.assert_array_equal(found, np.broadcast_to([255, 0, 0], (6, 8, 3)))
    assert told == [f"test: 1 of 1 images {WITHOUT_PROFILE}"]


def test_a_header_that_promises_too_much_is_refused_before_it_is_believed(tmp_path):
    for width, height in ((50_000, 50_000), (2**31 - 1, 2**31 - 1), (2**25 + 1, 1)):
        with pytest.raises(DataNotFoundError, match=r"a\.png cannot be read as an image \(") as refused:
            read(tmp_path, png(width, height, bits=8, kind=0, rows=[b"\0"]))
    assert "it has 33554433x1 pixels; at most 33,554,432 are read" in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_in_words_or_read(tmp_path_factory, form, data):
    content = bytearray(saved(Image.fromarray(COLOURS), form))
    for _ in range(data.draw(st.integers(1, 4))):
        # Damage is worst in the header, so half of it is put there.
        place = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(content) - 1))) % len(content)
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    folder = tmp_path_factory.mktemp("damaged")
    try:
        found, _ = read(folder, bytes(content))
    except DataNotFoundError as refused:
        assert re.match(r"test: .*a\.png cannot be read as an image \(", str(refused))  # noqa: PT017
    else:
        assert found.dtype == np.uint8


def test_what_is_no_regular_file_is_refused_by_name(tmp_path):
    reader = PictureReader("test", channels=3, side=None)
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").symlink_to("c.png")
    for name, why in (("a", "is not a regular file"), ("b", "is not a regular file"), ("c", "Too many levels of symb")):
        with pytest.raises(DataNotFoundError, match=rf"{name}\.png cannot be read as an image \({why}"):
            reader.read([tmp_path / f"{name}.png"])


def grey(file, size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(file)


@pytest.fixture
def root(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            grey(tmp_path / part / name / "0.png")
    return tmp_path


def load(root, module=image_folder, **options):
    return module.build(module.COMPONENT.options(root=str(root), **options), seed=0)


def test_nothing_is_said_where_nothing_is_left_out(root):
    assert load(root).left_out == ()


def test_files_that_are_no_images_are_counted_in_one_sentence(root):
    train = root / "train"
    for number in range(3):
        (train / "cat" / f"{number}.xyz").write_text("")
    assert load(root).left_out == (f"image-folder: 3 of 5 files in {train} ignored: .xyz",)
    (train / "dog" / "README").write_text("")
    (train / "list.txt").write_text("")
    what = "3 .xyz, 1 without a suffix, 1 outside of a class folder"
    assert load(root).left_out == (f"image-folder: 5 of 7 files in {train} ignored: {what}",)


def test_formats_that_this_pillow_cannot_read_are_counted(root, monkeypatch):
    monkeypatch.setattr("neulite_sim.data.image_files.READABLE", (".png",))
    for number in range(20):
        Image.new("L", (8, 8)).save(root / "train" / "cat" / f"{number}.webp")
    assert load(root).left_out == (f"image-folder: 20 of 22 files in {root / 'train'} ignored: .webp",)


def test_hidden_folders_are_no_classes(root):
    for name in (".ipynb_checkpoints", "__MACOSX"):
        grey(root / "train" / name / "0.png")
    grey(root / "train" / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    grey(root / "train" / "cat" / "._0.png")
    dataset = load(root)
    assert (dataset.num_classes, len(dataset.train_labels)) == (2, 2)
    hidden = "._0.png, .ipynb_checkpoints, __MACOSX"
    assert dataset.left_out == (f"image-folder: hidden files and folders in {root / 'train'} left out: {hidden}",)


def test_folders_within_a_class_belong_to_it_wherever_links_lead(root, tmp_path):
    grey(root / "train" / "cat" / "a" / "b" / "1.png")
    grey(tmp_path / "elsewhere" / "2.png")
    (root / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "cat" / "a" / "round").symlink_to(root / "train" / "cat")
    found = class_files("test", root / "train", "")
    assert [str(file.relative_to(root / "train" / "cat")) for file in found["cat"]] == [
        "0.png", "a/b/1.png", "linked/2.png",
    ]  # fmt: skip


def test_an_empty_class_is_said_with_the_numbers_of_the_others(root):
    for part in ("train", "test"):
        (root / part / "bird").mkdir()
    dataset = load(root)
    assert (dataset.num_classes, dataset.train_labels.tolist()) == (2, [0, 1])
    assert dataset.left_out == (
        f"image-folder: {root / 'train'} has no image of bird",
        f"image-folder: {root / 'test'} has no image of bird",
        "image-folder: classes are numbered without the empty ones: cat, dog are 0 to 1",
    )


def test_classes_of_train_and_test_are_the_same(root):
    grey(root / "train" / "emu" / "0.png")
    with pytest.raises(DataNotFoundError, match=r"train has classes that .*test has no images of: emu; remove them"):
        load(root)
    (root / "test" / "emu").mkdir()
    assert load(root).left_out == (f"image-folder: {root / 'test'} has no image of emu",)
    (root / "train" / "emu" / "0.png").rename(root / "test" / "emu" / "0.png")
    with pytest.raises(DataNotFoundError, match=r"test has classes that .*train has no images of: emu; remove them"):
        load(root)


def test_one_class_is_refused(root):
    for part in ("train", "test"):
        (root / part / "dog" / "0.png").unlink()
        (root / part / "dog").rmdir()
    with pytest.raises(DataNotFoundError, match=r"train has one class, cat; a classifier needs two, a folder each"):
        load(root)


def test_what_lies_beside_the_parts_is_said(root):
    grey(root / "valid" / "cat" / "0.png")
    assert load(root).left_out == (
        f"image-folder: {root} holds more than train and test, which is not looked at: valid",
    )


def test_cinic10_and_mini_imagenet_say_what_they_do_not_look_at(tmp_path):
    for part in ("train", "test"):
        for name in (*cinic10.CLASSES, "zebra"):
            grey(tmp_path / "cinic" / part / name / "0.png")
        (tmp_path / "cinic" / part / "cat" / "0.txt").write_text("")
    train, test = tmp_path / "cinic" / "train", tmp_path / "cinic" / "test"
    other = "has folders that are no class, which are not looked at: zebra"
    assert load(tmp_path / "cinic", cinic10).left_out == tuple(
        f"cinic10: {sentence}" for part in (train, test)
        for sentence in (f"1 of 12 files in {part} ignored: .txt", f"{part} {other}")
    )  # fmt: skip
    for label in range(100):
        for number in range(6):
            grey(tmp_path / "mini" / "train" / f"n{label:08d}" / f"{number}.png", size=(4, 4))
    grey(tmp_path / "mini" / "n00000001" / "0.png")
    what = f"{tmp_path / 'mini'} holds more than train, val and test, which is not looked at: n00000001"
    assert load(tmp_path / "mini", mini_imagenet, image_size=4).left_out == (f"mini-imagenet: {what}",)


def test_images_that_no_memory_holds_are_refused_with_their_size(root, monkeypatch):
    monkeypatch.setattr(room, "ALWAYS_THERE_BYTES", 0)
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 383)
    message = (
        "data.image_size: needs about 384 B for 2 images of 8x8, 383 B are free; set data.image_size to a smaller side"
    )
    with pytest.raises(ScenarioError, match=message):
        load(root)


@pytest.mark.parametrize("name", ["train", "train/cat"])
def test_a_folder_that_cannot_be_read_is_named(root, name, monkeypatch):
    closed, real = root / name, os.scandir

    def scandir(place):
        if str(place) == str(closed):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    def listdir(place):
        with scandir(place) as found:
            return [entry.name for entry in found]

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DataNotFoundError, match=rf"image-folder: {re.escape(str(closed))} cannot be read \(Permission"):
        load(root)
