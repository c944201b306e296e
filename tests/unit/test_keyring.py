"""Secrets at rest open for their own row under a known key, and for nothing else."""

import base64
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.storage.keyring import Keyring, KeyringInvalid, SealBroken, associated, key_id_of


def entry(id: str, byte: int) -> str:
    return f"{id}:{base64.b64encode(bytes([byte]) * 32).decode()}"


OLD = Keyring.parse(entry("old", 1))
BOTH = Keyring.parse(f"{entry('new', 2)},{entry('old', 1)}")
NEW = Keyring.parse(entry("new", 2))
ROW = associated("tenant", "integrations/ampeco", "token")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(text=texts, parts=st.lists(texts, max_size=4))
def test_what_is_sealed_opens_again(text: str, parts: list[str]) -> None:
    sealed = OLD.seal(Secret(text), associated(*parts))
    assert OLD.open(sealed, associated(*parts)).reveal() == text
    assert key_id_of(sealed) == "old"


@given(data=st.data())
def test_any_changed_byte_breaks_the_seal(data: st.DataObject) -> None:
    sealed = bytearray(BOTH.seal(Secret("hunter2"), ROW))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    for use in (BOTH.open, BOTH.rewrap) if place < len(sealed) - 35 else (BOTH.open,):
        with pytest.raises(SealBroken) as refused:
            use(bytes(sealed), ROW)
        assert "hunter2" not in str(refused.value)


@given(data=st.data())
def test_sealed_bytes_that_are_cut_short_or_made_up_break(data: st.DataObject) -> None:
    sealed = OLD.seal(Secret("hunter2"), ROW)
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for bytes_ in (cut, data.draw(st.binary(max_size=150))):
        with pytest.raises(SealBroken):
            OLD.open(bytes_, ROW)


@given(one=st.lists(texts, max_size=4), other=st.lists(texts, max_size=4))
def test_a_secret_moved_to_another_row_does_not_open(one: list[str], other: list[str]) -> None:
    if one == other:
        other = [*other, ""]
    sealed = OLD.seal(Secret("hunter2"), associated(*one))
    for use in (OLD.open, OLD.rewrap):
        with pytest.raises(SealBroken):
            use(sealed, associated(*other))


def test_two_seals_of_one_secret_have_nothing_in_common() -> None:
    one, other = OLD.seal(Secret("hunter2"), ROW), OLD.seal(Secret("hunter2"), ROW)
    header = 2 + len("old")
    assert one[:header] == other[:header]
    assert one[header : header + 60] != other[header : header + 60]
    assert one[header + 60 :] != other[header + 60 :]
    assert b"hunter2" not in one


def test_an_unknown_key_is_named_and_nothing_else_is() -> None:
    with pytest.raises(SealBroken, match="key old, which is not in the keyring"):
        NEW.open(OLD.seal(Secret("hunter2"), ROW), ROW)


def test_rotation_rewraps_the_data_key_and_leaves_the_secret() -> None:
    before = OLD.seal(Secret("hunter2"), ROW)
    after = BOTH.rewrap(before, ROW)
    assert key_id_of(after) == "new"
    assert after[-35:] == before[-35:]
    assert NEW.open(after, ROW).reveal() == "hunter2"
    with pytest.raises(SealBroken):
        OLD.open(after, ROW)


def test_digests_depend_on_key_and_purpose_and_all_keys_are_asked() -> None:
    assert BOTH.digests("api-key", b"x") == (NEW.digest("api-key", b"x"), OLD.digest("api-key", b"x"))
    assert BOTH.digest("api-key", b"x") == BOTH.digests("api-key", b"x")[0]
    assert len({OLD.digest("api-key", b"x"), OLD.digest("request", b"x"), NEW.digest("api-key", b"x")}) == 3
    assert len(OLD.digest("api-key", b"")) == 32


@given(one=st.lists(texts, max_size=4), other=st.lists(texts, max_size=4))
def test_parts_are_joined_without_ambiguity(one: list[str], other: list[str]) -> None:
    assert (associated(*one) == associated(*other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "key 1 is not name:base64"),
        ("hunter2", "key 1 is not name:base64"),
        (base64.b64encode(b"hunter2" * 5).decode().rstrip("=") + ":k", "key 1 is not base64"),
        ("k:%%%", "key 1 is not base64"),
        ("k:" + base64.b64encode(b"short").decode(), "key 1 is not 32 bytes"),
        (f"{entry('k', 1)},{entry('k', 2)}", "key 2 has the name of another one"),
        (f"{entry('k', 1)},,bad!name:AAAA", "key 2 is not"),
    ],
)
def test_text_that_is_not_keys_is_refused_without_showing_them(text: str, complaint: str) -> None:
    with pytest.raises(KeyringInvalid, match=complaint) as refused:
        Keyring.parse(text)
    assert not any(len(part) > 3 and part in str(refused.value) for part in re.split("[:,]", text))


def test_a_keyring_shows_its_key_ids_only() -> None:
    assert repr(BOTH) == "Keyring(new, old)"


def test_a_created_file_is_private_and_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first, second = Keyring.create(path), Keyring.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert second.open(first.seal(Secret("hunter2"), ROW), ROW).reveal() == "hunter2"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_hold_one_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{entry('new', 2)}\n{entry('old', 1)}\n")
    path.chmod(0o640)
    assert repr(Keyring.load(path)) == "Keyring(new, old)"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_every_user_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys"
    path.write_text(entry("k", 1))
    path.chmod(mode)
    with pytest.raises(KeyringInvalid, match="chmod"):
        Keyring.load(path)
