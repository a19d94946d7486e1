"""The native module finds what it calls in the package's Python files when it is imported."""

import sys
import threading
import types

import pytest
from asynctask import AsyncTask, AsyncTaskPool, _asynctask


@pytest.mark.parametrize("name", ["log_unseen", "register_thread", "place_on_loop"])
def test_an_import_without_a_hook_fails_and_names_it(run_python, name):
    """A function that is missing, for a typo or a rename, fails the import, not the first call."""
    run_python(
        f"""
import sys, types
import asynctask  # once as it is, for what it consists of
hooks = types.ModuleType("asynctask._hooks")
vars(hooks).update(vars(sys.modules["asynctask._hooks"]))
del hooks.{name}
for module in list(sys.modules):
    if module.startswith("asynctask") and module != "asynctask._asynctask":
        del sys.modules[module]
sys.modules["asynctask._hooks"] = hooks
try:
    import asynctask
except ImportError as error:
    assert str(error) == (
        "asynctask._hooks has no '{name}', which asynctask's native module needs"
    ), error
    assert isinstance(error.__cause__, AttributeError)
else:
    raise AssertionError("it was imported")
"""
    )


def test_hooks_are_not_replaced():
    """Whoever installs others later changes nothing: the first ones stay."""
    told = []
    hooks = types.ModuleType("hooks")
    vars(hooks).update(vars(sys.modules["asynctask._hooks"]))
    hooks.is_on_loop = lambda: told.append(1) or False
    _asynctask._install(AsyncTask, AsyncTaskPool, threading.Condition, hooks)
    pool = AsyncTaskPool(1)
    assert pool.submit(int).result(30) == 0
    pool.shutdown()  # asks whether a loop runs here
    assert told == []
