"""What a bot knows: documents are read, cut, stored and searched here."""

from __future__ import annotations

from collections.abc import Mapping

READERS: Mapping[str, str] = {
    ".pdf": "services.knowledge.pdf",
    ".docx": "services.knowledge.docx",
    ".csv": "services.knowledge.csv",
    ".txt": "services.knowledge.txt",
}
"""Suffix (lower case) to the module whose ``READER`` reads such files. Only the child process imports them."""
