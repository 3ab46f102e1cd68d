import numpy as np

from spinbench.control.drafting.drafter_groups import DrafterGroups, Groups


def as_lists(groups: Groups) -> tuple[dict[int, list[int]], list[int], list[int]]:
    parts = {number: places.tolist() for number, places in groups.parts}
    return parts, groups.places.tolist(), groups.drafter.tolist()


def test_requests_are_grouped_by_drafter_in_their_order():
    groups = DrafterGroups(3).of(np.array([2, -1, 0, 2]))
    assert as_lists(groups) == ({0: [2], 2: [0, 3]}, [2, 0, 3], [0, 2, 2])


def test_joint_requests_are_in_the_group_of_every_member():
    groups = DrafterGroups(3, members=(0, 2)).of(np.array([3, 1, 0, -1]))
    assert as_lists(groups) == ({0: [2, 0], 1: [1], 2: [0]}, [2, 0, 1, 0], [0, 0, 1, 2])


def test_groups_are_kept_while_drafters_stay_and_no_longer():
    groups = DrafterGroups(2)
    first = groups.of(np.array([0, 1]))
    assert groups.of(np.array([0, 1])) is first
    assert as_lists(groups.of(np.array([0, 1, 1]))) == ({0: [0], 1: [1, 2]}, [0, 1, 2], [0, 1, 1])
    assert as_lists(groups.of(np.array([-1, -1]))) == ({}, [], [])
