# The native module, by hand. The prose is in the docstrings of the module itself.

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextvars import Context
from datetime import datetime
from threading import Condition
from types import GenericAlias, ModuleType
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    final,
    overload,
)

from asynctask._places import Remote
from asynctask._pool import AsyncTaskPool
from asynctask._task import AsyncTask
from asynctask._types import Duration

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

__all__ = [
    "Deadline",
    "DelayTask",
    "IntervalTask",
    "IntervalWithDelayTask",
    "ManualClock",
    "PoolBase",
    "TaskBase",
    "Ticks",
    "_after_fork_in_child",
    "_after_fork_in_parent",
    "_before_fork",
    "_drain_at_exit",
    "_install",
    "_lend",
    "_log_alive",
    "_nudge_state",
    "_remake_option",
    "_reset_default_pool",
    "_seconds",
    "_stay_at_list",
    "_stop_at_exit",
    "_wait_and_exit",
    "check_cancelled",
    "current_task",
    "get_async_task",
    "post_task",
    "set_work_pool_options",
    "sleep",
]

# The task of a coroutine function has the result of the coroutine: every post is a pair of
# overloads, that for coroutine functions first. `post_task` has four pairs: no arguments, and a
# tuple of them, are checked against the callback; with `kwargs` no type checker can do so, nor with
# a list or an iterator, whose length it does not know.

class TaskBase(Generic[_T]):
    def __new__(cls) -> Self: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    @property
    def name(self) -> str: ...
    def cancel(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def running(self) -> bool: ...
    def is_running(self) -> bool: ...
    def done(self) -> bool: ...
    def finished(self) -> bool: ...
    def called_times(self) -> int: ...
    def result(self, timeout: Duration | None = None) -> _T: ...
    def exception(self, timeout: Duration | None = None) -> BaseException | None: ...
    def wait_for_finished(self, timeout: Duration | None = None) -> None: ...
    def wait_for_finished_count(self, count: int, timeout: Duration | None = None) -> None: ...
    def stop(self) -> None: ...
    def stop_and_wait(self, timeout: Duration | None = None) -> None: ...
    def reschedule(self, delay: Duration) -> bool: ...
    def _on_failure(self, call: Callable[[Any], object]) -> None: ...
    def add_done_callback(self, fn: Callable[[Any], object]) -> None: ...
    def set_result(self, result: _T) -> None: ...
    def set_exception(self, exception: BaseException | None) -> None: ...
    def set_running_or_notify_cancel(self) -> bool: ...
    def __reduce__(self) -> NoReturn: ...
    def _get_snapshot(self) -> tuple[bool, bool, _T | None, BaseException | None]: ...
    def _complete(self, value: Any) -> None: ...
    def _fail(self, error: BaseException, is_gone: bool = False) -> None: ...
    def _complete_cancelled(self, error: BaseException, is_gone: bool = False) -> None: ...
    def _is_wanted(self) -> bool: ...
    def _set_remote(self, remote: Remote) -> bool: ...
    def _remaining(self) -> float | None: ...
    # Read-only in fact; but `as_completed` asks for what a `Future` has.
    _state: str
    _condition: Condition
    _waiters: list[Any]
    @property
    def _done_callbacks(self) -> list[Callable[[Future[_T]], object]]: ...
    @property
    def _result(self) -> _T | None: ...
    @property
    def _exception(self) -> BaseException | None: ...

class PoolBase:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = None,
        *,
        min_workers: int | None = None,
        idle_timeout: Duration | None = None,
        queue_size: int | None = None,
        on_full: Literal["block", "raise", "drop_newest", "drop_oldest", "caller_runs"]
        | None = None,
        propagate_context: bool = False,
        nudge: bool = True,
        tiers: Sequence[tuple[Duration, int]] | None = None,
        clock: ManualClock | None = None,
        executor: Executor | None = None,
        stack_size: int | None = None,
    ) -> None: ...
    @overload
    def submit(
        self, fn: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncTask[_T]: ...
    @overload
    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncTask[_T]: ...
    @overload
    def try_submit(
        self, fn: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncTask[_T] | None: ...
    @overload
    def try_submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncTask[_T] | None: ...
    @overload
    def post_task(
        self,
        callback: Callable[[], Coroutine[Any, Any, _T]],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[()] | None = None,
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[], _T],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[()] | None = None,
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[Unpack[_Ts]], Coroutine[Any, Any, _T]],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[*_Ts],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[Unpack[_Ts]], _T],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[*_Ts],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., Coroutine[Any, Any, _T]],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., _T],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., Coroutine[Any, Any, _T]],
        /,
        *options: DelayTask | IntervalTask,
        args: list[Any] | Iterator[Any],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., _T],
        /,
        *options: DelayTask | IntervalTask,
        args: list[Any] | Iterator[Any],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
        executor: Executor | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> AsyncTask[_T]: ...
    @overload
    def post_async_task(
        self, callback: Callable[[], Coroutine[Any, Any, _T]], /
    ) -> AsyncTask[_T]: ...
    @overload
    def post_async_task(self, callback: Callable[[], _T], /) -> AsyncTask[_T]: ...
    @overload
    def post_delay_task(
        self, callback: Callable[[], Coroutine[Any, Any, _T]], delay: Duration, /
    ) -> AsyncTask[_T]: ...
    @overload
    def post_delay_task(self, callback: Callable[[], _T], delay: Duration, /) -> AsyncTask[_T]: ...
    @overload
    def post_interval_task(
        self, callback: Callable[[], Coroutine[Any, Any, _T]], interval: Duration, /
    ) -> AsyncTask[_T]: ...
    @overload
    def post_interval_task(
        self, callback: Callable[[], _T], interval: Duration, /
    ) -> AsyncTask[_T]: ...
    def after(self, delay: Duration) -> AsyncTask[None]: ...
    def _submit_each(
        self, fn: Callable[..., _T], arguments: Iterable[tuple[Any, ...]]
    ) -> list[AsyncTask[_T]]: ...
    def _deadline(self, timeout: Duration) -> Deadline: ...
    def _post_alarm(self, callback: Callable[[], _T], deadline: Deadline) -> AsyncTask[_T]: ...
    def _post_ticks(self, *options: DelayTask | IntervalTask) -> AsyncTask[None]: ...
    def __reduce__(self) -> NoReturn: ...
    def resize(self, max_workers: int) -> None: ...
    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        delayed: Literal["cancel", "run", "wait"] = "cancel",
    ) -> None: ...
    def wait_and_exit(
        self,
        timeout: Duration | None = None,
        *,
        delayed: Literal["cancel", "run", "wait"] = "cancel",
    ) -> bool: ...
    def _has_posted(self, task: TaskBase[Any]) -> bool: ...
    def _is_over(self) -> bool: ...
    def _begin_end(self, delayed: Literal["cancel", "run", "wait"]) -> bool: ...
    def _has_ended(self) -> bool: ...
    def _end_now(self) -> bool: ...
    def _stats(
        self,
    ) -> tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int]: ...

@final
class Deadline:
    def left(self) -> float: ...
    @property
    def is_manual(self) -> bool: ...

class DelayTask:
    __match_args__: ClassVar[tuple[Literal["delay"]]] = ("delay",)
    def __new__(cls, delay: Duration) -> Self: ...
    @property
    def delay(self) -> Duration: ...
    def __add__(self, other: IntervalTask, /) -> IntervalWithDelayTask: ...
    def __radd__(self, other: IntervalTask, /) -> IntervalWithDelayTask: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

class _IntervalKeywords(TypedDict, total=False):  # noqa: PYI049  # `ticker` has them
    timing: Literal["fixed_rate", "fixed_delay"] | None
    overlap: Literal["skip", "queue"] | None
    missed: Literal["skip", "catch_up"] | None
    max_runs: int | None
    until: Duration | datetime | None
    jitter: Duration | None
    on_error: Literal["continue", "stop"] | None

class IntervalTask:
    __match_args__: ClassVar[tuple[Literal["interval"]]] = ("interval",)
    def __new__(
        cls,
        interval: Duration,
        *,
        timing: Literal["fixed_rate", "fixed_delay"] | None = None,
        overlap: Literal["skip", "queue"] | None = None,
        missed: Literal["skip", "catch_up"] | None = None,
        max_runs: int | None = None,
        until: Duration | datetime | None = None,
        jitter: Duration | None = None,
        on_error: Literal["continue", "stop"] | None = None,
    ) -> Self: ...
    @property
    def interval(self) -> Duration: ...
    @property
    def timing(self) -> Literal["fixed_rate", "fixed_delay"]: ...
    @property
    def overlap(self) -> Literal["skip", "queue"]: ...
    @property
    def missed(self) -> Literal["skip", "catch_up"]: ...
    @property
    def max_runs(self) -> int | None: ...
    @property
    def until(self) -> Duration | datetime | None: ...
    @property
    def jitter(self) -> Duration: ...
    @property
    def on_error(self) -> Literal["continue", "stop"]: ...
    def __add__(self, other: DelayTask, /) -> IntervalWithDelayTask: ...
    def __radd__(self, other: DelayTask, /) -> IntervalWithDelayTask: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

class IntervalWithDelayTask(IntervalTask):
    __match_args__: ClassVar[tuple[Literal["start_delay"], Literal["interval"]]] = (
        "start_delay",
        "interval",
    )
    def __new__(
        cls,
        start_delay: Duration,
        interval: Duration,
        *,
        timing: Literal["fixed_rate", "fixed_delay"] | None = None,
        overlap: Literal["skip", "queue"] | None = None,
        missed: Literal["skip", "catch_up"] | None = None,
        max_runs: int | None = None,
        until: Duration | datetime | None = None,
        jitter: Duration | None = None,
        on_error: Literal["continue", "stop"] | None = None,
    ) -> Self: ...
    @property
    def start_delay(self) -> Duration: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Ticks:
    def __new__(cls, one_by_one: bool) -> Ticks: ...
    def take(self, task: TaskBase[Any]) -> int | None: ...
    @property
    def given(self) -> int: ...

@final
class ManualClock:
    def __new__(cls) -> ManualClock: ...
    def now(self) -> float: ...
    def wall(self) -> datetime: ...
    def set_wall(self, when: datetime) -> None: ...
    def advance(self, by: Duration, *, patience: Duration | None = None) -> None: ...
    def jump(self, by: Duration) -> None: ...

@overload
def post_task(
    callback: Callable[[], Coroutine[Any, Any, _T]],
    /,
    *options: DelayTask | IntervalTask,
    args: tuple[()] | None = None,
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[[], _T],
    /,
    *options: DelayTask | IntervalTask,
    args: tuple[()] | None = None,
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[[Unpack[_Ts]], Coroutine[Any, Any, _T]],
    /,
    *options: DelayTask | IntervalTask,
    args: tuple[*_Ts],
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[[Unpack[_Ts]], _T],
    /,
    *options: DelayTask | IntervalTask,
    args: tuple[*_Ts],
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[..., Coroutine[Any, Any, _T]],
    /,
    *options: DelayTask | IntervalTask,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[..., _T],
    /,
    *options: DelayTask | IntervalTask,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[..., Coroutine[Any, Any, _T]],
    /,
    *options: DelayTask | IntervalTask,
    args: list[Any] | Iterator[Any],
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
@overload
def post_task(
    callback: Callable[..., _T],
    /,
    *options: DelayTask | IntervalTask,
    args: list[Any] | Iterator[Any],
    kwargs: None = None,
    name: str | None = None,
    context: Context | None = None,
    executor: Executor | None = None,
    loop: AbstractEventLoop | None = None,
) -> AsyncTask[_T]: ...
def get_async_task() -> AsyncTaskPool: ...
def set_work_pool_options(
    max_workers: int | None = None,
    max_capacity: int | None = None,
    *,
    thread_name_prefix: str | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] | None = None,
    min_workers: int | None = None,
    idle_timeout: Duration | None = None,
    queue_size: int | None = None,
    on_full: Literal["block", "raise", "drop_newest", "drop_oldest", "caller_runs"] | None = None,
    propagate_context: bool = False,
    nudge: bool = True,
    tiers: Sequence[tuple[Duration, int]] | None = None,
    clock: ManualClock | None = None,
    executor: Executor | None = None,
    stack_size: int | None = None,
) -> None: ...
def sleep(delay: Duration) -> None: ...
def current_task() -> AsyncTask[Any] | None: ...
def check_cancelled() -> None: ...
def _lend() -> object | None: ...
def _nudge_state() -> tuple[int, bool, int] | None: ...
def _stay_at_list(seconds: float) -> None: ...
def _wait_and_exit(timeout: Duration | None, delayed: Literal["cancel", "run", "wait"]) -> bool: ...
def _remake_option(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any: ...
def _reset_default_pool(timeout: Duration | None) -> bool: ...
def _seconds(argument: str, duration: Duration) -> float: ...
def _after_fork_in_child() -> int: ...
def _after_fork_in_parent() -> None: ...
def _before_fork() -> None: ...
def _drain_at_exit() -> None: ...
def _log_alive() -> None: ...
def _stop_at_exit() -> None: ...
def _install(
    task_class: type[AsyncTask[Any]],
    pool_class: type[AsyncTaskPool],
    condition_class: type[Condition],
    functions: ModuleType,
) -> None: ...
