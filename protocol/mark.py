"""The mark `HOUSE/ACTOR#EPOCH` in the environment of all that an actor starts: by it strays are known. Linux.

And the titles by which people, and `chaos`, know who is who below a keeper; `ACTOR` goes on with the actor's name.
"""

MARK_VARIABLE = "UNDERSTUDY_MARK"
SUPERVISOR = "understudy: supervisor"
BLANK = "understudy: blank"
ACTOR = "understudy: actor "


def mark_of(pid: int) -> str:
    """Return the mark that a process bears, "" for none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return ""
    _, _, found = (b"\0" + environment).partition(f"\0{MARK_VARIABLE}=".encode())
    return found.partition(b"\0")[0].decode(errors="replace")
