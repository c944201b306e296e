"""Secrets at rest: sealed under a named key and bound to the row they belong to, and keyed digests to find them by.

Sealed bytes describe themselves:

    version (1)  length of the key id (1)  key id
    nonce (12)   the data key, encrypted with the named key (32 + 16)
    nonce (12)   the secret, encrypted with the data key (n + 16)

Every secret has a random data key, so changing the named key encrypts 32 bytes anew and leaves the secret alone.
AES-256-GCM throughout; the row's identity is the associated data of both encryptions.
"""

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.domain.secret import Secret

_VERSION = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + _KEY_BYTES + 16
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class KeyringInvalid(Exception):
    """Text or a file that holds no usable keys. A key is named by its place: what looks like a name may be the key."""


class SealBroken(Exception):
    """Sealed bytes that were altered, belong to another row, or need a key that is not in the keyring."""


class _Key:
    """The named key encrypts nothing itself: every use has a key of its own, derived from it."""

    def __init__(self, id: str, material: bytes) -> None:
        def derived(use: str) -> bytes:
            return HKDF(SHA256(), length=_KEY_BYTES, salt=None, info=f"evbridge {use}".encode()).derive(material)

        self.id = id
        self.wrapping = AESGCM(derived("wrap"))
        self.for_digest = lru_cache(maxsize=32)(lambda purpose: derived(f"digest {purpose}"))

    def digest(self, purpose: str, data: bytes) -> bytes:
        return hmac.digest(self.for_digest(purpose), data, "sha256")


class Keyring:
    """Named keys. The first seals and digests; the others still open what they sealed."""

    def __init__(self, keys: Sequence[_Key]) -> None:
        self._current = keys[0]
        self._keys = {key.id: key for key in keys}

    @property
    def current(self) -> str:
        """The id of the key that seals."""
        return self._current.id

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """`name:base64 of 32 bytes`, then any more after commas or line ends. Raises KeyringInvalid."""
        keys: dict[str, _Key] = {}
        for place, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), start=1):
            id, colon, encoded = entry.partition(":")
            if not (colon and _KEY_ID.fullmatch(id)):
                raise KeyringInvalid(f"key {place} is not name:base64 with a name of A-Z a-z 0-9 _ . -")
            try:
                material = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise KeyringInvalid(f"key {place} is not base64 after its name") from None
            if len(material) != _KEY_BYTES:
                raise KeyringInvalid(f"key {place} is not {_KEY_BYTES} bytes long")
            if id in keys:
                raise KeyringInvalid(f"key {place} has the name of another one")
            keys[id] = _Key(id, material)
        return cls(tuple(keys.values()))

    @classmethod
    def load(cls, path: Path) -> "Keyring":
        """Raises KeyringInvalid, also when others may read the file, and OSError when it cannot be read."""
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise KeyringInvalid(f"{path} is open to every user of this machine: chmod it to 0600")
            try:
                text = file.read()
            except UnicodeDecodeError:
                raise KeyringInvalid(f"{path} is not text") from None
        return cls.parse(text)

    @classmethod
    def create(cls, path: Path) -> "Keyring":
        """Makes the file with one random key, complete or not at all, and loads it.

        A file that is there already, perhaps since a moment ago, is kept: overwriting it would lose every secret.
        """
        key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"k{secrets.token_hex(4)}:{key}\n")
                file.flush()
                os.fsync(descriptor)
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return cls.load(path)
        finally:
            Path(temporary).unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return cls.load(path)

    def seal(self, secret: Secret, associated: bytes) -> bytes:
        data_key = AESGCM.generate_key(_KEY_BYTES * 8)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        body = nonce + AESGCM(data_key).encrypt(nonce, secret.reveal().encode(), associated)
        return self._wrapped(data_key, associated) + body

    def open(self, sealed: bytes, associated: bytes) -> Secret:
        """Raises SealBroken."""
        data_key, body = self._unwrapped(sealed, associated)
        try:
            plain = AESGCM(data_key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):
            raise SealBroken("the secret was altered") from None
        return Secret(plain.decode())

    def rewrap(self, sealed: bytes, associated: bytes) -> bytes:
        """The same secret under the current key. Raises SealBroken."""
        data_key, body = self._unwrapped(sealed, associated)
        return self._wrapped(data_key, associated) + body

    def digest(self, purpose: str, data: bytes) -> bytes:
        """32 bytes (HMAC-SHA-256) under the current key, different for every purpose."""
        return self._current.digest(purpose, data)

    def digests(self, purpose: str, data: bytes) -> tuple[bytes, ...]:
        """One per key, the current one first: what to look for while older digests are still stored."""
        return tuple(key.digest(purpose, data) for key in self._keys.values())

    def _wrapped(self, data_key: bytes, associated: bytes) -> bytes:
        id = self._current.id.encode()
        header = bytes((_VERSION, len(id))) + id
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + self._current.wrapping.encrypt(nonce, data_key, header + associated)

    def _unwrapped(self, sealed: bytes, associated: bytes) -> tuple[bytes, bytes]:
        key = self._keys.get(key_id_of(sealed))
        if key is None:
            raise SealBroken(f"the secret was sealed with key {key_id_of(sealed)}, which is not in the keyring")
        start = 2 + sealed[1]
        wrapped, body = sealed[start : start + _WRAPPED_BYTES], sealed[start + _WRAPPED_BYTES :]
        try:
            data_key = key.wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], sealed[:start] + associated)
        except (InvalidTag, ValueError):
            raise SealBroken("the secret was altered or belongs to another row") from None
        return data_key, body


def key_id_of(sealed: bytes) -> str:
    """Which key sealed it, without opening it. Raises SealBroken when this is not sealed bytes."""
    if len(sealed) < 2 or sealed[0] != _VERSION:
        raise SealBroken("not a sealed secret, or one of a newer build")
    id = sealed[2 : 2 + sealed[1]].decode("ascii", "replace")
    if not _KEY_ID.fullmatch(id):
        raise SealBroken("not a sealed secret")
    return id


def associated(*parts: str) -> bytes:
    """Joined so that no other parts give the same bytes: (tenant, resource, field)."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)
