"""The calls that wait for their answers, with accounts of what each client has of them and what waits for each agent. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from understudy.supervisor.core.life import Actor


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that waits for its answer; `sent` once its `actor` was there to take it: then the body is gone."""

    peer: bytes
    request: str
    session: str
    agent: str
    method: str
    body: bytes
    sent: bool = False
    actor: Actor | None = None
    since: float = 0.0  # When it came.


class OpenCalls(MutableMapping[str, OpenCall]):
    """Calls by the names that their actors know them by, in the order in which they came."""

    def __init__(self, calls: Mapping[str, OpenCall] | None = None) -> None:
        self._calls: dict[str, OpenCall] = {}
        self._of: defaultdict[bytes, dict[str, int]] = defaultdict(dict)
        self._unsent: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._with: defaultdict[Actor, dict[str, None]] = defaultdict(dict)
        self._in: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.body_bytes = 0
        self.update(calls or {})

    def __getitem__(self, name: str) -> OpenCall:
        return self._calls[name]

    def __setitem__(self, name: str, call: OpenCall) -> None:
        before = self._calls.get(name)
        if before is not None:
            self.body_bytes -= len(before.body)
        self._calls[name] = call
        self._of[call.peer][name] = len(call.body)
        self._in[call.session][name] = None
        self.body_bytes += len(call.body)
        if call.sent:
            _strike(self._unsent, call.agent, name)
            if call.actor is not None:
                self._with[call.actor][name] = None
        else:
            self._unsent[call.agent][name] = None

    def __delitem__(self, name: str) -> None:
        call = self._calls.pop(name)
        self.body_bytes -= len(call.body)
        _strike(self._of, call.peer, name)
        _strike(self._in, call.session, name)
        _strike(self._unsent, call.agent, name)
        if call.actor is not None:
            _strike(self._with, call.actor, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def of(self, peer: bytes) -> Mapping[str, int]:
        """Return the names of a connection's calls, each with the bytes of its body that wait."""
        return self._of.get(peer, {})

    def unsent(self, agent: str) -> Mapping[str, None]:
        """Return the names of the calls that wait for the agent's actor to take them."""
        return self._unsent.get(agent, {})

    def with_actor(self, actor: Actor) -> Mapping[str, None]:
        """Return the names of the calls that an actor has."""
        return self._with.get(actor, {})

    def in_session(self, session: str) -> Mapping[str, None]:
        """Return the names of the calls that are about a session."""
        return self._in.get(session, {})

    def kept(self) -> dict[str, OpenCall]:
        """Return what there is, to begin with again."""
        return dict(self._calls)


def _strike(accounts: dict[Any, dict[str, Any]], key: bytes | str | Actor, name: str) -> None:
    account = accounts.get(key)
    if account is not None:
        account.pop(name, None)
        if not account:
            del accounts[key]
