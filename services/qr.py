"""QR codes of addresses, to show and to print."""

from __future__ import annotations

import io

import segno

_DARK, _LIGHT = "#111111", "#ffffff"


def svg(address: str) -> bytes:
    """Return the code as SVG without inline styles: the pages' content security policy refuses them."""
    out = io.BytesIO()
    code = segno.make(address, error="m", micro=False)
    code.save(out, kind="svg", xmldecl=False, svgns=True, border=2, dark=_DARK, light=_LIGHT, omitsize=True)
    return out.getvalue()


def inline(address: str) -> str:
    """Return the code as an address that holds the picture itself: for what no other page may show."""
    code = segno.make(address, error="m", micro=False)
    return str(code.svg_data_uri(border=2, dark=_DARK, light=_LIGHT, omitsize=True))


def png(address: str) -> bytes:
    """Return the code as PNG of about 1,000 pixels. Takes some milliseconds: for a thread."""
    out = io.BytesIO()
    code = segno.make(address, error="m", micro=False)
    code.save(out, kind="png", scale=1000 // (code.symbol_size(border=4)[0]), border=4, dark=_DARK)
    return out.getvalue()
