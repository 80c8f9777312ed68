"""Suites: a base with the diffs, DIT adapters, oracle and questions that belong to it.

A suite is found by its name in the catalogue, read from a TOML file, or made of a base and up to three other sources.
It also has a trigger format and the world that answers are graded by. Listing a suite reads only its small files. The
base is loaded when it is first used, by the one worker thread that owns it.
"""

from dit_core.suite.base import LoadOptions, Requirements
from dit_core.suite.catalog import SUITE_FILE, generic_suite, load_suite
from dit_core.suite.diffs import Origin
from dit_core.suite.spec import AdapterInfo, OracleInfo, SuiteSpec, Task
from dit_core.suite.suite import Suite

__all__ = [
    "SUITE_FILE",
    "AdapterInfo",
    "SuiteSpec",
    "LoadOptions",
    "Requirements",
    "OracleInfo",
    "Origin",
    "Suite",
    "Task",
    "generic_suite",
    "load_suite",
]
