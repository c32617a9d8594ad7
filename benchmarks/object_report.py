"""The tables of the object cases, and what they come to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from object_damages import KINDS
from object_matrix import Played

_SHORT = {
    "deleted": "gone",
    "emptied": "empty",
    "cut": "cut",
    "bits": "bits",
    "digits": "digit",
    "swapped": "swap",
    "older": "older",
    "folder": "dir",
    "filled": "fill",
    "forged": "forge",
}
_SAYS = 3  # of so many cases of a kind that went wrong alike it is said how

LEGEND = """
found/cases: by `check`, or by a reader, a run or what it mends where that comes first. gone = deleted, digit = a digit
edited, swap = with another of its kind, older = an older one in its place, dir = a folder in its place, forge = edited
and sealed again, files' checksums made to fit. quiet = not found, and nothing that anybody gets is otherwise; apart =
forged, and nothing but the object itself ever said what it was. alone = as it should be after the next runs; audit =
after the audit's repair. wrong = a reader got, or the store holds, what never was."""


def print_objects(played: Sequence[Played], seconds: float) -> None:
    """A line for each kind of object, and one for each kind of stranger."""
    rows: dict[str, list[Played]] = defaultdict(list)
    for one in played:
        rows[f"stranger: {one.case.damage}" if one.case.kind == "stranger" else one.case.kind].append(one)
    order = {kind: number for number, kind in enumerate(KINDS)}
    names = sorted(rows, key=lambda name: (name.startswith("stranger"), order.get(name, len(order)), name))
    ends = ("quiet", "apart", "alone", "audit", "lost", "doubled", "wrong", "stuck")
    width = max(map(len, names), default=0)
    print(f"\nobjects ({seconds:.0f} s)\n" + " " * width + "".join(f"  {one:>5}" for one in (*_SHORT.values(), *ends)))
    for name in names:
        cells: dict[str, list[int]] = {}
        for one in rows[name]:
            if one.case.damage in _SHORT:
                cell = cells.setdefault(one.case.damage, [0, 0])
                cell[1] += 1
                cell[0] += bool(one.found)
        said = [f"{cells[damage][0]}/{cells[damage][1]}" if damage in cells else "-" for damage in _SHORT]
        if not cells:
            found = sum(bool(one.found) for one in rows[name])
            said[0] = f"{found}/{len(rows[name])}"
        said += [str(count) for count in _ends(rows[name])]
        print(name.ljust(width) + "".join(f"  {cell:>5}" for cell in said), flush=True)
    print(LEGEND)


def _ends(played: Sequence[Played]) -> list[int]:
    judged = [one for one in played if not one.apart]
    return [
        sum(not one.found and one.right and not one.missed for one in played),
        sum(one.apart for one in played),
        sum(one.healed == "alone" and one.right for one in judged),
        sum(one.healed == "audit" and one.right for one in judged),
        *(sum(bool(getattr(one, what)) for one in judged) for what in ("lost", "doubled", "wrong", "stuck")),
    ]


def print_faults(played: Sequence[Played]) -> None:
    """What was missed or went wrong, case by case; what is alike is shortened; and what is counted apart."""
    told: Counter[tuple[str, str]] = Counter()
    for one in played:
        if one.apart or not (one.missed or not one.right):
            continue
        said = [
            f"{what}: {'; '.join(getattr(one, what)[:2])}"
            for what in ("wrong", "lost", "doubled", "stuck")
            if getattr(one, what)
        ]
        said += [f"CRASH {one.crash}"] if one.crash else []
        key = (one.case.kind, " ".join(word.split(":")[0] for word in said) or "missed")
        told[key] += 1
        if told[key] <= _SAYS:
            print(f"{'missed' if one.missed else 'FAULT'} {one.case.name} ({one.case.key}): {' | '.join(said)}"[:500])
    for (kind, what), count in told.items():
        if count > _SAYS:
            print(f"  and {count - _SAYS} more of {kind}: {what}")
    apart = Counter(
        f"{one.case.kind}: {next(iter(one.wrong + one.lost + one.doubled + one.stuck))[:90]}"
        for one in played
        if one.apart
    )
    if apart:
        print(f"\napart, {sum(apart.values())} forged objects that nothing else in the store contradicts:")
        for what, count in apart.most_common():
            print(f"  {count} {what}")
    again = sum(one.again for one in played)
    if again:
        print(f"alerts told a second time: {again}")


def healing(played: Sequence[Played]) -> str:
    """The line that says how they were healed."""
    judged = [one for one in played if not one.apart]
    lost = sum(bool(one.lost or one.wrong) for one in judged)
    doubled = sum(bool(one.doubled) for one in judged)
    stuck = sum(bool(one.stuck) for one in judged)
    return f"healing: {len(played)} cases, {lost} lost, {doubled} doubled, {stuck} stuck"
