"""The program that opens one picture in a process of its own: ``python -I pictures_child.py --memory-mib N …``.

The file comes on stdin. On stdout goes one line ``ok`` or ``error CODE``, and after ``ok`` a new JPEG: turned as its camera
said, without anything else that the old file held, of an animation the first picture only. The limits are set before anything
is decoded: what the file does can cost no more than this process.
"""

from __future__ import annotations

import argparse
import io
import resource
import signal
import sys
from collections.abc import Sequence

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_MIB = 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Decode and write anew; return 0 also for a picture that cannot be opened, for that is a result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mib", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--side", type=int, required=True)
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (options.memory_mib * _MIB, options.memory_mib * _MIB))
    resource.setrlimit(resource.RLIMIT_CPU, (options.seconds, options.seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(options.seconds + 5)
    try:
        answer = b"ok\n" + _anew(sys.stdin.buffer.read(), options.pixels, options.side)
    except _TooManyPixels:
        answer = b"error pixels\n"
    except MemoryError:
        answer = b"error memory\n"
    except Exception as error:  # noqa: BLE001 - the last boundary: whatever a file provokes is a result
        answer = f"error {type(error).__name__}\n".encode()
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return 0


class _TooManyPixels(Exception):
    """More than may be decoded."""


def _anew(data: bytes, pixels: int, side: int) -> bytes:
    from PIL import Image, ImageOps

    # The file's own head says how large it is; nothing has been decoded by then.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(data), formats=FORMATS) as found:
        if found.width * found.height > pixels:
            raise _TooManyPixels
        found.draft("RGB", (side, side))
        found.load()
        picture = ImageOps.exif_transpose(found)
        picture.thumbnail((side, side))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            with_alpha = picture.convert("RGBA")
            flat = Image.new("RGB", with_alpha.size, "white")
            flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
        else:
            flat = picture.convert("RGB")
        # A picture of its own: what else the file said does not come along.
        clean = Image.new("RGB", flat.size)
        clean.paste(flat)
        out = io.BytesIO()
        clean.save(out, "JPEG", quality=85)
        return out.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
