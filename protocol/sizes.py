"""How large one thing may be: the bounds of every field, as types that a decoder checks. Pure.

The bound of a field stands in its frame's definition; what a body may hold is `bodies`' to say. Whatever keeps these
bounds fits a frame (`BODY_BYTES_MAX`) on all of its way, with what is added to it there.
"""

from typing import Annotated

from msgspec import Meta

MESSAGE_BYTES_MAX = 1 << 20  # A ZeroMQ message above this is never read: MAXMSGSIZE.
PART_BYTES = 1 << 16  # So much is said in one message: whoever has more to say lets others through in between.
PIECE_BYTES_MAX = 1 << 19  # So much of one is heard: earlier versions say that.
FRAMES_PER_MESSAGE = 64  # Said; up to `FRAMES_PER_MESSAGE_MAX` are heard.
BODY_BYTES_MAX = 32 << 20  # A frame joined from parts.
FRAMES_PER_MESSAGE_MAX = 1 << 14
ENTRY_BYTES_MAX = 16 << 20  # A prompt, what an agent says at once, a question, its answer; the body of a call.
OPENING_BYTES_MAX = 4 << 20  # What opens a session; it goes with each of its hand-overs,
MEMORY_BYTES_MAX = 4 << 20  # as does what a driver remembers for it.
VERB_BYTES_MAX = 1 << 18
RESULT_BYTES_MAX = BODY_BYTES_MAX - (1 << 12)  # Beside it a frame has ids only.
ENTRIES_BYTES = 1 << 20  # Entries go to a follower in frames of about so much, or of one entry.
NESTING_MAX = 64  # Of a body. The log and JSON-RPC put it some levels deeper; what reads msgpack takes hundreds.
VALUES_MAX = 250_000  # Of a body: how many things it holds, keys among them. Each byte can cost a reader a hundred.

ID_CHARACTERS_MAX = 200
LABEL_CHARACTERS_MAX = 200  # What people call something.
AGENT_CHARACTERS_MAX = 64
METHOD_CHARACTERS_MAX = 200
CODE_CHARACTERS_MAX = 100
REASON_CHARACTERS_MAX = 200  # Why a turn ended, in one word.
TEXT_CHARACTERS_MAX = 10_000  # Of a fault, a goodbye, an ending.
PATH_CHARACTERS_MAX = 4096
SERVES_MAX = 100
UPDATES_PER_FRAME_MAX = 512
NAMES_MAX = 1000  # Of agents in one verb.
NUMBER_BITS = 40  # Of the numbers of a session's log.
NUMBER_MAX = (1 << NUMBER_BITS) - 1
FLOAT_MAX = 1.7976931348623157e308  # The largest number that is finite.
INTEGERS = range(-(2**63), 2**64)  # What msgpack holds.

Id = Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)]
RequestId = Annotated[str, Meta(min_length=1, max_length=ID_CHARACTERS_MAX)]
RequestName = Annotated[str, Meta(max_length=ID_CHARACTERS_MAX + 20)]  # Of a fault: an id, or `answer:` and an id.
Label = Annotated[str, Meta(max_length=LABEL_CHARACTERS_MAX)]
AgentName = Annotated[str, Meta(max_length=AGENT_CHARACTERS_MAX)]
Method = Annotated[str, Meta(max_length=METHOD_CHARACTERS_MAX)]
Code = Annotated[str, Meta(max_length=CODE_CHARACTERS_MAX)]
Reason = Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)]
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
FolderPath = Annotated[str, Meta(max_length=PATH_CHARACTERS_MAX)]
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
AnyBody = Annotated[bytes, Meta(max_length=RESULT_BYTES_MAX)]  # Of a client's `doors` knows the bound: it tells more.
EntryBody = Annotated[bytes, Meta(max_length=ENTRY_BYTES_MAX)]
Opening = Annotated[bytes, Meta(max_length=OPENING_BYTES_MAX)]
Memory = Annotated[bytes, Meta(max_length=MEMORY_BYTES_MAX)]
Piece = Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES_MAX)]
