"""How an end's connection to the house stands, a client's and an actor's alike. Pure."""

from enum import Enum


class Standing(Enum):
    """From `connected` to the answer to our hello it is GREETING; REFUSED is for good."""

    DOWN = "down"
    GREETING = "greeting"
    UP = "up"
    REFUSED = "refused"
