"""Secrets at rest."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.crypto import Crypto, KeyProblem, Undecryptable, derive, digest, new_fernet_key, same, stored_secret


def test_what_is_encrypted_comes_back_and_does_not_show() -> None:
    crypto = Crypto([new_fernet_key()])
    for value in ({"token": "1:ABC"}, "matn ўзбек 😀", [1, None], ""):
        token = crypto.encrypt(value)
        assert crypto.decrypt(token) == value
        assert "ABC" not in token
    assert crypto.encrypt("x") != crypto.encrypt("x")


def test_rotation_reads_with_every_key_and_writes_with_the_first() -> None:
    old, new = new_fernet_key(), new_fernet_key()
    token = Crypto([old]).encrypt("secret")
    both = Crypto.from_text(f" {new} , {old} ,")
    assert both.decrypt(token) == "secret"
    assert not both.is_current(token)
    fresh = both.rotate(token)
    assert both.is_current(fresh)
    assert Crypto([new]).decrypt(fresh) == "secret"
    with pytest.raises(Undecryptable):
        Crypto([new]).decrypt(token)
    with pytest.raises(Undecryptable):
        Crypto([new]).rotate(token)


@pytest.mark.parametrize("token", ["", "gAAAA", "ў", "gAAAAABh" + "A" * 100])
def test_garbage_is_not_decrypted_into_garbage(token: str) -> None:
    crypto = Crypto([new_fernet_key()])
    with pytest.raises(Undecryptable):
        crypto.decrypt(token)
    assert not crypto.is_current(token)


_GOOD = "dGVzdC10ZXN0LXRlc3QtdGVzdC10ZXN0LXRlc3QtdGU="  # 32 bytes of text, a key of nobody


@pytest.mark.parametrize("text", ["", ",", "short", f"{_GOOD},ключ", "A" * 44])
def test_a_wrong_key_is_named_by_its_place_and_never_shown(text: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        Crypto.from_text(text)
    assert str(caught.value).startswith("ENCRYPTION_KEYS")
    for part in filter(None, text.split(",")):
        assert part not in str(caught.value)


def test_a_stored_secret_is_made_once_for_everybody_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "data" / "encryption.keys"
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: stored_secret(path, new_fernet_key), range(16)))
    assert len(seen) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["encryption.keys"]


@pytest.mark.parametrize("content", ["", "\n", "ключ", b"\xff\xfe\0", None], ids=repr)
def test_a_stored_secret_that_is_none_is_named_and_left_alone(tmp_path: Path, content: str | bytes | None) -> None:
    """None: a folder stands in its place. What is there may be half of a copy put back, so nothing is written over it."""
    path = tmp_path / "secret.key"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(KeyProblem, match=r"secret\.key (holds no key|cannot be read)") as caught:
        stored_secret(path, new_fernet_key)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]


def test_derived_keys_differ_by_purpose_and_comparison_takes_any_text() -> None:
    assert derive("s", "cookie") != derive("s", "other") != derive("t", "other")
    assert len(derive("s", "cookie")) == 32
    assert same("ўзбек\ud800", "ўзбек\ud800") and not same("a", "b")
    assert digest("token") == digest("token") != digest("tokem")
