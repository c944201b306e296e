"""A Salesforce organisation: its tokens come with the address to use them at, and do not say how long they hold."""

import time

from service.simulator import token
from service.simulator.objects import Object


class Simulator(token.Simulator):
    asked_at = "/services/oauth2/token"

    def granted(self, token: str) -> Object:
        return {
            "access_token": token,
            "token_type": "Bearer",
            "instance_url": self.url,
            "id": f"{self.url}/id/00D000000000001AAA/005000000000001AAA",
            "issued_at": str(time.time_ns() // 1_000_000),
            "scope": "api",
        }
