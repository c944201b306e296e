"""A Utility Cloud: tokens are given out at /token."""

from service.simulator import token


class Simulator(token.Simulator):
    """Its tokens hold for an hour."""
