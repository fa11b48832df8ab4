"""The accounts of open calls say what a look at every call would say, whatever happens to them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from understudy.supervisor.core.open_calls import OpenCall, OpenCalls

NAMES, PEERS, AGENTS = ["c1", "c2", "c3", "c4"], [b"p", b"q"], ["a", "b"]
CALLS = st.builds(
    OpenCall,
    st.sampled_from(PEERS),
    st.just("r"),
    st.just("s"),
    st.sampled_from(AGENTS),
    st.just("m"),
    st.binary(max_size=9),
)


@given(st.lists(st.tuples(st.sampled_from(["comes", "sent", "answered"]), st.sampled_from(NAMES), CALLS), max_size=30))
def test_accounts_follow_every_call(steps: list[tuple[str, str, OpenCall]]) -> None:
    calls = OpenCalls()
    for what, name, call in steps:
        if what == "comes" and name not in calls:
            calls[name] = call
        elif what == "sent" and name in calls:
            calls[name] = replace(calls[name], sent=True, body=b"")
        elif what == "answered":
            calls.pop(name, None)

        for each in (calls, OpenCalls(calls.kept())):
            assert sum(len(call.body) for call in calls.values()) == each.body_bytes
            for peer in PEERS:
                assert {n: len(c.body) for n, c in calls.items() if c.peer == peer} == dict(each.of(peer))
            for agent in AGENTS:
                assert [n for n, c in calls.items() if c.agent == agent and not c.sent] == list(each.unsent(agent))
