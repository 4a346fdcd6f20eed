"""Fixtures that every test may use live in `tests/fakes`; this file only names them."""

pytest_plugins = ("tests.fakes.phoenix_js", "tests.fakes.bridge", "tests.fakes.simulator")
