"""In which order a fetch asks the queues: strict, or shares by weight."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pyqik.worker.engine.queue_order import QueueOrder

DRAWS = 6_000


def test_queues_without_weights_are_always_asked_in_the_configured_order() -> None:
    order = QueueOrder({"b": 0, "a": 0, "c": 0})

    assert {order.draw() for _ in range(50)} == {("b", "a", "c")}


def test_every_draw_has_every_queue_once() -> None:
    order = QueueOrder({"critical": 5, "default": 2, "low": 1}, random.Random(1))

    assert {tuple(sorted(order.draw())) for _ in range(200)} == {("critical", "default", "low")}


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        pytest.param({"a": 1, "b": 1}, {"a": 1 / 2, "b": 1 / 2}, id="equal weights are Sidekiq's random"),
        pytest.param({"a": 3, "b": 1}, {"a": 3 / 4, "b": 1 / 4}, id="3 to 1"),
        pytest.param({"a": 5, "b": 3, "c": 2}, {"a": 0.5, "b": 0.3, "c": 0.2}, id="5 to 3 to 2"),
        pytest.param({"a": 2, "b": 0}, {"a": 2 / 3, "b": 1 / 3}, id="0 beside weights counts as 1"),
    ],
)
def test_a_queue_comes_first_as_often_as_its_weight_says(weights: dict[str, int], shares: dict[str, float]) -> None:
    order = QueueOrder(weights, random.Random(42))

    first = Counter(order.draw()[0] for _ in range(DRAWS))

    assert {name: count / DRAWS for name, count in first.items()} == pytest.approx(shares, abs=0.03)


def test_weights_matter_for_the_second_place_too() -> None:
    order = QueueOrder({"a": 1, "b": 8, "c": 1}, random.Random(7))

    second = Counter(drawn[1] for drawn in (order.draw() for _ in range(DRAWS)) if drawn[0] == "a")

    assert second["b"] / (second["b"] + second["c"]) == pytest.approx(8 / 9, abs=0.05)


def test_a_single_queue_needs_no_draw() -> None:
    assert QueueOrder({"only": 7}).draw() == ("only",)
