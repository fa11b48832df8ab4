"""Persona files: who an agent is to be, in the form that agents of Claude Code have. Pure.

Front matter between two lines `---` (`name: …` and so on, one to a line), then the text that is given to the agent. The
front matter is not read as YAML: in people's own files a description is any text, colons and all.
"""

from dataclasses import dataclass

from understudy.protocol.sizes import PERSONA_CHARACTERS_MAX

FENCE = "---"


@dataclass(frozen=True, slots=True)
class PersonaFile:
    """What stands in one. `front`: the front matter's keys and their texts, in one line each."""

    front: dict[str, str]
    text: str


def read(content: str) -> PersonaFile:
    """Return what stands in a persona file. Raises `ValueError` when there is no text, or the front matter has no end."""
    lines = content.removeprefix("\ufeff").splitlines()
    front: dict[str, str] = {}
    if lines and lines[0].strip() == FENCE:
        end = next((at for at, line in enumerate(lines[1:], 1) if line.strip() == FENCE), None)
        if end is None:
            raise ValueError(f"its front matter begins with {FENCE} and does not end: add a line {FENCE} behind it")
        for line in lines[1:end]:
            key, colon, value = line.partition(":")
            if colon and key.strip() and not key[0].isspace():
                front[key.strip()] = value.strip().strip("\"'")
        lines = lines[end + 1 :]
    text = "\n".join(lines).strip()
    if not text:
        raise ValueError("has no text for the agent behind its front matter")
    if len(text) > PERSONA_CHARACTERS_MAX:
        raise ValueError(f"has {len(text)} characters of text; the limit is {PERSONA_CHARACTERS_MAX}")
    return PersonaFile(front, text)
