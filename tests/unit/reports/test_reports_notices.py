import pytest

from neulite_sim.reports.notices import Notices


def told(*messages):
    notices = Notices()
    for message in messages:
        notices.take(message)
    return [item.text for item in notices]


def diverged(round_number, lost, devices):
    return f"round {round_number}: local training diverged on {lost} of 10 devices ({devices}); lower the rate"


def test_what_differs_only_in_numbers_is_one_notice_with_its_latest_numbers_and_a_count():
    assert told(diverged(3, 2, "4, 17"), diverged(4, 1, "9"), diverged(12, 7, "1, 2, 3, 5, 8, ...")) == [
        "3rd time: round 12: local training diverged on 7 of 10 devices (1, 2, 3, 5, 8, ...); lower the rate"
    ]


def test_sizes_and_times_are_numbers_too():
    assert told("took 1.25 s for 1,200 rows at 10:59", "took 12 s for 9 rows at 11:00") == [
        "2nd time: took 12 s for 9 rows at 11:00"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stage-1 fits no device", "stage-2 fits no device"),
        ("width-0.5 fits no device", "width-0.25 fits no device"),
        ("resnet18 is skipped", "resnet34 is skipped"),
        ("an actor died", "a worker died"),
    ],
)
def test_names_with_numbers_in_them_are_different_news(one, other):
    assert told(one, other) == [one, other]


def test_what_came_last_stands_last():
    assert told("a", "b", "a") == ["b", "2nd time: a"]


def test_every_repetition_by_a_factor_of_ten_is_news():
    notices = Notices()
    assert [number for number in range(1, 2001) if notices.take(f"round {number}: trouble").is_news] == [
        1, 10, 100, 1000,
    ]  # fmt: skip


def test_counts_are_ordinals():
    counts = (2, 3, 4, 11, 12, 13, 21, 22, 23, 101, 111, 1002)
    endings = [told(*["x"] * count)[0].split(" ")[0] for count in counts]
    assert endings == [
        "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st", "111th", "1,002nd",
    ]  # fmt: skip


def test_of_many_kinds_the_latest_twenty_are_kept_and_one_that_comes_again_is_late():
    kinds = [letter * 3 for letter in "abcdefghijklmnopqrst"]
    notices = Notices()
    for kind in [*kinds, "aaa", "new"]:
        notices.take(kind)
    assert len(notices) == 20
    assert [item.message for item in notices] == [*kinds[2:], "aaa", "new"]
    assert notices.latest.message == "new"
