"""The certificate that a listener shows, read again when its files change, and whose clients' it demands."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class _Read(NamedTuple):
    stamp: _Stamp
    chain: bytes
    key: bytes
    client_ca: bytes
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of PEM files: the chain with the server's certificate first, its key, and whoever signs clients'.

    `client_ca` is "" where clients need no certificate.
    """

    chain: str
    key: str
    client_ca: str = ""

    def stamp(self) -> _Stamp:
        """Another one when a file is. Raises OSError."""
        found = [Path(file).stat() for file in (self.chain, self.key, self.client_ca) if file]
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def read(self) -> _Read:
        """Raises OSError, which says what is wrong with which."""
        stamp = self.stamp()
        chain, key = Path(self.chain).read_bytes(), Path(self.key).read_bytes()
        client_ca = Path(self.client_ca).read_bytes() if self.client_ca else b""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.chain, self.key, password=lambda: "")
        except ssl.SSLError as error:
            cause = (
                "the key is not the certificate's"
                if error.reason == "KEY_VALUES_MISMATCH"
                else "they must be PEM, the chain with the server's certificate first, the key without a password"
            )
            raise OSError(f"EVBRIDGE_TLS_CERT_FILE and EVBRIDGE_TLS_KEY_FILE cannot be used: {cause}") from None
        if self.client_ca:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise OSError(f"{self.client_ca} cannot be used: it must hold certificates in PEM") from None
            context.verify_mode = ssl.CERT_REQUIRED
        if self.stamp() != stamp:
            raise OSError("the files of the certificate are being written")
        return _Read(stamp, chain, key, client_ca, context)


class Certificate:
    """What the files hold. When they cannot be used, as while they are written, what they held before stays."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises OSError."""
        self._files = files
        self._read = files.read()
        self._refused: _Stamp | None = None

    def current(self) -> _Read:
        """The same object while nothing has changed."""
        stamp: _Stamp | None = None
        try:
            stamp = self._files.stamp()
            if stamp != self._read.stamp:
                self._read = self._files.read()
                _log.info("the certificate was renewed")
        except OSError as error:
            if self._refused != stamp or stamp is None:
                _log.warning(
                    "the renewed certificate cannot be used, the last one stays", extra={"problem": str(error)}
                )
            self._refused = stamp
        return self._read
