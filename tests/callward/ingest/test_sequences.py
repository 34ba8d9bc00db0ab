"""Numbers of files: each clause of the rule by one example."""

import pytest

from callward.ingest.sequences import AGAIN, GROWN, NEW, News, Numbering, Seen

PLAIN = Numbering(r"cdr-(\d+)\.csv")
WRAPS = Numbering(r"cdr-(\d+)\.csv", (0, 9999))


def after(numbering: Numbering, *looks: list[int], earlier: str = NEW) -> tuple[Seen, News]:
    """Return what is known after looks at the numbers of files, and what was strange in the last."""
    seen, news = Seen(), News()
    for at, numbers in enumerate(looks):
        news = seen.add(numbering, numbers, at, lambda _: earlier)
    return seen, news


def gaps(seen: Seen) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in seen.gaps]


def test_numbers_that_follow_each_other_in_any_order_leave_nothing_to_say() -> None:
    seen, news = after(PLAIN, [41, 43, 42], [45, 44])
    assert (gaps(seen), news, seen.high) == ([], News(), 45)


def test_missing_numbers_are_a_gap_until_their_files_come() -> None:
    assert gaps(after(PLAIN, [41], [45])[0]) == [(42, 44)]
    assert gaps(after(PLAIN, [41], [45], [43])[0]) == [(42, 42), (44, 44)]
    assert after(PLAIN, [41], [45], [42, 44, 43])[1] == News() and gaps(after(PLAIN, [41], [45], [44, 43, 42])[0]) == []


def test_a_gap_keeps_the_moment_when_it_was_found() -> None:
    seen, _ = after(PLAIN, [1], [4], [3, 9])
    assert [(gap.first, gap.at) for gap in seen.gaps] == [(2, 1), (5, 2)]


def test_a_number_that_comes_again_is_a_repeat_but_not_of_a_file_that_grew() -> None:
    assert after(PLAIN, [41, 42], [42, 43])[1] == News((42,))
    assert after(PLAIN, [41], [42, 42])[1] == News((42,))
    assert after(PLAIN, [41, 42], [42, 43], earlier=GROWN)[1] == News()


def test_numbers_begin_again_after_the_last_of_their_range() -> None:
    seen, news = after(WRAPS, [9997, 9998], [9999, 0, 1])
    assert (gaps(seen), news) == ([], News())
    assert gaps(after(WRAPS, [9998], [1])[0]) == [(9999, 10_000)] and WRAPS.shown(10_000) == "0"
    assert gaps(after(WRAPS, [0, 1, 9998, 9999])[0]) == []  # names are sorted, numbers wrap among them
    assert after(WRAPS, [5], [9999])[1] == News()  # before the first that was seen: nothing is known of it


def test_without_a_range_numbers_do_not_begin_again() -> None:
    seen, news = after(PLAIN, [9998, 9999], [0])
    assert news == News() and seen.high == 9999  # lower than any: of before the first


def test_a_switch_that_counts_anew_is_followed() -> None:
    seen, news = after(PLAIN, [1, 2, 3, 4, 5], [1, 2], [3, 4, 5, 6])
    assert (gaps(seen), seen.high, news) == ([], 6, News())
    assert after(PLAIN, [1, 2, 3], [1, 2])[1] == News(began_at=1)
    assert after(PLAIN, [1, 2, 3], [1, 2], earlier=AGAIN)[1] == News((1, 2))  # delivered again under their names


def test_a_name_without_a_number_or_with_one_beyond_the_range_has_none() -> None:
    assert (PLAIN.number("denver/cdr-0042.csv"), PLAIN.number("denver/readme.txt")) == (42, None)
    assert WRAPS.number("cdr-10000.csv") is None


@pytest.mark.parametrize(("place", "shown"), [(42, "42"), (999_999, "999999"), (13_035_550_101, "…550101")])
def test_of_a_number_that_is_long_the_end_is_shown(place: int, shown: str) -> None:
    assert PLAIN.shown(place) == shown
