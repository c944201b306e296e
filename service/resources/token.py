"""Tokens of ours: how they are stored and deleted."""

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN
from evbridge.v1.token_pb2 import Token, TokenKey

from service.domain.keys import ObjectKey
from service.domain.token import token_key
from service.domain.validation import validate
from service.resources.objects import Owned
from service.storage.token import token_lock, token_put, token_tombstone


class Tokens(Owned[Token]):
    noun = "token"
    kind = OBJECT_KIND_TOKEN
    id = "uid"
    lock = staticmethod(token_lock)
    write = staticmethod(token_put)
    remove = staticmethod(token_tombstone)

    def key_of(self, sent: Token) -> ObjectKey:
        return token_key(sent)

    def check_key(self, sent: Token, path: str) -> None:
        key = TokenKey(country_code=sent.country_code, party_id=sent.party_id, uid=sent.uid, type=sent.type)
        validate(key, prefix=f"{path}.")


TOKENS = Tokens()
