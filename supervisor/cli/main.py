"""The command line: parses, dispatches; every verb's work is in its own file, imported when needed."""

import errno
import io
import os
import sys

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
QUICK_VERBS = (["status"], ["sessions"], ["shutdown"])


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    _open_streams()
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in UNWRITTEN:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Or the exit fails for what is unwritten.
        if not isinstance(error, BrokenPipeError):
            print(f"understudy: the output cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_ERROR
    if argv is None and arguments[:1] in QUICK_VERBS:
        os._exit(status)  # All that is left is to free memory, which takes an eighth of `status`.
    return status


def _open_streams() -> None:
    """Open what the caller closed of the three streams, or what is opened next takes their places and our output.

    What cannot be written in the terminal's encoding is shown escaped.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest that is free: this one.
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["acp"] and not {"-h", "--help"} & set(arguments):
        return _acp(arguments[1:])
    from understudy.supervisor.cli.parser import parse

    options = parse(arguments)
    try:
        return _run(options)
    except Exception as error:
        text = _operating_error(error)
        if text is None:
            raise
        print(f"understudy: {text}", file=sys.stderr)
        return EXIT_ERROR


def _acp(arguments: list[str]) -> int:
    """Start the editor's side at once: it answers `initialize` before anything heavy is imported."""
    from understudy.supervisor.edges.acp import main as edge

    known = {"--agent": "", "--runtime-dir": "", "--state-dir": "", "-c": "", "--config": ""}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in known or not (equals or rest):
            print(f"understudy acp: unknown or incomplete option {name}; see understudy acp --help", file=sys.stderr)
            return EXIT_USAGE
        known[name] = value if equals else rest.pop(0)
    return edge(known["--agent"], known["--runtime-dir"], known["--state-dir"], known["-c"] or known["--config"])


def _run(options: object) -> int:
    match getattr(options, "verb", ""):
        case "status" | "sessions" | "shutdown":
            from understudy.supervisor.cli import house

            return house.run(options)
        case "start" | "stop" | "restart" | "signal" | "pid" | "tail":
            from understudy.supervisor.cli import control

            return control.run(options)
        case "reload":
            from understudy.supervisor.cli import reload

            return reload.run(options)
        case "doctor":
            from understudy.supervisor.cli import doctor

            return doctor.run(options)
        case "up":
            from understudy.supervisor.cli import up

            return up.run(options)
        case "prompt" | "follow":
            from understudy.supervisor.cli import talk

            return talk.run(options)
        case "chaos":
            from understudy.supervisor.cli import chaos

            return chaos.run(options)
        case "demo":
            from understudy.supervisor.cli.demo import run as play

            return play()
        case other:
            raise AssertionError(f"the parser let {other!r} through")


def _operating_error(error: Exception) -> str | None:
    """Return the text of an error that is not ours to debug, None for a defect."""
    from understudy.protocol.errors import UnderstudyError
    from understudy.supervisor.starting import UpError

    if isinstance(error, UnderstudyError):
        return error.text
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return "the folder that you are in is gone: go to another one (cd)"
    return str(error) if isinstance(error, UpError) else None


def _is_nowhere() -> bool:
    """Return whether this process's folder was removed."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return True
    return False
