"""Settings come from the environment, and complain clearly."""

from pathlib import Path

import pytest

from service.settings import Reflection, SettingError, Settings


def test_values_are_read_by_their_type() -> None:
    read = Settings.from_environ(
        {
            "EVBRIDGE_LISTEN": "[::1]:1",
            "EVBRIDGE_DATABASE_POOL_SIZE": "3",
            "EVBRIDGE_DRAIN_S": "0.5",
            "EVBRIDGE_REFLECTION": "Off",
            "EVBRIDGE_DATA_DIR": "/tmp/x",
            "HOME": "/root",
        }
    )
    assert (read.listen, read.database_pool_size, read.drain_s, read.reflection) == ("[::1]:1", 3, 0.5, Reflection.OFF)
    assert read.data_dir == Path("/tmp/x")


@pytest.mark.parametrize(
    ("text", "here", "beyond"),
    [("", True, False), ("auto", True, False), ("on", True, True), ("TRUE", True, True), ("false", False, False)],
)
def test_reflection_is_for_this_machine_unless_asked_for(text: str, here: bool, beyond: bool) -> None:
    asked = {"EVBRIDGE_REFLECTION": text} if text else {}
    for listen, reflects in (("localhost:1", here), ("[::1]:1", here), ("0.0.0.0:1", beyond), ("[::]:1", beyond)):
        assert Settings.from_environ({**asked, "EVBRIDGE_LISTEN": listen}).reflects() is reflects


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"EVBRIDGE_DATABASE_POOL_SIZE": "many"}, "EVBRIDGE_DATABASE_POOL_SIZE"),
        ({"EVBRIDGE_DATABASE_POOL_SIZE": "0"}, "EVBRIDGE_DATABASE_POOL_SIZE"),
        ({"EVBRIDGE_DRAIN_S": "-1"}, "EVBRIDGE_DRAIN_S"),
        ({"EVBRIDGE_MAX_DEADLINE_S": "nan"}, "EVBRIDGE_MAX_DEADLINE_S"),
        ({"EVBRIDGE_REFLECTION": "maybe"}, "EVBRIDGE_REFLECTION"),
        ({"EVBRIDGE_REFLEXION": "true"}, "EVBRIDGE_REFLEXION"),
        ({"EVBRIDGE_TLS_CERT_FILE": "cert.pem"}, "EVBRIDGE_TLS_KEY_FILE"),
        ({"EVBRIDGE_LOG_LEVEL": "loud"}, "EVBRIDGE_LOG_LEVEL"),
        ({"EVBRIDGE_MASS_REMOVAL_PERCENT": "101"}, "EVBRIDGE_MASS_REMOVAL_PERCENT"),
        ({"EVBRIDGE_CALLS_PER_MINUTE": "-1"}, "EVBRIDGE_CALLS_PER_MINUTE"),
        ({"EVBRIDGE_JWT_ISSUER": "https://login.example.com"}, "EVBRIDGE_JWT_JWKS_URL"),
        ({"EVBRIDGE_JWT_ALGORITHMS": "HS256"}, "EVBRIDGE_JWT_ALGORITHMS"),
        ({"EVBRIDGE_JWT_ALGORITHMS": "none"}, "EVBRIDGE_JWT_ALGORITHMS"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingError, match=named) as refused:
        Settings.from_environ(environ)
    assert not any(value in str(refused.value) for value in environ.values() if len(value) > 4)


def test_secrets_do_not_show_in_the_settings() -> None:
    settings = Settings(database_url="postgresql://u:hunter2@h/d", secrets_keys="k:hunter2")
    assert "hunter2" not in repr(settings)
