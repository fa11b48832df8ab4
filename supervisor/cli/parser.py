"""What the command line takes: verbs, options, and an example for each. Imports nothing heavy."""

import argparse
import os
from collections.abc import Callable
from typing import NoReturn, TypeVar

from understudy import __version__
from understudy.protocol import environments
from understudy.supervisor.numbers import COUNT_MAX, NUMBER_MAX, duration_s, seconds, whole

T = TypeVar("T")

DESCRIPTION = """Runs coding agents as supervised actors: each in a process of its own, restarted when it
falls, kept within its limits, with a durable numbered log of every session.

  understudy demo                        see it work, in a few seconds
  understudy up -d                       start a house in the background
  understudy prompt rehearsal "hello"    ask an agent something
  understudy status                      who is up, and what waits for what
  understudy acp                         what an editor starts (see the README)"""

KINDS = "of kill,stop,segv,memory,files,supervisor,garbage (default: all these) and disk (a mounted state folder)"


class Parser(argparse.ArgumentParser):
    """Says at a mistake where help is."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        super().error(f"{message}; see {self.prog} --help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options; exits with status 2 and a usage line on bad ones."""
    parser = Parser(prog="understudy", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    # With `prog` given, argparse need not format a usage line to find it out: that imports archive formats.
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, prog="understudy")

    def verb(name: str, text: str, example: str) -> Parser:
        made = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("--runtime-dir", help="folder of the sockets (or $UNDERSTUDY_RUNTIME_DIR)")
        made.add_argument("--state-dir", help="folder of the log (or $UNDERSTUDY_STATE_DIR)")
        return made

    up = verb("up", "start a house: keeper, supervisor and the cast", "understudy up -d -c understudy.toml")
    up.add_argument("-d", "--detach", action="store_true", help="in the background; returns when it is ready")
    up.add_argument("-c", "--config", metavar="FILE", help="the configuration (default: as the README says)")
    up.add_argument(
        "--idle-exit-s", type=_checked(seconds), metavar="SECONDS", help="end after so long without a client"
    )
    up.add_argument(
        "--check",
        action="store_true",
        help="only load the code and the configuration, and tell what is wrong, and what is in vain",
    )
    verb("reload", "take the installed code and the configuration anew; agents work on", "understudy reload")
    verb("doctor", "look for what is wrong with the installation, the configuration and the log", "understudy doctor")
    shutdown = verb("shutdown", "end the house: agents are asked, waited for, killed, swept", "understudy shutdown")
    shutdown.add_argument("--hurry", action="store_true", help="do not wait for the agents")
    for name, text in (("status", "show the actors"), ("sessions", "list the sessions, the newest first")):
        made = verb(name, text, f"understudy {name} --json")
        made.add_argument("--json", action="store_true", help="as a JSON array")
    _controls(verb)
    _prompt(verb)
    follow = verb("follow", "show a session from a number on, and go on as it grows", "understudy follow ID --from 0")
    follow.add_argument("session")
    follow.add_argument(
        "--from", dest="number", type=_checked(whole(NUMBER_MAX)), default=0, metavar="N", help="the first number"
    )
    follow.add_argument("--json", action="store_true", help="entries as JSON lines")
    acp = verb("acp", "be the ACP agent that an editor starts, on stdin and stdout", "understudy acp --agent claude")
    acp.add_argument("--agent", metavar="NAME", help="who answers (default: the first of the cast)")
    acp.add_argument("-c", "--config", metavar="FILE", help="for the house, when none runs yet")
    _chaos(verb)
    verb("demo", "play a house with real processes, kill some, and show what the user sees", "understudy demo")
    return parser.parse_args(arguments)


def _prompt(verb: Callable[[str, str, str], Parser]) -> None:
    prompt = verb("prompt", "give an agent a prompt and stream its answer", 'understudy prompt rehearsal "hello"')
    prompt.add_argument("agent")
    prompt.add_argument("text", help="the prompt; - reads it from standard input")
    where = prompt.add_mutually_exclusive_group()
    where.add_argument("--session", metavar="ID", help="go on in this session")
    prompt.add_argument("--cwd", metavar="DIR", help="the session's folder (default: this one)")
    where.add_argument(
        "--env",
        type=_checked(_variable),
        action="append",
        metavar="NAME[=VALUE]",
        help="a variable for this session alone, of yours when no value is given; as often as you like",
    )
    prompt.add_argument("--allow", action="store_true", help="allow whatever the agent asks")
    prompt.add_argument("--json", action="store_true", help="entries as JSON lines, the last one `ended`")
    prompt.add_argument("-c", "--config", metavar="FILE", help="for the house, when none runs yet")


def _variable(text: str) -> tuple[str, str]:
    """Return NAME=VALUE as a pair, and NAME with the value that it has here."""
    name, equals, value = text.partition("=")
    if not equals and name not in os.environ:
        raise ValueError(f"{name} is not set here: write {name}=VALUE")
    value = value if equals else os.environ[name]
    if wrong := environments.wrong_with({name: value}):
        raise ValueError(wrong)
    return name, value


def _chaos(verb: Callable[[str, str, str], Parser]) -> None:
    chaos = verb(
        "chaos", "harm a house under load, and judge what became of its promises", "understudy chaos --for 60s"
    )
    chaos.add_argument(
        "--seed",
        type=_checked(whole(NUMBER_MAX)),
        metavar="N",
        help="of the faults' order and victims (default: a new one)",
    )
    chaos.add_argument(
        "--for",
        dest="for_s",
        type=_checked(duration_s),
        default=60.0,
        metavar="TIME",
        help="60s, 5m, 1h (default: 60s)",
    )
    chaos.add_argument("--faults", default="", metavar="KINDS", help=KINDS)
    chaos.add_argument("--yes", action="store_true", help="do not ask before harming the house at --runtime-dir")
    chaos.add_argument("--json", action="store_true", help="the report as JSON")
    chaos.add_argument("-c", "--config", metavar="FILE", help="the cast (default: one made for chaos)")


def _checked(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return `read` so that argparse shows what its `ValueError` says."""

    def check(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return check


def _controls(verb: Callable[[str, str, str], Parser]) -> None:
    """Add what a person does with agents and programs."""
    for name, text in (
        ("start", "start agents or programs, and return when they are ready"),
        ("stop", "stop agents or programs until they are started again"),
        ("restart", "stop agents or programs and start them again"),
    ):
        made = verb(name, text, f"understudy {name} claude")
        made.add_argument("names", nargs="+", metavar="NAME|all")
        made.add_argument(
            "--timeout",
            type=_checked(seconds),
            default=120.0,
            metavar="SECONDS",
            help="wait so long at most (default 120)",
        )
        made.add_argument("--no-wait", action="store_true", help="return when it is under way")
    send = verb(
        "signal",
        "send a signal to the program of an agent, to each where several actors play it",
        "understudy signal HUP web",
    )
    send.add_argument("signal", metavar="SIGNAL", help="a name like HUP, or a number")
    send.add_argument("names", nargs="+", metavar="NAME|all")
    pid = verb(
        "pid",
        "show the process id of an agent's actor (of each, where it has several) or of one by its line in status; 0: none",
        "understudy pid claude",
    )
    pid.add_argument("name", nargs="?", metavar="NAME")
    tail = verb("tail", "show the end of a log", "understudy tail -f -n 50 web")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as it grows; Ctrl-C ends it")
    tail.add_argument(
        "-n",
        dest="lines",
        type=_checked(whole(COUNT_MAX)),
        default=10,
        metavar="LINES",
        help="how many lines (default 10)",
    )
    tail.add_argument("name", metavar="NAME")
