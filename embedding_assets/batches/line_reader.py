"""Answers of lines in their order, with a second process reading numbers where there are many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Final, NamedTuple

from embedding_assets.batches.numerals import SHARES, share_rows, share_text
from embedding_assets.batches.parse import Answer, LineParser, Place, holds_numbers, place_of
from embedding_assets.batches.second_reader import SecondReader
from embedding_assets.catalog import CollectionSpec

# It takes a twentieth of a second to start, in which a core reads 3 million numbers.
_WORTH_IT: Final = 8_000_000


class _Block(NamedTuple):
    """Some lines, and what is known of them.

    Attributes:
        lines: number and content of each.
        answers: theirs; None where the second process has the numbers of them.
        places: where their vectors stand, if it has.
        share: where it has them.
    """

    lines: list[tuple[int, bytes]]
    answers: list[Answer] | None
    places: list[Place]
    share: int

    def ready(self, second: SecondReader) -> bool:
        """Whether its answers can be had without waiting."""
        return self.answers is not None or second.done(self.share)


class LineReader:
    """Reads the lines of one collection's results, in one process or two.

    Args:
        spec: the collection.
        expected: about how many lines there will be; with few, or a single core, there is no second process.
        several: how many records each custom_id stands for that asked for a list.
    """

    def __init__(self, spec: CollectionSpec, expected: int = 0, several: Mapping[str, int] | None = None) -> None:
        self._parser = LineParser(spec, several)
        self._dimensions = spec.dimensions
        self._wanted = expected * spec.dimensions >= _WORTH_IT and _cores() > 1
        self.second: SecondReader | None = None

    def __enter__(self) -> LineReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.second is not None:
            self.second.close()

    def answers(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each numbered line, in their order; some hundred lines are read ahead.

        Never raises for what a line holds; under the same `np.errstate` as `LineParser.parse`.
        """
        source = iter(lines)
        waiting: deque[_Block] = deque()
        for block in _blocks(source, share_rows(self._dimensions), share_text(self._dimensions)):
            second = self._second_for(block)
            if second is None:
                for number, line in chain(block, source):
                    yield number, self._parser.parse(line)
                return
            waiting.append(self._begun(block, second))
            # What is read here meanwhile has to wait for what came before it, but not without a bound.
            while waiting and (waiting[0].ready(second) or len(waiting) > 2 * SHARES):
                yield from self._finished(waiting.popleft())
        while waiting:
            yield from self._finished(waiting.popleft())

    def _second_for(self, lines: list[tuple[int, bytes]]) -> SecondReader | None:
        """The second process, begun if these lines hold numbers; those that come first tell what the others hold."""
        if self._wanted:
            self._wanted = False
            if any(holds_numbers(place_of(line)) for _, line in lines):
                with suppress(OSError):  # one process is enough
                    self.second = SecondReader(self._dimensions)
        return self.second

    def _begun(self, lines: list[tuple[int, bytes]], second: SecondReader) -> _Block:
        if second.has_room():
            places = [place_of(line) for _, line in lines]
            texts = [
                memoryview(line)[place[1] : place[2]]
                for (_, line), place in zip(lines, places, strict=True)
                if holds_numbers(place)
            ]
            share = second.put(texts)
            if share is not None:
                return _Block(lines, None, places, share)
        return _Block(lines, [self._parser.parse(line) for _, line in lines], [], 0)

    def _finished(self, block: _Block) -> Iterator[tuple[int, Answer]]:
        if block.answers is not None:
            for (number, _), answer in zip(block.lines, block.answers, strict=True):
                yield number, answer
        elif self.second is not None:
            vectors = iter(self.second.take(block.share, sum(map(holds_numbers, block.places))))
            for (number, line), place in zip(block.lines, block.places, strict=True):
                yield number, self._parser.parse_at(line, place, next(vectors) if holds_numbers(place) else None)


def _blocks(lines: Iterable[tuple[int, bytes]], most: int, size: int) -> Iterator[list[tuple[int, bytes]]]:
    """Lines together: so many, or fewer if they have `size` bytes; each is taken when the one before was used."""
    block, left = [], size
    for number, line in lines:
        block.append((number, line))
        left -= len(line)
        if len(block) == most or left <= 0:
            yield block
            block, left = [], size
    if block:
        yield block


def _cores() -> int:
    return len(os.sched_getaffinity(0))
