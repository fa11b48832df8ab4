"""How large one thing may be, so that whatever carries it on its way fits a frame (`BODY_BYTES_MAX`). Pure."""

from understudy.protocol.frames import ID_CHARACTERS_MAX, Answer, Call, FromClient, Open, Prompt

ENTRY_BYTES_MAX = 16 << 20  # A prompt, what an agent says at once, a question, its answer; the body of a call.
OPENING_BYTES_MAX = 4 << 20  # What opens a session; it goes with each of its hand-overs,
MEMORY_BYTES_MAX = 4 << 20  # as does what a driver remembers for it.


def too_large(frame: FromClient) -> str:
    """Say which part of a client's frame is larger than its limit, "" when none is."""
    match frame:
        case Prompt(body=body, serves=serves):
            what, size, most = "the prompt", len(body) + sum(map(len, serves)), ENTRY_BYTES_MAX
        case Answer(body=body, error=error):
            what, size, most = "the answer", len(body) + len(error), ENTRY_BYTES_MAX
        case Call(body=body):
            what, size, most = "the body of the call", len(body), ENTRY_BYTES_MAX
        case Open(body=body, cwd=cwd):
            what, size, most = "what opens the session", len(body) + len(cwd), OPENING_BYTES_MAX
        case _:
            return ""
    if size > most:
        return f"{what} has {size} bytes; the limit is {most}: put it into a file and name that"
    request = "" if isinstance(frame, Answer) else frame.request
    if len(request) > ID_CHARACTERS_MAX:
        return f"the id of {what} has {len(request)} characters; the limit is {ID_CHARACTERS_MAX}"
    return ""
