"""What a partner says back of our credential is in no message that leaves the bridge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.codec import Decoded
from service.bridge.json_text import CodecError
from service.bridge.redaction import SHORTEST, redacted_reply, redacted_text
from service.domain.secret import Secret
from service.domain.target import Target
from tests.unit.test_codec import codec, make


def target(credential: str, secret: str = "") -> Target:
    return Target("acme", "one", "example", "https://example.com", Secret(credential), 1, secret=Secret(secret))


EVERYWHERE = """
text: "a KEY" tags: "b" tags: "KEYKEY" count: 5
raw {struct_value {fields {key: "KEY" value {string_value: "KEY"}}}}
object {fields {key: "x KEY" value {list_value {values {string_value: "KEY"} values {number_value: 1}}}}}
labels {key: "KEY" value: "KEY"} labels {key: "ok" value: "ok"}
things {key: "KEY" value {id: "KEY"}} leaf {id: "KEY"} leaves {id: "ok"} leaves {id: "KEY"}
inner_thing {inner_thing {left: "KEY"}}
"""


@pytest.mark.parametrize("credential", ["0123456789abcdef", "k/4711+canary", "+/-=+/-=", "k" * 8000])
def test_no_text_of_a_message_holds_the_credential(credential: str) -> None:
    message = make("Thing", EVERYWHERE.replace("KEY", credential))
    rejects = (CodecError("/data/0", "is missing", credential[:64]), CodecError("/data/1", "is missing", "4711"))
    reply = redacted_reply(Decoded(message, rejects), target(credential))
    assert reply.message == make("Thing", EVERYWHERE.replace("KEY", "***"))
    whole = len(credential) <= 64
    assert [each.object_id for each in reply.rejects] == ["***" if whole else credential[:64], "4711"]
    assert [each.pointer for each in reply.rejects] == ["/data/0", "/data/1"]


@pytest.mark.parametrize("spelling", [r"k\/4711\u002Bcanary", "k%2f4711%2Bcanary", "ay80NzExK2NhbmFyeQ=="])
def test_the_spelling_of_a_url_and_what_the_credential_was_made_of_are_found_too(spelling: str) -> None:
    given_ = target("ay80NzExK2NhbmFyeQ==", "k/4711+canary")
    reply = redacted_reply(Decoded(codec("Thing").decode('{"text": "-"}').message), given_)
    assert reply.message.text == "-"
    reply.message.text = f"https://example.com/?key={spelling}&page=2"
    assert redacted_reply(reply, given_).message.text == "https://example.com/?key=***&page=2"


def test_a_word_that_data_may_hold_by_chance_stays() -> None:
    short = "x" * (SHORTEST - 1)
    text = EVERYWHERE.replace("KEY", short)
    assert redacted_reply(Decoded(make("Thing", text)), target(short)).message == make("Thing", text)
    assert redacted_text(short, target(short)) == "***", "in texts for people it is hidden"


@given(st.from_regex(r"[!-)+-~]{8,40}", fullmatch=True), st.lists(st.text(max_size=5), max_size=4), st.data())
def test_whatever_stands_around_it_stays(credential: str, around: list[str], data: Any) -> None:
    here = data.draw(st.booleans())
    text = (credential if here else "-").join(around)
    reply = redacted_reply(Decoded(make("Thing", "")), target(credential))
    reply.message.tags.extend([text, "neighbour"])
    shown = redacted_reply(reply, target(credential)).message.tags
    assert shown[1] == "neighbour" or credential in "neighbour"
    assert credential not in shown[0]
    if not here and credential not in text:
        assert shown[0] == text
