"""Sentry's scopes live in the context: a task's tags and breadcrumbs are not its poster's."""

import contextvars
import threading

import pytest

sentry_sdk = pytest.importorskip("sentry_sdk")


class Collector(sentry_sdk.transport.Transport):
    """Keeps the events; nothing goes over a network."""

    def __init__(self, options=None):
        super().__init__(options)
        self.events = []

    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)

    def tags(self):
        """Give the tags of each event by its message."""
        return {event["message"]: event.get("tags", {}) for event in self.events}


@pytest.fixture
def sentry():
    """Set Sentry up as a program does, without a network, and give what is sent."""
    collector = Collector()
    scope = sentry_sdk.get_global_scope()  # the whole process's
    before = scope.client
    sentry_sdk.init("https://key@sentry.invalid/1", transport=collector, default_integrations=False)
    yield collector
    sentry_sdk.get_client().close()
    scope.set_client(before)


def one_of(barrier, name):
    """Give a callback that reports beside another, once both have set their tags."""

    def callback():
        sentry_sdk.set_tag(name, "set")
        barrier.wait(20)
        sentry_sdk.capture_message(name)

    return callback


def test_tags_of_concurrent_callbacks_are_their_own(sentry, make_pool):
    """By default neither callback has the other's tags, nor has the poster theirs."""
    pool, barrier = make_pool(2), threading.Barrier(2)
    with sentry_sdk.isolation_scope():
        sentry_sdk.set_tag("request", "r-1")
        tasks = [pool.submit(one_of(barrier, name)) for name in ("one", "two")]
        for task in tasks:
            task.result(20)
        sentry_sdk.capture_message("poster")
    assert sentry.tags() == {
        "one": {"one": "set"},
        "two": {"two": "set"},
        "poster": {"request": "r-1"},
    }


def test_a_callback_reports_with_its_posters_tags_in_a_scope_of_its_own(sentry, make_pool):
    """The recipe in the documentation: its poster's tags are there; none goes back or across."""
    pool, barrier = make_pool(2), threading.Barrier(2)

    def isolated(callback, /, *args, **kwargs):
        with sentry_sdk.isolation_scope():
            return callback(*args, **kwargs)

    with sentry_sdk.isolation_scope():
        sentry_sdk.set_tag("request", "r-1")
        tasks = [
            pool.post_task(
                isolated, args=(one_of(barrier, name),), context=contextvars.copy_context()
            )
            for name in ("one", "two")
        ]
        for task in tasks:
            task.result(20)
        sentry_sdk.capture_message("poster")
    assert sentry.tags() == {
        "one": {"request": "r-1", "one": "set"},
        "two": {"request": "r-1", "two": "set"},
        "poster": {"request": "r-1"},
    }


def test_what_propagation_alone_would_share(sentry, make_pool):
    """A copy of the context has the same scope: without the recipe, tags go across and back."""
    pool = make_pool(1, propagate_context=True)
    with sentry_sdk.isolation_scope():
        pool.submit(sentry_sdk.set_tag, "leaked", "yes").result(20)
        sentry_sdk.capture_message("poster")
    assert sentry.tags() == {"poster": {"leaked": "yes"}}
