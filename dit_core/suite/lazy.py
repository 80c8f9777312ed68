"""A property that is computed at its first look, and holds up no other object meanwhile."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazy_property(Generic[T]):
    """Keeps in the object what `compute` returned; nothing is kept where it raised.

    `functools.cached_property` up to Python 3.11 computes under one lock for all objects of a class: a suite that is
    being fetched would hold up every other one. Two threads may compute one value twice here, which does no harm.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> "lazy_property[T]": ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> "T | lazy_property[T]":
        if instance is None:
            return self
        value: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value
