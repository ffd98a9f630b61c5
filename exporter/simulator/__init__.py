"""A simulated Work API: the demo's data source and the ground truth of the tests.

It shares no code with the exporter: a field misspelt in both would go unnoticed.
"""

from exporter.simulator.app import Simulator, make_app
from exporter.simulator.environment import Environment, Rules, Stats, Transition, Truth
from exporter.simulator.fleet import DEMO_ENVIRONMENTS, DemoEnvironment, Fleet, demo_world
from exporter.simulator.options import Call, Credential, Options
from exporter.simulator.serving import serving
from exporter.simulator.world import World

__all__ = [
    "DEMO_ENVIRONMENTS",
    "Call",
    "Credential",
    "DemoEnvironment",
    "Environment",
    "Fleet",
    "Options",
    "Rules",
    "Simulator",
    "Stats",
    "Transition",
    "Truth",
    "World",
    "demo_world",
    "make_app",
    "serving",
]
