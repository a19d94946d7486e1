"""The three option classes are values."""

import copy
import datetime as dt
import pickle

import pytest
from asynctask import DelayTask, IntervalTask, IntervalWithDelayTask

SECOND = dt.timedelta(seconds=1)
END = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
EVERYTHING = {
    "timing": "fixed_delay",
    "overlap": "queue",
    "missed": "catch_up",
    "max_runs": 3,
    "until": END,
    "jitter": 0.5,
    "on_error": "stop",
}
OPTIONS = [
    DelayTask(0),
    DelayTask(0.25),
    DelayTask(SECOND),
    IntervalTask(1),
    IntervalTask(SECOND, max_runs=3),
    IntervalTask(2.5, **EVERYTHING),
    IntervalWithDelayTask(0, 1),
    IntervalWithDelayTask(SECOND, 2, until=5),
    IntervalWithDelayTask(0.5, 2, **EVERYTHING),
]


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_an_option_survives_pickle_and_copy(option):
    """A pickled or copied option equals the original and shows the same."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        clone = pickle.loads(pickle.dumps(option, protocol))  # noqa: S301
        assert clone == option
        assert type(clone) is type(option)
        assert repr(clone) == repr(option)
        assert hash(clone) == hash(option)
    assert copy.copy(option) == copy.deepcopy(option) == option


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_an_option_shows_how_it_is_made(option):
    """The repr of an option is the call that makes it."""
    made = eval(repr(option), {**globals(), "datetime": dt})  # noqa: S307
    assert made == option
    assert repr(made) == repr(option)


def test_the_repr_leaves_defaults_out():
    """What is as it is by default is not shown."""
    assert repr(DelayTask(0.5)) == "DelayTask(0.5)"
    assert repr(IntervalTask(1)) == "IntervalTask(1)"
    assert repr(IntervalTask(1, overlap="skip", jitter=0)) == "IntervalTask(1)"
    assert repr(IntervalTask(1, max_runs=2, overlap="queue")) == (
        "IntervalTask(1, overlap='queue', max_runs=2)"
    )
    assert repr(IntervalWithDelayTask(1, 2, on_error="stop")) == (
        "IntervalWithDelayTask(1, 2, on_error='stop')"
    )


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_an_option_equals_itself_and_no_other(option):
    """Options are equal when they say the same, and only then."""
    assert [other for other in OPTIONS if other == option] == [option]
    assert option != "option"
    assert option != 1
    assert len({*OPTIONS, option}) == len(OPTIONS)


def test_equal_durations_make_equal_options():
    """It is the duration that counts, not how it was written."""
    assert DelayTask(1) == DelayTask(1.0) == DelayTask(SECOND)
    assert hash(DelayTask(1)) == hash(DelayTask(SECOND))
    assert IntervalTask(1) == IntervalTask(SECOND)
    assert hash(IntervalTask(1)) == hash(IntervalTask(SECOND))
    assert IntervalWithDelayTask(1, 1) == IntervalWithDelayTask(SECOND, SECOND)
    assert hash(IntervalWithDelayTask(1, 1)) == hash(IntervalWithDelayTask(SECOND, SECOND))


@pytest.mark.parametrize("keyword", EVERYTHING)
def test_every_keyword_tells_options_apart(keyword):
    """Options that differ in one keyword are not equal."""
    assert IntervalTask(1, **{keyword: EVERYTHING[keyword]}) != IntervalTask(1)
    assert IntervalWithDelayTask(1, 1, **{keyword: EVERYTHING[keyword]}) != (
        IntervalWithDelayTask(1, 1)
    )


def test_the_attributes_are_what_was_given():
    """An option gives back what it was made of, as it was given."""
    option = IntervalWithDelayTask(SECOND, 2.5, **EVERYTHING)
    assert option.start_delay is SECOND
    assert option.interval == 2.5
    assert {name: getattr(option, name) for name in EVERYTHING} == EVERYTHING
    assert DelayTask(SECOND).delay is SECOND


def test_the_defaults_are_those_of_the_design():
    """An interval option says what it does when nobody told it."""
    option = IntervalTask(1)
    assert {name: getattr(option, name) for name in EVERYTHING} == {
        "timing": "fixed_rate",
        "overlap": "skip",
        "missed": "skip",
        "max_runs": None,
        "until": None,
        "jitter": 0,
        "on_error": "continue",
    }


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_an_option_is_frozen(option):
    """Nothing of an option can be changed, removed or added."""
    for name in ("delay", "interval", "start_delay", "timing", "max_runs", "until", "new"):
        with pytest.raises(AttributeError):
            setattr(option, name, 1)
        with pytest.raises(AttributeError):
            delattr(option, name)


def test_a_delay_and_an_interval_add_up():
    """`DelayTask` and `IntervalTask`, either way round, make an `IntervalWithDelayTask`."""
    for combined in (
        DelayTask(SECOND) + IntervalTask(2.5, **EVERYTHING),
        IntervalTask(2.5, **EVERYTHING) + DelayTask(SECOND),
    ):
        assert type(combined) is IntervalWithDelayTask
        assert combined == IntervalWithDelayTask(SECOND, 2.5, **EVERYTHING)


class Late(DelayTask):
    """Somebody's delay."""


class Heartbeat(IntervalTask):
    """Somebody's interval, with arguments of its own and something that it keeps."""

    def __new__(cls, bpm, patient="nobody"):
        """Make one out of beats per minute."""
        self = super().__new__(cls, 60 / bpm, max_runs=3)
        self.patient = patient
        return self


class LateHeartbeat(IntervalWithDelayTask):
    """Somebody's interval with a delay."""

    __slots__ = ("patient",)


SUBCLASSED = [Late(1), Heartbeat(12, "somebody"), LateHeartbeat(1, 2)]


@pytest.mark.parametrize("option", SUBCLASSED, ids=repr)
def test_an_option_of_a_subclass_is_a_value(option):
    """What holds for options holds for those of a subclass: copies are equal, and of its class."""
    clones = [pickle.loads(pickle.dumps(option, n)) for n in range(2, 6)]  # noqa: S301
    for clone in (*clones, copy.copy(option), copy.deepcopy(option)):
        assert type(clone) is type(option)
        assert clone == option
        assert (clone != option) is False
        assert hash(clone) == hash(option)
        assert getattr(clone, "__dict__", None) == getattr(option, "__dict__", None)
        assert repr(clone) == repr(option)
    assert repr(option).startswith(type(option).__name__)
    plain = type(option).__base__
    assert option not in (Late(2), Heartbeat(13), LateHeartbeat(1, 3), LateHeartbeat(2, 2))
    assert option not in (DelayTask(1), IntervalTask(5, max_runs=3), IntervalWithDelayTask(1, 2))
    assert isinstance(option, plain)


def test_what_a_subclass_keeps_is_kept():
    """Slots are part of an option's state, too."""
    option = LateHeartbeat(1, 2)
    option.patient = "somebody"
    assert pickle.loads(pickle.dumps(option)).patient == "somebody"  # noqa: S301
    assert copy.copy(Heartbeat(12, "me")).patient == "me"


@pytest.mark.parametrize("delay", [DelayTask(1), Late(1)], ids=repr)
@pytest.mark.parametrize("interval", [IntervalTask(5, max_runs=3), Heartbeat(12)], ids=repr)
def test_subclasses_go_together(timed, clock, delay, interval):
    """A delay and an interval, of whichever class and in whichever order, add up."""
    both = IntervalWithDelayTask(1, 5, max_runs=3)
    assert delay + interval == interval + delay == both
    posts = [(delay, interval), (interval, delay), (delay + interval,), (LateHeartbeat(1, 5),)]
    began = [[] for _ in posts]
    for options, seen in zip(posts, began, strict=True):
        timed.post_task(lambda seen=seen: seen.append(clock.now()), *options)
    clock.advance(11)
    assert began == [[1, 6, 11]] * len(posts)


def test_an_option_does_not_know_how_it_compares_to_others():
    """Comparing with something else is left to that."""
    for option in (*OPTIONS, *SUBCLASSED):
        assert option.__eq__("option") is NotImplemented
        assert (option == "option") is False
        assert (option != "option") is True
        assert option == AnythingAtAll()


class AnythingAtAll:
    """Equals everything, as `unittest.mock.ANY` does."""

    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Late(1), DelayTask(1)),
        (Heartbeat(12), IntervalTask(1)),
        (LateHeartbeat(1, 1), Late(1)),
        (Late(1), LateHeartbeat(1, 1)),
        (DelayTask(1), DelayTask(1)),
        (IntervalTask(1), IntervalTask(1)),
        (IntervalWithDelayTask(1, 1), DelayTask(1)),
        (DelayTask(1), IntervalWithDelayTask(1, 1)),
        (IntervalTask(1), IntervalWithDelayTask(1, 1)),
        (DelayTask(1), 1),
        (1, IntervalTask(1)),
    ],
    ids=repr,
)
def test_nothing_else_adds_up(left, right):
    """The same thing twice does not add up."""
    with pytest.raises(TypeError, match="unsupported operand"):
        left + right


def test_options_can_be_matched():
    """The options are made for `match`."""

    def what(option):
        match option:
            case IntervalWithDelayTask(start_delay, interval, max_runs=3):
                return ("three", start_delay, interval)
            case IntervalWithDelayTask(start_delay, interval):
                return ("both", start_delay, interval)
            case DelayTask(delay):
                return ("delay", delay)
            case IntervalTask(interval, timing="fixed_delay"):
                return ("fixed", interval)
            case IntervalTask(interval):
                return ("interval", interval)

    assert what(DelayTask(1)) == ("delay", 1)
    assert what(IntervalTask(2)) == ("interval", 2)
    assert what(IntervalTask(2, timing="fixed_delay")) == ("fixed", 2)
    assert what(IntervalWithDelayTask(1, 2)) == ("both", 1, 2)
    assert what(IntervalWithDelayTask(1, 2, max_runs=3)) == ("three", 1, 2)


def test_an_interval_with_delay_is_an_interval():
    """Whoever takes an interval takes one with a delay."""
    assert isinstance(IntervalWithDelayTask(1, 2), IntervalTask)


def test_options_can_be_made_by_keyword():
    """The parameters have the names of the attributes."""
    assert DelayTask(delay=1) == DelayTask(1)
    assert IntervalTask(interval=1) == IntervalTask(1)
    assert IntervalWithDelayTask(start_delay=1, interval=2) == IntervalWithDelayTask(1, 2)


def test_one_option_serves_many_tasks(timed, clock):
    """An option can be used for any number of tasks."""
    option = DelayTask(1)
    tasks = [timed.post_task(int, option) for _ in range(3)]
    clock.advance(1)
    assert [task.result(0) for task in tasks] == [0, 0, 0]
