"""TLS on both listeners: certificates that are renewed while the server runs, and those that clients must show."""

import json
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.app import evbridge
from service.bridge.tls import Certificate, CertificateFiles
from service.settings import SettingError, Settings
from tests.front_door import command, environment, settings

SERVING = health_pb2.HealthCheckResponse.SERVING
LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))


def certificate(directory: Path, name: str, of: str = "", host: x509.GeneralName = LOOPBACK) -> tuple[str, str]:
    """Writes a self-signed certificate for the host and its key; the files, which begin with `of`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain_file, key_file = directory / f"{of}chain.pem", directory / f"{of}key.pem"
    chain_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(chain_file), str(key_file)


async def health(address: str, roots: str, own: tuple[str, str] | None = None) -> int:
    chain, key = (Path(file).read_bytes() for file in own) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(Path(roots).read_bytes(), key, chain)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return (await check(health_pb2.HealthCheckRequest(), timeout=10)).status


async def versions(url: str, roots: str, own: tuple[str, str] | None = None) -> int:
    """The HTTP status of a request of nobody."""
    tls = ssl.create_default_context(cafile=roots)
    if own:
        tls.load_cert_chain(*own)
    async with aiohttp.ClientSession() as http, http.get(f"{url}/ocpi/versions", ssl=tls) as answer:
        assert json.loads(await answer.read())["status_code"] == 2000
        return answer.status


async def test_both_listeners_follow_renewed_certificates_and_health_speaks_tls(
    database_url: str, tmp_path: Path
) -> None:
    chain, key = certificate(tmp_path, "first")
    # Beyond loopback: with TLS that is allowed.
    files = {"tls_cert_file": chain, "tls_key_file": key}
    async with evbridge(settings(database_url, delivery=False, listen="0.0.0.0:0", **files)) as running:
        address = running.address.replace("0.0.0.0", "127.0.0.1")
        assert running.ocpi_url.startswith("https://")
        for name in ("first", "renewed"):
            certificate(tmp_path, name)
            assert await health(address, chain) == SERVING
            assert await versions(running.ocpi_url, chain) == 401
        # One that is half written does not count.
        kept = Path(chain).read_bytes()
        Path(chain).write_bytes(kept[:100])
        before = tmp_path / "before.pem"
        before.write_bytes(kept)
        assert await health(address, str(before)) == SERVING
        assert await versions(running.ocpi_url, str(before)) == 401
        Path(chain).write_bytes(kept)
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        tls = {name.upper(): file for name, file in files.items()}
        for name in ("evbridge.acme.example", "*.acme.example"):
            certificate(tmp_path, "elsewhere", host=x509.DNSName(name))
            told = await command(environment(database_url, LISTEN=running.address, **tls), "health")
            assert (told.code, told.err) == (0, "")
        told = await command(environment(database_url, LISTEN=address), "health")
        assert (told.code, told.err) == (1, f"evbridge: {address} answers UNAVAILABLE\n")


async def test_clients_show_a_certificate_of_who_may_sign_them(database_url: str, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "server")
    files = {"tls_cert_file": chain, "tls_key_file": key}
    client, partner = certificate(tmp_path, "client", "client-"), certificate(tmp_path, "partner", "partner-")
    authorities = {name: tmp_path / f"{name}.pem" for name in ("tls_client_ca_file", "ocpi_tls_client_ca_file")}
    for authority, signed in zip(authorities.values(), (client, partner), strict=True):
        shutil.copy(signed[0], authority)
    files |= {name: str(file) for name, file in authorities.items()}
    async with evbridge(settings(database_url, delivery=False, **files)) as running:
        assert await health(running.address, chain, client) == SERVING
        assert await versions(running.ocpi_url, chain, partner) == 401
        for stranger in (None, partner):
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await health(running.address, chain, stranger)
        for other in (None, client):
            with pytest.raises(aiohttp.ClientError):
                await versions(running.ocpi_url, chain, other)
        # Who signs is read again, too.
        another = certificate(tmp_path, "another", "another-")
        for authority in authorities.values():
            shutil.copy(another[0], authority)
        assert await health(running.address, chain, another) == SERVING
        assert await versions(running.ocpi_url, chain, another) == 401
        with pytest.raises(aiohttp.ClientError):
            await versions(running.ocpi_url, chain, partner)


def with_another_key(files: Path) -> None:
    certificate(files, "x", "x-")
    (files / "x-key.pem").rename(files / "key.pem")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no certificate": (lambda files: (files / "chain.pem").write_text("nothing"), "they must be PEM"),
    "another key": (with_another_key, "the key is not the certificate's"),
    "nobody who signs": (lambda files: (files / "ca-chain.pem").write_text("nothing"), "ca-chain.pem cannot be used"),
    "no file": (lambda files: (files / "key.pem").unlink(), "key.pem"),
}


@pytest.mark.parametrize(("spoil", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_files_that_cannot_be_used_are_named_at_the_start_and_change_nothing_later(
    tmp_path: Path, spoil: Callable[[Path], object], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = CertificateFiles(*certificate(tmp_path, "server"), certificate(tmp_path, "ca", "ca-")[0])
    kept = Certificate(files)
    first = kept.current()
    spoil(tmp_path)
    with pytest.raises(OSError, match=problem):
        Certificate(files)
    assert kept.current() is first is kept.current()
    assert "the last one stays" in caplog.text


def test_who_signs_needs_a_certificate_of_ours() -> None:
    with pytest.raises(SettingError, match="EVBRIDGE_TLS_CERT_FILE"):
        Settings.from_environ({"EVBRIDGE_OCPI_TLS_CLIENT_CA_FILE": "ca.pem"})
