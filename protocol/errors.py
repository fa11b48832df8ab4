"""Whose fault a failure is, and its stable code. Nothing here does I/O."""

from typing import Final

# Codes are part of the protocol: a client may switch on them. Never reuse one.
VERSION_MISMATCH: Final = "version_mismatch"
BAD_FRAME: Final = "bad_frame"
NO_HELLO: Final = "no_hello"
UNKNOWN_AGENT: Final = "unknown_agent"
UNKNOWN_SESSION: Final = "unknown_session"
UNKNOWN_ASK: Final = "unknown_ask"
UNKNOWN_VERB: Final = "unknown_verb"
REQUEST_REUSED: Final = "request_reused"
EMPTY_PROMPT: Final = "empty_prompt"
BEYOND_THE_LOG: Final = "beyond_the_log"
LIMIT_REACHED: Final = "limit_reached"
UNREADABLE: Final = "unreadable"
LOG_STALLED: Final = "log_stalled"
SHUTTING_DOWN: Final = "shutting_down"
NOT_RUNNING: Final = "not_running"
AGENT_FAILED: Final = "agent_failed"
ACTOR_LOST: Final = "actor_lost"
QUARANTINED: Final = "quarantined"
CLIENT_GONE: Final = "client_gone"
CONNECTION_LOST: Final = "connection_lost"
NOT_OURS: Final = "not_ours"
NO_SESSIONS: Final = "no_sessions"
AGENT_ERROR: Final = "agent_error"
SAFE_MODE: Final = "safe_mode"
GENERATION_CHANGED: Final = "generation_changed"
CLOSED: Final = "closed"
INTERNAL: Final = "internal"


class UnderstudyError(Exception):
    """An operating error with a stable `code`, a text for people, and optional `detail` (msgpack-able)."""

    def __init__(self, code: str, text: str, detail: object = None) -> None:
        super().__init__(f"{text} [{code}]")
        self.code = code
        self.text = text
        self.detail = detail


class LocalError(UnderstudyError):
    """This side's: a call that cannot be (mend it), a client that is closed, or a way to a house at whose end none answers.

    The house has refused nothing.
    """


class RemoteError(UnderstudyError):
    """The other side's: the house or the agent refused or failed; what it said is in `text` and `detail`."""
