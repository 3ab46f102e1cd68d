from pathlib import Path

import numpy as np
import pytest
import torch

from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.soft_labels import LabelMixer, SoftLabels, label_answers
from spinbench.models.loaded_model import TargetModel


def random_lines(count: int) -> list[SelfPlayLine]:
    generator = np.random.default_rng(4)
    return [
        SelfPlayLine(int(generator.integers(1, 5)), generator.integers(0, 260, size=int(generator.integers(6, 20))))
        for _ in range(count)
    ]


def test_labels_are_the_targets_log_probabilities(target: TargetModel, tmp_path: Path) -> None:
    lines = random_lines(7)
    seen: list[int] = []
    label_answers(target.model, lines, tmp_path, seen.append, rows=3)
    labels = SoftLabels(tmp_path, lines)
    assert (len(labels), seen) == (7, [7])
    for number, line in enumerate(lines):
        with torch.no_grad():
            logits = target.model(torch.from_numpy(line.tokens)[None]).logits[0]
        wanted = logits[line.prompt_tokens - 1 : -1].log_softmax(-1).topk(16)
        found = labels.of_line(number)
        assert found is not None
        assert found[0].tolist() == wanted.indices.tolist()
        np.testing.assert_allclose(found[1], wanted.values.exp().numpy(), rtol=5e-3)


def test_only_missing_shards_are_made(target: TargetModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinbench.models.distill.soft_labels.LINES_PER_SHARD", 3)
    lines = random_lines(8)
    label_answers(target.model, lines, tmp_path)
    shards = sorted(tmp_path.iterdir())
    assert [shard.name for shard in shards] == ["shard_0000.npz", "shard_0001.npz", "shard_0002.npz"]
    contents = [shard.read_bytes() for shard in shards]
    kept_time = shards[0].stat().st_mtime_ns
    shards[1].unlink()
    label_answers(target.model, lines, tmp_path)
    assert [shard.read_bytes() for shard in shards] == contents
    assert shards[0].stat().st_mtime_ns == kept_time


def test_reading_stops_at_the_first_gap(target: TargetModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinbench.models.distill.soft_labels.LINES_PER_SHARD", 3)
    lines = random_lines(8)
    label_answers(target.model, lines, tmp_path)
    assert (len(SoftLabels(tmp_path, lines)), len(SoftLabels(tmp_path, lines, max_shards=1))) == (8, 3)
    (tmp_path / "shard_0001.npz").unlink()
    labels = SoftLabels(tmp_path, lines)
    assert len(labels) == 3
    assert labels.of_line(2) is not None
    assert labels.of_line(3) is None


def mixed(
    answer: list[int], ids: list[list[int]], probs: list[list[float]], hard_share: float = 0.4
) -> list[dict[int, float]]:
    """Target ids to probability, per answer position, for the draft vocabulary {2, 5, 7}."""
    target_ids = np.array([2, 5, 7], dtype=np.int32)
    line = SelfPlayLine(1, np.array([0, *answer]))
    soft = (np.array(ids), np.array(probs, dtype=np.float32)) if ids else None
    indices, weights = LabelMixer(target_ids, 10, hard_share).targets(line, soft)
    result: list[dict[int, float]] = []
    for row_indices, row_weights in zip(indices, weights, strict=True):
        row: dict[int, float] = {}
        for index, weight in zip(row_indices, row_weights, strict=True):
            if weight > 0:
                row[int(target_ids[index])] = row.get(int(target_ids[index]), 0.0) + float(weight)
        result.append(row)
    return result


def test_hard_labels_alone() -> None:
    assert mixed([5, 9, 2], [], []) == [{5: 1.0}, {}, {2: 1.0}]  # 9 is no draft token: no loss there


def test_soft_and_hard_are_mixed() -> None:
    # 0.5 and 0.25 are in the draft vocabulary -> 2/3 and 1/3, times 0.6; plus 0.4 for the token taken
    (row,) = mixed([5], [[5, 9, 7]], [[0.5, 0.25, 0.25]])
    assert row == pytest.approx({5: 0.4 + 0.6 * 2 / 3, 7: 0.6 / 3})


def test_token_outside_the_draft_vocabulary_keeps_its_soft_label() -> None:
    (row,) = mixed([9], [[9, 7, 5]], [[0.5, 0.3, 0.1]])
    assert row == pytest.approx({7: 0.75, 5: 0.25})


def test_soft_label_outside_the_draft_vocabulary_leaves_the_hard_one() -> None:
    assert mixed([5], [[9, 8, 6]], [[0.5, 0.3, 0.1]]) == [{5: 1.0}]


def test_hard_share_is_used() -> None:
    assert mixed([5], [[7, 9, 8]], [[0.5, 0.3, 0.1]], hard_share=1.0) == [{5: 1.0}]
    assert mixed([5], [[7, 9, 8]], [[0.5, 0.3, 0.1]], hard_share=0.0) == [{7: 1.0}]
