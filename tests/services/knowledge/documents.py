"""Documents of every kind, good and hostile, made as their programs make them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import docx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from fpdf import FPDF
from PIL import Image, ImageDraw
from pypdf import PdfReader, PdfWriter

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_NOTES = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
_NOTES_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"


def pdf(*pages: str) -> bytes:
    """A PDF with a page of wrapped Latin text for each argument."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    for page in pages:
        document.add_page()
        document.multi_cell(0, 6, page)
    return bytes(document.output())


def encrypted_pdf(data: bytes, user_password: str) -> bytes:
    """The same PDF with a password to open it; an empty one only forbids changing it."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(user_password, "owner-password", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def scanned_pdf() -> bytes:
    """A picture of a page, no text."""
    picture = Image.new("L", (600, 800), 255)
    ImageDraw.Draw(picture).text((50, 50), "Price list", fill=0)
    out = io.BytesIO()
    picture.save(out, "PDF")
    return out.getvalue()


def pdf_with_picture(text: str, width_mm: float) -> bytes:
    """An A4 page (210 mm wide) of a picture with these words on it."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    document.add_page()
    document.image(Image.new("L", (210, 297), 200), 0, 0, width_mm)
    document.text(20, 20, text)
    return bytes(document.output())


def raw_pdf(*objects: bytes) -> bytes:
    """A PDF of the given objects, numbered from 1; the first is the root."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def stream(body: bytes, extra: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(body), extra, body)


def one_page_pdf(content: bytes, font: bytes, *more: bytes, extra: bytes = b"") -> bytes:
    """One page with this content stream and font dictionary."""
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        stream(content, extra),
        font,
        *more,
    )


def page_tree_loop() -> bytes:
    """Pages that are their own kids."""
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R 2 0 R] /Count 9 >>",
        b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R 3 0 R] /Count 9 >>",
    )


def word(build: Callable[[docx.document.Document], None]) -> bytes:
    """A Word document filled by ``build``."""
    document = docx.Document()
    build(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def body_xml(xml: str) -> object:
    """An element for the body of a document, with the usual prefixes declared."""
    return parse_xml(xml.replace(">", f" {nsdecls('w', 'wp', 'a')}>", 1))


def text_box(text: str) -> object:
    """A text box as Word writes it: once for itself, once for older programs."""
    content = f"<w:txbxContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:txbxContent>"
    return parse_xml(
        f"<w:p {_W} xmlns:mc='http://schemas.openxmlformats.org/markup-compatibility/2006'"
        " xmlns:wps='http://schemas.microsoft.com/office/word/2010/wordprocessingShape' xmlns:v='urn:schemas-microsoft-com:vml'>"
        f"<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wps:txbx>{content}</wps:txbx></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{content}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )


def repacked(data: bytes, changes: dict[str, bytes | None]) -> bytes:
    """A zip with some members replaced, added, or (None) left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in changes:
                new.writestr(name, old.read(name))
        for name, content in changes.items():
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def with_footnotes(data: bytes, text: str) -> bytes:
    """The document with a part of footnotes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        types = archive.read("[Content_Types].xml").decode()
        relations = archive.read("word/_rels/document.xml.rels").decode()
    notes = f"<w:footnotes {_W}><w:footnote w:id='1'><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:footnote></w:footnotes>"
    return repacked(
        data,
        {
            "word/footnotes.xml": notes.encode(),
            "[Content_Types].xml": types.replace(
                "</Types>", f'<Override PartName="/word/footnotes.xml" ContentType="{_NOTES}"/></Types>'
            ).encode(),
            "word/_rels/document.xml.rels": relations.replace(
                "</Relationships>",
                f'<Relationship Id="rId99" Type="{_NOTES_RELATION}" Target="footnotes.xml"/></Relationships>',
            ).encode(),
        },
    )


def word_xml(xml: bytes) -> bytes:
    """A Word document whose main part is ``xml``."""
    return repacked(word(lambda document: None), {"word/document.xml": xml})


def paragraphs_xml(inner: str) -> bytes:
    """A main part with this body."""
    return f"<w:document {_W}><w:body>{inner}</w:body></w:document>".encode()
