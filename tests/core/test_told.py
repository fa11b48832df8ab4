"""What people are told of an actor: how it ended, and why it is as it is."""

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.frames import Verb, pack
from understudy.protocol.news import ActorEnded, UnderstudyTookOver
from understudy.supervisor.core.events import ClientSaid
from understudy.supervisor.core.specs import Comeback, RestartPolicy


def test_an_end_that_was_asked_for_is_no_fall() -> None:
    desk = Desk(agent())

    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["a"]}))))
    desk.exit("a", 1)

    text = "agent a (a#1, pid 101) ended after 0.0 s (stopped by a person): exited with status 0; now STOPPED"
    assert text == desk.warned[-1]
    assert ("STOPPED", "stopped by a person") == (desk.row("a")["state"], desk.row("a")["why"])


def test_an_end_that_the_policy_expects_is_no_fall() -> None:
    desk = Desk(agent(restart=RestartPolicy(Comeback.TRANSIENT)))

    desk.exit("a", 1)

    assert "agent a (a#1, pid 101) ended after 0.0 s: exited with status 0; now EXITED" == desk.warned[-1]


def test_an_end_by_itself_is_a_fall() -> None:
    desk = Desk(agent())

    desk.exit("a", 1, 3)

    assert "agent a (a#1, pid 101) fell after 0.0 s: exited with status 3; now BACKOFF" == desk.warned[-1]


def test_an_agent_that_starts_again_does_not_say_when_it_will() -> None:
    desk = Desk(agent(restart=RestartPolicy(backoff_min_s=5.0)))
    desk.exit("a", 1, 3)
    desk.exit("a", 2, 3)
    before = desk.row("a")
    desk.late = True

    desk.tick(10.0)

    assert ("BACKOFF", True) == (before["state"], "exited with status 3; next start in " in before["why"])
    assert ("STARTING", "exited with status 3") == (desk.row("a")["state"], desk.row("a")["why"])


def test_an_agent_that_starts_does_not_say_what_it_waited_for() -> None:
    desk = Desk(agent("b", after=("a",)), agent("a"))
    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["all"]}))))
    desk.exit("a", 1)
    desk.exit("b", 1)
    desk.late = True
    desk.tell(ClientSaid(CLIENT, Verb("v", "start", pack({"names": ["b"]}))))
    before = desk.row("b")

    desk.late = False
    desk.tell(ClientSaid(CLIENT, Verb("v", "start", pack({"names": ["a"]}))))

    assert ("STOPPED", "starts when RUNNING: a (STOPPED)") == (before["state"], before["why"])
    assert ("RUNNING", "") == (desk.row("b")["state"], desk.row("b")["why"])


def test_a_lazy_agent_that_starts_does_not_say_that_a_prompt_starts_it() -> None:
    desk = Desk(agent(lazy=True))
    before = desk.row("a")
    desk.late = True

    desk.prompt(desk.open())

    assert ("STOPPED", "lazy: a prompt starts it") == (before["state"], before["why"])
    assert ("STARTING", "") == (desk.row("a")["state"], desk.row("a")["why"])


def test_who_takes_over_is_told_with_the_end_of_the_other_or_when_work_comes() -> None:
    desk = Desk(agent(understudies=1, restart=RestartPolicy(Comeback.TRANSIENT)))
    desk.tick()
    desk.exit("a", 1, 1)
    ended = desk.news[-1]
    desk.tick()
    desk.exit("a", 2, 0)
    idle = desk.news[-1]

    desk.prompt(desk.open())

    assert isinstance(ended, ActorEnded)
    assert isinstance(idle, ActorEnded)
    assert ("a#2", "") == (ended.heir, idle.heir)
    assert UnderstudyTookOver("a", "a", 3, 2) == desk.news[-1]
