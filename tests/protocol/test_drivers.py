"""The table of drivers, which both sides read."""

import importlib
from dataclasses import fields

import pytest

from understudy.actors.actor import Actor
from understudy.protocol.drivers import DRIVERS, EXAMPLES, Driver
from understudy.supervisor.core.specs import AgentSpec


@pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
def test_a_driver_is_a_class_of_actors_and_needs_what_a_configuration_has(driver: Driver) -> None:
    if driver.home:
        module, _, name = driver.home.partition(":")
        assert issubclass(getattr(importlib.import_module(module), name), Actor)
    else:
        assert driver.needs == "play"
    assert not driver.needs or driver.needs in EXAMPLES
    assert not driver.needs or driver.needs in {each.name for each in fields(AgentSpec)}
