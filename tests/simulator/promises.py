"""What must hold, whatever happens: told what is sent, shown, recorded and heard, and checked after every step.

It keeps books of its own, outside the log and the core, and never acts.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.disk import Disk
from understudy.protocol.environments import launch_name, parts_of
from understudy.protocol.frames import ENTRY_OVERHEAD_BYTES, Accepted, Entry, unpack
from understudy.supervisor.core import invariants
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import LogState, MarkRow, Record, RestRow
from understudy.supervisor.core.house import House
from understudy.supervisor.core.specs import AgentSpec, OnCrash, OnHang

Turn = tuple[str, int]
Request = tuple[str, str]  # session, id


RUNS = (LogState.STARTED, LogState.CANCELLING)
SEEN = (*RUNS, LogState.ENDED)  # The states of turns that an agent may have got.
BROKEN = "AssertionError: broken by the schedule"


@dataclass(slots=True)
class Promises:
    """The books."""

    disk: Disk
    agents: dict[str, AgentSpec]
    texts: dict[Request, str] = field(default_factory=dict[Request, str])  # The first prompt of that name.
    prompters: dict[Request, tuple[str, int]] = field(default_factory=dict[Request, tuple[str, int]])
    accepted: dict[Turn, str] = field(default_factory=dict[Turn, str])
    requests: dict[Request, Turn] = field(default_factory=dict[Request, Turn])
    shown: dict[Turn, list[tuple[str, int]]] = field(default_factory=dict[Turn, list[tuple[str, int]]])
    endings: dict[Turn, str] = field(default_factory=dict[Turn, str])
    said: Counter[tuple[Turn, int]] = field(default_factory=Counter[tuple[Turn, int]])  # by the agent, for each epoch
    heard: Counter[tuple[Turn, int]] = field(default_factory=Counter[tuple[Turn, int]])  # in the log
    agent_ended: dict[Turn, tuple[str, int]] = field(default_factory=dict[Turn, tuple[str, int]])
    cancels: set[Turn] = field(default_factory=set[Turn])  # A client asked for it, whether or not that arrived.
    cancels_of_all: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])  # session, who, when
    cancel_told: set[Turn] = field(default_factory=set[Turn])
    cancel_sent: dict[tuple[str, int, Turn], float] = field(default_factory=dict[tuple[str, int, Turn], float])
    stops: set[tuple[str, int]] = field(
        default_factory=set[tuple[str, int]]
    )  # Incarnations that say so when they stop.
    forgotten_stops: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])  # By a supervisor that fell.
    asked: set[str] = field(default_factory=set[str])
    answers: dict[str, Any] = field(default_factory=dict[str, Any])  # What the log says the answer is.
    answers_got: dict[str, Any] = field(default_factory=dict[str, Any])  # What the agent was told.
    noted: dict[str, int] = field(default_factory=dict[str, int])  # The newest epoch that left a trace anywhere.
    reaped: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    prompted_at: dict[Turn, float] = field(default_factory=dict[Turn, float])
    broken: set[str] = field(default_factory=set[str])  # Sessions that were set apart: what is said there is not heard.
    on_crash: dict[str, OnCrash] = field(default_factory=dict[str, OnCrash])  # Other configurations interrupt, too.
    limits: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    modes: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # In which a session may be.
    asked_modes: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # All of a session.
    asking: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])  # Mode -> others at once.
    unknown: set[Turn] = field(default_factory=set[Turn])
    named: dict[Request, set[str]] = field(default_factory=dict[Request, set[str]])  # All prompts of that name.
    opened: dict[tuple[str, int], set[str]] = field(default_factory=dict[tuple[str, int], set[str]])  # By who may live.
    loose: set[Request] = field(default_factory=set[Request])  # What it named first may be lost with the power.
    ended: dict[str, str] = field(default_factory=dict[str, str])  # Agents that ended, and in which life of the house.
    brought: dict[str, str] = field(default_factory=dict[str, str])  # Which environment each open brings.
    personas: dict[str, Turn] = field(default_factory=dict[str, Turn])  # Before which turn each session had it.
    largest: int = 0

    def __post_init__(self) -> None:
        for agent in self.agents.values():
            self.on_crash[agent.name] = agent.on_crash
            self.limits[agent.name] = (agent.turns_max, agent.queued_turns_max)  # The configurations to come have less.

    # --- what the supervisor does ---

    def spawned(self, actor: str, epoch: int, living: list[int], known: int) -> None:
        """A fork is asked for while `living` incarnations of the line live; the supervisor was told of one `known`."""
        owner, own = parts_of(actor)
        served = [each for each in self.agents.values() if owner in (each.name, each.launch)]
        places = 0 if own else self.agents[owner].understudies
        places += sum(each.actors_max if each.sessions_per_actor else 1 for each in served)
        assert len(living) < places, f"{actor}#{epoch} is spawned while {living} live"
        before = max(known, self.noted.get(actor, 0))
        assert epoch > before, f"{actor}#{epoch} is spawned after #{before}"

    def note(self, actor: str, epoch: int) -> None:
        """The incarnation left a trace: its epoch must not be given out again."""
        self.noted[actor] = max(epoch, self.noted.get(actor, 0))

    def committed(self, record: Record, now: float, wanted: int) -> None:
        """The log has `record` now (and all before it); what ended by the ticket `wanted` was wanted since."""
        self.disk.commits.append([])
        for row in record.rows:
            match row:
                case Entry():
                    self._entry(row, now)
                case RestRow(state="EXITED") if record.ticket > wanted:
                    self.ended[row.agent] = row.life
                case MarkRow():
                    before = self.disk.marks.get((row.actor, row.epoch), 0)
                    assert row.n >= before, f"mark {row.n} of {row.actor}#{row.epoch} after {before}"
                case _:
                    pass
            self.disk.commit(Record(record.ticket, [row]))

    def power_failed(self, lost: int) -> None:
        """The last `lost` commits are gone with the machine: what was said of them holds no more, and clients are told."""
        self.disk.lose(lost)
        for known in (self.endings, self.asked, self.answers):
            known.clear()
        for entries in self.disk.entries.values():
            for entry in entries:
                self._seen_again(entry)
        there = {turn for turn, state in self.disk.states.items() if state in SEEN}
        for book in (self.shown, self.agent_ended):
            for turn in [turn for turn in book if turn not in there]:
                del book[turn]
        self.unknown |= there  # Marks of another boot say nothing: these may have been seen.
        self.prompted_at = {turn: at for turn, at in self.prompted_at.items() if turn in self.disk.turns}
        self.cancels = {turn for turn in self.cancels if turn in self.disk.turns}
        self.noted.clear()  # Nobody of that boot lives: their epochs may be given out again.
        self.cancel_told.clear()  # It may be the cancel that was lost.
        self.accepted.clear()
        recorded = {(session, row.request) for (session, _), row in self.disk.turns.items()}
        self.loose |= {each for each in self.texts if each not in recorded}
        self.requests = {each: turn for each, turn in self.requests.items() if each in recorded}
        self.modes = {session: {"", *modes} for session, modes in self.asked_modes.items()}  # An older one may be back.
        self.broken |= set(self.disk.sessions)  # Of what was said by those who fell with it, nobody knows how much.

    def _seen_again(self, entry: Entry) -> None:
        if entry.kind == "ended":
            self.endings[entry.session, entry.turn] = str(unpack(entry.body)["reason"])
        elif entry.kind == "asked":
            self.asked.add(unpack(entry.body)["ask"])
        elif entry.kind == "answered":
            self.answers[unpack(entry.body)["ask"]] = unpack(entry.body).get("result")

    def acknowledged(self, actor: str, epoch: int, number: int) -> None:
        """The actor heard that its numbers up to `number` are recorded."""
        mark = self.disk.marks.get((actor, epoch), 0)
        assert number <= mark, f"{actor}#{epoch} was told that {number} is recorded; the log has {mark}"

    def went(self, turn: Turn) -> None:
        """An actor heard that the turn may start."""
        state = self.disk.states.get(turn)
        assert state not in (None, LogState.QUEUED, LogState.CONTINUED), (
            f"turn {turn} may go, but is {state} in the log"
        )

    def forgot(self, turn: Turn) -> None:
        """An actor may use the turn's mark for another: nobody needs it any more."""
        state = self.disk.states.get(turn)
        assert state is LogState.ENDED, f"the mark of {turn} is forgotten, but it is {state} in the log"

    def killed_for_cancel(self, actor: str, epoch: int, turn: Turn, now: float) -> None:
        """An actor is ended because it did not cancel."""
        sent = self.cancel_sent.get((actor, epoch, turn))
        grace_s = self.agents[self.disk.sessions[turn[0]].agent].cancel_grace_s
        assert sent is not None, f"{actor}#{epoch} is killed for a cancel of {turn} that it was never sent"
        assert now >= sent + grace_s - 1e-6, f"{actor}#{epoch} is killed {now - sent:.3f} s after a cancel: {grace_s} s"

    # --- what the log says ---

    def _entry(self, entry: Entry, now: float) -> None:
        last = self.disk.last(entry.session)
        assert entry.first == last + 1, f"{entry.session} has number {entry.first} after {last}"
        assert entry.last >= entry.first
        self.largest = max(self.largest, len(entry.body) + ENTRY_OVERHEAD_BYTES)
        turn = (entry.session, entry.turn)
        match entry.kind:
            case "update":
                self._updates(turn, unpack(entry.body))
            case "ended":
                assert turn not in self.endings, f"turn {turn} ended as {self.endings[turn]}, and again"
                body = unpack(entry.body)
                self.endings[turn] = str(body["reason"])
                self._truthful(turn, str(body["reason"]), str(body.get("text", "")))
            case "asked":
                name = unpack(entry.body)["ask"]
                assert name not in self.asked, f"question {name} is asked twice"
                self.asked.add(name)
            case "answered":
                self._answered(unpack(entry.body))
            case "requeued":
                assert turn not in self.cancel_told, f"turn {turn} goes on, though its cancel was told"
                assert turn not in self.endings, f"turn {turn} goes on after its ending"
            case "note":
                self._plausible(turn, unpack(entry.body), now)
            case "prompt":
                self.prompted_at[turn] = now
            case _:
                pass

    def _plausible(self, turn: Turn, note: dict[str, Any], at: float) -> None:
        """A note on a turn that takes long must not say more than can be."""
        since_s = at - self.prompted_at.get(turn, at)
        said_s = max(note.get("takes_s", 0.0), note.get("quiet_s", 0.0))
        assert said_s <= since_s + 1e-6, f"turn {turn}, {since_s:.1f} s after its prompt: {note}"

    def _updates(self, turn: Turn, updates: list[dict[str, Any]]) -> None:
        for update in updates if turn[0] not in self.broken else ():
            key = ((turn[0], update["turn"]), update["by"])
            assert update["at"] == self.heard[key], f"update {update['at']} of {key} after {self.heard[key]}"
            self.heard[key] += 1
            assert turn[1] in (0, update["turn"]), f"an update of {key} is recorded for turn {turn[1]}"
            assert turn not in self.endings, f"an update of {turn} after its ending"

    def _truthful(self, turn: Turn, reason: str, text: str) -> None:
        spec = self.agents[self.disk.sessions[turn[0]].agent]
        on_crash = self.on_crash[spec.name]
        shown, own = self.shown.get(turn, []), self.agent_ended.get(turn)
        match reason:
            case "end_turn":
                assert own is not None, f"turn {turn} ended as end_turn, which its agent did not say"
                assert own[0] == "end_turn", f"turn {turn} ended as end_turn, but its agent said {own[0]}"
                heard, said = self.heard[turn, own[1]], self.said[turn, own[1]]
                assert heard == said or turn[0] in self.broken, f"turn {turn} lost some of what was said"
            case "cancelled":
                known_stops = self.stops if shown else self.forgotten_stops
                launch = launch_name(spec.launch or spec.name, self.disk.sessions[turn[0]].environment)
                stopped = own is not None and (launch, own[1]) in known_stops
                asked = turn in self.cancels or any(
                    each[0] == turn[0] and self._means(turn, *each) for each in self.cancels_of_all
                )
                hung = spec.on_hang is OnHang.CANCEL or self.agents[spec.launch or spec.name].memory_soft_mb
                assert asked or stopped or hung, f"turn {turn} was cancelled by nobody"
            case "interrupted":
                assert shown or on_crash is OnCrash.RETRY or turn in self.unknown, (
                    f"{turn} was interrupted, but no agent had got it: {text}"
                )
                assert turn not in self.cancel_told, f"turn {turn} was interrupted, though its cancel was told"
            case _:
                assert reason == "failed", f"turn {turn} ended as {reason}"
                known = ("cannot run", "before this turn could begin", BROKEN)
                assert any(each in text for each in known), f"turn {turn} failed: {text}"

    def _answered(self, body: dict[str, Any]) -> None:
        name = body["ask"]
        assert name in self.asked, f"question {name} is answered and was not asked"
        assert name not in self.answers, f"question {name} is answered twice"
        self.answers[name] = body.get("result")

    # --- what agents and clients see ---

    def set_mode(self, session: str, mode: str) -> None:
        """A client asks for a mode: from now on it may be so. Of what is asked for at once nobody knows the order."""
        self.modes.setdefault(session, {""}).add(mode)
        self.asked_modes.setdefault(session, set()).add(mode)
        asking = self.asking.setdefault(session, {})
        asking[mode] = bool(asking)
        if len(asking) > 1:
            asking.update(dict.fromkeys(asking, True))

    def mode_is_set(self, session: str, mode: str) -> None:
        """A client heard that it is so: what was before is so no more."""
        if not self.asking[session].pop(mode):
            self.modes[session] = {mode, *self.asking[session]}

    def plays_in_mode(self, session: str, mode: str) -> None:
        """The agent gets a prompt while it is in `mode`."""
        known = self.modes.get(session, {""})
        assert mode in known, f"a prompt of {session} is played in mode {mode!r}, though {known} was set"

    def brings(self, request: str, environment: str) -> None:
        """A client opens a session with an environment of its own, "" for none."""
        self.brought[request] = environment

    def open(self, actor: str, epoch: int, session: str, started_for: str | None) -> None:
        """The actor's program is given the session: one of its agent's, and nobody else's.

        Whom it plays says the log, or the keeper: the agent that it was `started_for`.
        """
        spec, title = self.agents[self.disk.sessions[session].agent], f"{actor}#{epoch}"
        own = self.brought[self.disk.sessions[session].request]
        launched = launch_name(spec.launch or spec.name, own)
        assert actor == launched, f"{title} is given {session}, of {spec.name}: launched otherwise than {launched}"
        plays = self.disk.cast.get((actor, epoch), (started_for, 0))[0]
        assert plays == spec.name, f"{title} is given {session}, of {spec.name}, and is known to play {plays!r}"
        its = self.opened.setdefault((actor, epoch), set())
        its.add(session)
        if spec.sessions_per_actor:
            assert len(its) <= spec.sessions_per_actor, f"{title} is given {sorted(its)}, more than its program holds"
        if spec.sessions_per_actor or own:
            others = [who for who, known in self.opened.items() if session in known and who != (actor, epoch)]
            assert not others, f"{title} is given {session}, which {others} know and may play"

    def reap(self, actor: str, epoch: int) -> None:
        """The keeper says that the actor is gone."""
        self.reaped.add((actor, epoch))
        self.opened.pop((actor, epoch), None)

    def idled(self, actor: str, epoch: int) -> None:
        """The actor is told to end because it has nothing to do."""
        has = [turn for turn, by in self.disk.turn_actors.items() if by == (actor, epoch)]
        runs = [turn for turn in has if self.disk.states[turn] in RUNS and turn[0] not in self.broken]
        assert not runs, f"{actor}#{epoch} is stopped for idleness in {runs}"

    def show(self, actor: str, epoch: int, turn: Turn, continues: bool) -> None:
        """The agent gets the prompt, or is asked to go on."""
        before = self.shown.setdefault(turn, [])
        on_crash = self.on_crash[self.disk.sessions[turn[0]].agent]
        over = turn in self.endings and turn[0] not in self.broken  # There a go may have been on its way.
        assert not over, f"{actor}#{epoch} plays turn {turn}, which is over"
        assert not before or on_crash is not OnCrash.INTERRUPT, f"the prompt of {turn} reached {before} and #{epoch}"
        assert not before or continues or on_crash is OnCrash.RETRY, f"the prompt of {turn} is repeated by #{epoch}"
        before.append((actor, epoch))

    def tell_persona(self, turn: Turn, persona: str, continues: bool) -> None:
        """The agent gets the prompt with `persona` before it, "" for none: before all else, and once by what the log knows."""
        wanted = self.agents[self.disk.sessions[turn[0]].agent].persona
        assert persona in ("", wanted), f"turn {turn} is played as {persona!r}, not as {wanted!r}"
        assert not (persona and continues), f"the agent is told its persona again when {turn} continues"
        before = self.personas.get(turn[0])
        if persona:
            memory = unpack(self.disk.memories.get(turn[0], b"")) or {}
            first = before in (None, turn) or not memory.get("persona_turn") or turn[0] in self.broken
            assert first, f"the agent is told its persona before {turn}, and was before {before}"
            self.personas[turn[0]] = turn
        else:
            assert before or not wanted, f"the agent plays {turn}, and was never told its persona {wanted!r}"

    def answer_given(self, name: str, result: Any, error: str) -> None:
        """The agent was told the answer to its question."""
        if error:
            return
        known = self.answers_got.setdefault(name, result)
        assert known == result, f"question {name} was answered with {known} and {result}"
        if name in self.answers:
            assert self.answers[name] == result, f"{name} was answered with {result}; the log has {self.answers[name]}"

    def accept(self, frame: Accepted) -> None:
        """A client heard that its prompt is recorded."""
        turn = (frame.session, frame.turn)
        request = (frame.session, frame.request)
        known = self.requests.setdefault(request, turn)
        assert known == turn, f"request {request} was accepted as {known} and {turn}"
        self.accepted[turn] = frame.request
        assert turn in self.disk.turns, f"turn {turn} was accepted and is not in the log"
        text = unpack(self.disk.prompt(*turn).body)["content"][0]["text"]
        named = self.named[request] if request in self.loose else {self.texts[request]}
        assert text in named, f"request {request} became {text}"

    def prompt(self, request: Request, text: str, client: str, at: int) -> None:
        """A client hands in a prompt, as the `at`th thing that clients ask for."""
        self.named.setdefault(request, set()).add(text)
        if request not in self.texts:
            self.texts[request], self.prompters[request] = text, (client, at)

    def cancel(self, who: tuple[str, int], session: str, turn: int) -> None:
        """A client asks for a cancel, of one turn or of all. `who`: its name, and the how-manieth thing that is."""
        if turn:
            self.cancels.add((session, turn))
        else:
            self.cancels_of_all.append((session, *who))

    def _means(self, turn: Turn, session: str, client: str, at: int) -> bool:
        """Whether a cancel of everything means the turn: not what the same client prompted afterwards."""
        prompter, prompted_at = self.prompters[session, self.disk.turns[turn].request]
        return prompter != client or prompted_at < at

    def told_cancelled(self, session: str, turn: int, count: int) -> None:
        """A client heard that `count` turns are being cancelled."""
        if turn and count:
            self.cancel_told.add((session, turn))

    def arrive(self, entry: Entry) -> None:
        """A follower got an entry."""
        assert self.disk.last(entry.session) >= entry.last, f"{entry.first} of {entry.session} is told, not recorded"

    # --- after each step ---

    def check(self, core: Core) -> None:
        """Look at the house itself: its queues within their limits, and nothing set apart."""
        invariants.of_house(core.house)
        for name, agent in core.house.agents.items():
            running, queued = self.limits[name]
            assert agent.running <= running, f"{agent.running} turns run on {name}"
            # Those that ran may be back.
            assert agent.queued <= queued + running, f"{agent.queued} turns wait for {name}"
        for session in core.house.sessions.values():
            assert session.quarantined in ("", BROKEN), session.quarantined
        self._see_rest(core.house)

    def _see_rest(self, house: House) -> None:
        """See that what is not in memory has nothing to do, and that what is there is as the log has it."""
        for (name, number), state in self.disk.states.items():
            its = self.disk.sessions[name].agent in house.agents
            there = name in house.sessions or state is LogState.ENDED or not its
            assert there, f"turn {number} of {name} is {state}, and the session is not in memory"
        for name, session in house.sessions.items() if house.committed == house.ticket else ():
            known = (session.last, session.memory.size)
            logged = (self.disk.last(name), len(self.disk.memories.get(name, b"")))
            assert known == logged, f"{name} has (last, memory) {known}, the log has {logged}"
