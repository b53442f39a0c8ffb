"""What a file is, told by its content: neither its name nor what its sender says counts.

Signatures: en.wikipedia.org/wiki/List_of_file_signatures; what is not in the table is ``application/octet-stream``.
"""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"%PDF-", "application/pdf"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"F4A ")
_OFFICE = "application/vnd.openxmlformats-officedocument."
_OFFICE_FOLDERS = (
    (b"word/", f"{_OFFICE}wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}presentationml.presentation"),
)


def mime_of(data: bytes, *, sound: bool = False) -> str:
    """Return the type of a file's content. ``sound``: it was sent as one, which containers for both do not tell."""
    for start, mime in _STARTS:
        if data.startswith(start):
            if mime == "video/webm" and sound:
                return "audio/webm"
            return mime
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], UNKNOWN)
    if data[4:8] == b"ftyp":
        return "audio/mp4" if sound or data[8:12] in _SOUND_BRANDS else "video/mp4"
    # A frame of MPEG audio without a tag, and AAC as it is broadcast.
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x18 != 0x08:
        return "audio/aac" if data[1] & 0x06 == 0 else "audio/mpeg"
    if data.startswith(b"PK\x03\x04"):
        ends = data[:65536] + data[-65536:]
        office = b"[Content_Types].xml" in ends
        found = (mime for folder, mime in _OFFICE_FOLDERS if folder in ends and (office or folder == b"word/"))
        return next(found, "application/zip")
    if _is_text(data):
        return "text/plain"
    return UNKNOWN


def _is_text(data: bytes) -> bool:
    """Whether it is text that nobody would run: markup of pages and pictures is none."""
    head = data[:4096]
    if not head or (b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))):
        return False
    low = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if low.startswith((b"<", b"{\\rtf")):
        return False
    return sum(byte < 32 and byte not in b"\t\r\n\x0c\x1b" for byte in head) == 0 or head.startswith(
        (b"\xff\xfe", b"\xfe\xff")
    )


def jpeg_pixels(data: bytes) -> tuple[int, int] | None:
    """Return how wide and how high a JPEG is as its frame says (ITU-T T.81, B.2.2), None where no frame is found."""
    place = 2
    while data.startswith(b"\xff\xd8") and place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        # The frames, without what stands among their numbers: tables of Huffman's and arithmetic codes, an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def measured(mime: str, data: bytes) -> dict[str, list[int]]:
    """Return what a file's row keeps of its size on a screen: ``pixels``, wide and high, for a JPEG; else nothing."""
    found = jpeg_pixels(data) if mime == "image/jpeg" else None
    return {"pixels": list(found)} if found and all(found) else {}
