"""What both reference bots share: their arguments and their prompt."""

from __future__ import annotations

import argparse

SECRET = "reference_secret_0123456789"
INSTRUCTIONS = """You are “Klinika”, the assistant of a business, and you write to its customers in a messenger.
Be friendly and brief. Plain text only. Facts come only from the passages given with the question.
Klinika Toshkent shahri, Buyuk Ipak yo'li ko'chasi 114-uyda joylashgan. Har kuni 8:00 dan 20:00 gacha ishlaydi."""


def given() -> argparse.Namespace:
    """Return the arguments: ``port``, ``token``, ``api`` and ``openai`` (addresses)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--api", required=True)
    parser.add_argument("--openai", required=True)
    return parser.parse_args()
