"""Makes methods that only pass a call on to a worker, from the protocol that they fulfil."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from h5fs.store.workers.quarantine import Subject

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def passed_on(
    promise: Callable[Concatenate[Any, _Parameters], _Result],
    ask: Callable[[Any, str, tuple[Any, ...], Subject], Any],
    subject: Callable[..., Subject],
) -> Callable[Concatenate[Any, _Parameters], _Result]:
    """Return a method with the name, the types and the docstring of a protocol's method.

    ``ask`` is a method of the store that asks a worker. Its arguments are the name, all arguments
    (defaults filled in), and what ``subject`` makes of these.
    """
    signature = inspect.signature(promise)
    parameters = list(signature.parameters.values())[1:]
    count = len(parameters)
    defaults = tuple(each.default for each in parameters)
    required = sum(each is inspect.Parameter.empty for each in defaults)
    name = promise.__name__

    def method(store: Any, /, *given: _Parameters.args, **named: _Parameters.kwargs) -> _Result:
        arguments: tuple[Any, ...] = given
        if not named and required <= len(given) < count:
            arguments = given + defaults[len(given) :]
        elif named or len(given) != count:
            bound = signature.bind(store, *given, **named)
            bound.apply_defaults()
            arguments = bound.args[1:]
        result: _Result = ask(store, name, arguments, subject(*arguments))
        return result

    functools.update_wrapper(method, promise)
    return method
