"""N-gram tables as files: what was written is read, and what is wrong is said in one line."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.errors import UserError
from spinbench.models.fetch import DEFAULT_MODEL
from spinbench.models.ngram_file import (
    CONTEXTS_FILE,
    DESCRIPTION_FILE,
    NgramDescription,
    load_ngrams,
    packaged_ngrams,
    write_ngrams,
)
from spinbench.workload.acceptance.ngram_model import NgramGroup
from tests.runtime import tiny_models

TARGET = tiny_models.target()
GROUPS = (
    NgramGroup(np.array([3, 9], np.uint32), np.array([5, 6], np.int32), np.array([4, 200], np.uint8)),
    NgramGroup(np.array([7], np.uint32), np.array([2], np.int32), np.array([0], np.uint8)),
)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "tiny-ngram", GROUPS)
    return tmp_path / "tiny-ngram"


def write(folder, groups, **changes) -> None:
    given = {
        "format": 1, "name": "tiny-ngram", "target": TARGET.name, "target_weights_sha256": TARGET.weights_sha256,
        "vocab_size": TARGET.vocab_size, "context_tokens": 2,
    } | changes  # fmt: skip
    write_ngrams(folder, NgramDescription(**given), groups, "card")


def test_what_was_written_is_read(folder) -> None:
    model = load_ngrams(str(folder), TARGET)
    assert model.context_tokens == 2
    for group, written in zip(model.groups, GROUPS, strict=True):
        for name in ("key", "token_id", "confidence"):
            assert getattr(group, name).tolist() == getattr(written, name).tolist()
    assert len(model.weights_sha256) == 64


def test_the_packaged_one_is_of_the_default_target() -> None:
    assert packaged_ngrams() == ("smollm2-ngram",)
    with pytest.raises(UserError, match=f"was counted from texts of target '{DEFAULT_MODEL}'"):
        load_ngrams("smollm2-ngram", TARGET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / DESCRIPTION_FILE).unlink(), "is an n-gram table, and there is none"),
        (lambda f: (f / DESCRIPTION_FILE).write_text("{}"), "no description of an n-gram table"),
        (lambda f: (f / DESCRIPTION_FILE).write_bytes(b"\xff"), "no description of an n-gram table"),
        (lambda f: (f / CONTEXTS_FILE).unlink(), "no contexts of an n-gram table"),
        (lambda f: (f / CONTEXTS_FILE).write_bytes(b"cut"), "no contexts of an n-gram table"),
        (lambda f: write(f, GROUPS, context_tokens=3), "no contexts of an n-gram table"),
        (lambda f: write(f, GROUPS, target_weights_sha256="1" * 64), "counted from texts of target"),
        (lambda f: write(f, GROUPS, vocab_size=7), "counted from texts of target"),
        (lambda f: write(f, (replace(GROUPS[0], key=np.array([9, 3], np.uint32)), GROUPS[1])), "keys do not rise"),
        (lambda f: write(f, (replace(GROUPS[0], token_id=np.array([5, 61], np.int32)), GROUPS[1])), "outside the voc"),
        (lambda f: write(f, (replace(GROUPS[0], confidence=np.array([4], np.uint8)), GROUPS[1])), "not equally long"),
        (lambda f: write(f, (replace(GROUPS[0], key=np.array([3, 9])), GROUPS[1])), "not of types"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(folder, change, message) -> None:
    change(folder)
    with pytest.raises(UserError, match=message) as raised:
        load_ngrams(str(folder), TARGET)
    assert "\n" not in str(raised.value)
