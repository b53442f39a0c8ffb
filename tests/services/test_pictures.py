"""Pictures from strangers: opened in a process of their own, made anew, and refused where they are weapons."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from services import pictures, sniffing
from services.pictures import BadPicture

PIXELS, SIDE = 40_000_000, 512
SECRET = b"KANAREYKA"


def encoded(kind: str = "PNG", size: tuple[int, int] = (60, 30), color: str = "red", **more: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind, **more)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + chunk(b"IEND", b"")
    )


def animated(frames: int) -> bytes:
    out = io.BytesIO()
    pictures_ = [Image.new("RGB", (8, 8), (n % 256, n // 256, 0)) for n in range(frames)]
    pictures_[0].save(out, "GIF", save_all=True, append_images=pictures_[1:])
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_picture_is_made_anew(kind: str) -> None:
    made = await pictures.anew(encoded(kind), pixels=PIXELS, side=SIDE)
    with Image.open(io.BytesIO(made)) as seen:
        assert (seen.format, seen.size) == ("JPEG", (60, 30))
    assert sniffing.mime_of(encoded(kind)) == f"image/{kind.lower()}"


async def test_upright_small_and_without_what_the_camera_wrote() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, SECRET.decode()
    made = await pictures.anew(
        encoded("JPEG", (2000, 1000), exif=exif) + b"PK\x03\x04" + SECRET, pixels=PIXELS, side=SIDE
    )
    with Image.open(io.BytesIO(made)) as seen:
        assert seen.size == (256, 512) and not seen.getexif()
    assert SECRET not in made


async def test_what_is_seen_through_stands_on_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(await pictures.anew(out.getvalue(), pixels=PIXELS, side=SIDE))) as seen:
        assert seen.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


async def test_of_an_animation_the_first_picture() -> None:
    with Image.open(io.BytesIO(await pictures.anew(animated(2000), pixels=PIXELS, side=SIDE))) as seen:
        assert getattr(seen, "n_frames", 1) == 1


@pytest.mark.parametrize(
    "data",
    [
        bomb(100_000, 100_000),
        bomb(20_000, 20_000),
        bomb(6000, 6000),
        encoded()[:40],
        b"",
        b"\xff\xd8\xff\xd9",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"GIF89a<script>alert(1)</script>",
        b"%PDF-1.4",
    ],
    ids=["huge", "large", "short of data", "cut", "empty", "nothing in it", "svg", "a page in disguise", "pdf"],
)
async def test_refused(data: bytes) -> None:
    with pytest.raises(BadPicture):
        await pictures.anew(data, pixels=PIXELS, side=SIDE)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"OggS\0\2", "audio/ogg"),
        (b"ID3\4", "audio/mpeg"),
        (b"\xff\xfb\x90\x44", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"%PDF-1.7\n", "application/pdf"),
        ("Narx: 12 000 so‘m".encode(), "text/plain"),
        (b"<!doctype html><script>", "application/octet-stream"),
        (b"<svg>", "application/octet-stream"),
        (b"MZ\x90\0", "application/octet-stream"),
        (b"PK\x03\x04word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"PK\x03\x04x", "application/zip"),
        (b"", "application/octet-stream"),
    ],
)
def test_the_type_is_in_the_content(data: bytes, mime: str) -> None:
    assert sniffing.mime_of(data) == mime
