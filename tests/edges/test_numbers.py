"""Numbers on the command line and in the environment: what nothing could come of is refused at once."""

import pytest

from understudy.supervisor.cli.parser import parse
from understudy.supervisor.numbers import duration_s, seconds, whole


@pytest.mark.parametrize("value", ["nan", "-5", "inf", "-inf", "1e400", "1e10", "soon", "", "9" * 5000])
def test_no_house_is_told_to_end_after_a_time_that_is_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["up", f"--idle-exit-s={value}"])

    assert 2 == caught.value.code
    text = "argument --idle-exit-s: {!r} must be a number of seconds, 0 or more, at most 1000000000"
    assert text.format(value[:64]) in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["tail x -n={}", "follow ID --from={}", "chaos --seed={}"])
@pytest.mark.parametrize("value", ["-5", "1.5", "nan", "", "²", "1_0", "9" * 20, "9" * 5000])
def test_what_is_no_whole_number_is_a_usage_error(
    arguments: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments.format(value).split(" "))

    assert 2 == caught.value.code
    assert f"{value[:64]!r} must be a whole number from 0 to " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-5s", "nan", "inf", "5d", "", "9" * 400 + "h", "999999h"])
def test_what_is_no_time_is_a_usage_error(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["chaos", f"--for={value}"])

    assert 2 == caught.value.code
    assert "is no time; write 60s, 5m or 1h" in capsys.readouterr().err


def test_numbers_are_read() -> None:
    assert [0.0, 0.2, 1e9] == [seconds(text) for text in ("0", "0.2", "1e9")]
    assert [90.0, 300.0, 5400.0, 60.0] == [duration_s(text) for text in ("90", "5m", "1.5h", " 60s ")]
    assert [0, 12] == [whole(12)(text) for text in ("0", "12")]
    options = parse(["up", "--idle-exit-s", "2.5"])
    assert 2.5 == options.idle_exit_s
    assert [10, 0, 60.0] == [parse(["tail", "x"]).lines, parse(["follow", "x"]).number, parse(["chaos"]).for_s]
