"""How large one thing may be: the bounds of every field, as types that a decoder checks. Pure.

A frame's definition names the bound of each field; `bodies` says what a body may hold. A frame grows on its way: a prompt
goes on to the actor with its session's opening and memory. The bounds are so that even then it is no larger than
`BODY_BYTES_MAX`, so what was accepted can always be delivered.
"""

from typing import Annotated

from msgspec import Meta

MESSAGE_BYTES_MAX = 1 << 20  # libzmq ends a connection on which a larger message comes (MAXMSGSIZE).
PART_BYTES = 1 << 16  # What one message of ours holds at most: more goes in several, and others get through in between.
PIECE_BYTES_MAX = 1 << 19  # Larger parts than ours are understood, because earlier versions send them.
FRAMES_PER_MESSAGE = 64  # In a message of ours; up to `FRAMES_PER_MESSAGE_MAX` are understood.
BODY_BYTES_MAX = 32 << 20  # A frame joined from parts.
FRAMES_PER_MESSAGE_MAX = 1 << 14
ENTRY_BYTES_MAX = 16 << 20  # A prompt, one thing that an agent says, a question, an answer, or the body of a call.
OPENING_BYTES_MAX = 4 << 20  # What opens a session. It goes along with each hand-over of a turn.
MEMORY_BYTES_MAX = 4 << 20  # What a driver remembers for a session. It goes along as well.
PERSONA_CHARACTERS_MAX = 32 << 10
VERB_BYTES_MAX = 1 << 18
ENVIRONMENT_BYTES_MAX = 1 << 17  # All names and values of a session's own environment.
VARIABLES_MAX = 2_000  # So many of them.
RESULT_BYTES_MAX = BODY_BYTES_MAX - (1 << 12)  # The frame around it has ids only, which need less than 4 KiB.
ENTRIES_BYTES = 1 << 20  # A frame of entries for a follower holds about so much, or one entry that is larger.
# Of a body. The log and JSON-RPC wrap it in some more levels; readers of msgpack and JSON take hundreds.
NESTING_MAX = 64
# Of a body, keys included: a value that is one byte long can cost its reader a hundred bytes of memory.
VALUES_MAX = 250_000

ID_CHARACTERS_MAX = 200
LABEL_CHARACTERS_MAX = 200  # A name that people give to something.
AGENT_CHARACTERS_MAX = 64
ENVIRONMENT_CHARACTERS = 16  # The name under which the house keeps an environment: see `environments`.
METHOD_CHARACTERS_MAX = 200
CODE_CHARACTERS_MAX = 100
REASON_CHARACTERS_MAX = 200  # Why a turn ended: one word.
TEXT_CHARACTERS_MAX = 10_000  # A text for people, in a fault, a goodbye or an ending.
PATH_CHARACTERS_MAX = 4096
SERVES_MAX = 100
UPDATES_PER_FRAME_MAX = 512
NAMES_MAX = 1000  # The agents that one verb names.
NUMBER_BITS = 40  # The numbers of a session's log have so many bits.
NUMBER_MAX = (1 << NUMBER_BITS) - 1
FLOAT_MAX = 1.7976931348623157e308  # The largest number that is finite.
INTEGERS = range(-(2**63), 2**64)  # What msgpack holds.

Id = Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)]
RequestId = Annotated[str, Meta(min_length=1, max_length=ID_CHARACTERS_MAX)]
# What a fault is about: an id, or `answer:` and an id.
RequestName = Annotated[str, Meta(max_length=ID_CHARACTERS_MAX + 20)]
Label = Annotated[str, Meta(max_length=LABEL_CHARACTERS_MAX)]
AgentName = Annotated[str, Meta(max_length=AGENT_CHARACTERS_MAX)]
LaunchName = Annotated[str, Meta(max_length=AGENT_CHARACTERS_MAX + 1 + ENVIRONMENT_CHARACTERS)]
Method = Annotated[str, Meta(max_length=METHOD_CHARACTERS_MAX)]
Code = Annotated[str, Meta(max_length=CODE_CHARACTERS_MAX)]
Reason = Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)]
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
FolderPath = Annotated[str, Meta(max_length=PATH_CHARACTERS_MAX)]
Variable = Annotated[str, Meta(max_length=ENVIRONMENT_BYTES_MAX)]
Variables = Annotated[dict[Variable, Variable], Meta(max_length=VARIABLES_MAX)]
Methods = Annotated[list[Method], Meta(max_length=SERVES_MAX)]
Version = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Pid = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
UpdateCount = Annotated[int, Meta(ge=1, le=UPDATES_PER_FRAME_MAX)]
ActorNumber = Annotated[int, Meta(ge=0, le=2**62)]  # An actor says more in its life than one session holds.
Bytes = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
WallTime = Annotated[float, Meta(ge=-1e12, le=1e12)]
Finite = Annotated[float, Meta(ge=-FLOAT_MAX, le=FLOAT_MAX)]
# For what clients say there are narrower bounds in `doors`, which says more about what is wrong.
AnyBody = Annotated[bytes, Meta(max_length=RESULT_BYTES_MAX)]
EntryBody = Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX)]
Opening = Annotated[bytes, Meta(max_length=OPENING_BYTES_MAX)]
Persona = Annotated[str, Meta(max_length=PERSONA_CHARACTERS_MAX)]
Memory = Annotated[bytes, Meta(max_length=MEMORY_BYTES_MAX)]
Piece = Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES_MAX)]
