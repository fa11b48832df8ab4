"""Each place of an agent has a budget of restarts: an actor that falls again and again does not cost the others theirs."""

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.frames import Begin, Ended, Verb, pack
from understudy.supervisor.core.events import ClientSaid, Record, RestRow
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, RestartPolicy

TIGHT = RestartPolicy(intensity=1)


def with_two(spec: AgentSpec) -> Desk:
    """Return a desk where two actors, each with a session, play one agent; no turn runs."""
    desk = Desk(spec)
    sessions = [desk.open() for _ in range(2)]
    for epoch, session in enumerate(sessions, 1):
        desk.prompt(session)
        desk.said(Begin(session, 2), epoch=epoch)
        desk.said(Ended(1, session, 2, "end_turn"), epoch=epoch)
    return desk


def spent(spec: AgentSpec) -> Desk:
    """Return such a desk where the second actor fell once too often."""
    desk = with_two(spec)
    desk.exit("a", 2, 1)
    desk.exit("a", 3, 1)
    assert {"a": "RUNNING", "a/2": "FATAL"} == desk.states()
    return desk


def test_one_that_falls_too_often_leaves_the_others_theirs() -> None:
    desk = spent(agent(sessions_per_actor=1, actors_max=2, restart=TIGHT))

    desk.exit("a", 1, 1)

    assert {"a": "RUNNING", "a/2": "FATAL"} == desk.states()
    assert [1, 1] == [desk.row(name)["restarts"] for name in ("a", "a/2")]


def test_an_understudy_that_plays_in_a_place_has_the_budget_of_that() -> None:
    desk = with_two(agent(sessions_per_actor=1, actors_max=2, understudies=1, restart=TIGHT))
    desk.tick(0.1)
    understudy = desk.row("a~1")["epoch"]

    desk.exit("a", 2, 1)
    desk.late = True
    desk.exit("a", understudy, 1)

    assert ("RUNNING", "FATAL") == (desk.states()["a"], desk.states()["a/2"])


def test_a_person_who_starts_the_agent_gives_the_place_a_new_budget() -> None:
    desk = spent(agent(sessions_per_actor=1, actors_max=2, restart=TIGHT))
    desk.tell(ClientSaid(CLIENT, Verb("start", "start", pack({"names": ["a"]}))))
    third, fourth = desk.open(), desk.open()
    for session in (third, fourth):
        desk.prompt(session)

    desk.exit("a", desk.row("a/2")["epoch"], 1)

    assert "RUNNING" == desk.states()["a/2"]


def test_the_budget_of_a_place_is_known_to_the_next_supervisor() -> None:
    desk = with_two(agent(sessions_per_actor=1, actors_max=2, restart=TIGHT))
    desk.exit("a", 2, 1)
    rows = [row for each in desk.effects if isinstance(each, Record) for row in each.rows]
    rests = {row.agent: row for row in rows if isinstance(row, RestRow)}
    after = Desk(desk.core.house.agents["a"].spec, restored=Restored(epochs={"a": 3}, rests=rests))
    for session in [after.open() for _ in range(2)]:
        after.prompt(session)
    assert {"a": "RUNNING", "a/2": "RUNNING"} == after.states()

    after.exit("a", after.row("a/2")["epoch"], 1)

    assert {"a": "RUNNING", "a/2": "FATAL"} == after.states()
