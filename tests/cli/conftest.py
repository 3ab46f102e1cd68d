"""A tiny target with a tokenizer and two drafters, as Hugging Face folders, and a command line that runs in-process."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spinbench.cli.engine import model_shelf
from spinbench.cli.main import main
from tests.cli.loaded_once import LoadedOnce
from tests.undrawn import undrawn

__all__ = ["undrawn"]

VOCAB = 259
"""256 bytes, and the tokens below."""
SPECIAL = ("<pad>", "<s>", "</s>")
CONTEXT_TOKENS = 128
CATEGORIES = ("code", "story", "chat")


@dataclass(frozen=True)
class TinyModels:
    """Folders of models that share a byte-level tokenizer."""

    target: Path
    good_drafter: Path
    poor_drafter: Path
    other_vocabulary: Path


def save_tiny_model(
    folder: Path,
    seed: int,
    disturbed: float = 0.0,
    vocab_size: int = VOCAB,
    context_tokens: int = CONTEXT_TOKENS,
) -> None:
    """A random Llama; those with other seeds are the first one, disturbed."""
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=context_tokens, bos_token_id=257, eos_token_id=258, pad_token_id=256,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.25, generator=torch.Generator().manual_seed(parameter.numel()))
            parameter.add_(disturbed * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)


def save_tokenizer(folder: Path) -> None:
    """Bytes as tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    vocabulary |= {token: 256 + index for index, token in enumerate(SPECIAL)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos).save_pretrained(
        folder
    )


@pytest.fixture(scope="session", autouse=True)
def loaded_once() -> Iterator[None]:
    """Commands given in this process share the models that they load."""
    loaded = LoadedOnce()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_shelf, "load_target", loaded.target)
        patch.setattr(model_shelf, "load_drafter", loaded.drafter)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """A target, a drafter that agrees with it often, one that seldom does, and one with another vocabulary."""
    root = tmp_path_factory.mktemp("models")
    folders = TinyModels(root / "target", root / "good", root / "poor", root / "other")
    save_tiny_model(folders.target, 0)
    save_tiny_model(folders.good_drafter, 1, 0.01)
    save_tiny_model(folders.poor_drafter, 2, 0.1)
    save_tiny_model(folders.other_vocabulary, 3, vocab_size=VOCAB + 40)
    for folder in (folders.target, folders.good_drafter, folders.poor_drafter):
        save_tokenizer(folder)
    return folders


def trace_lines(count: int = 5, max_new_tokens: int = 12) -> list[dict[str, object]]:
    """Requests with short texts as prompts, that all arrive at once and run to their limit."""
    return [
        {
            "id": f"r{index}",
            "arrival_s": 0.0,
            "prompt": f"Say {index} words, " + "and more " * (index % 3),
            "max_new_tokens": max_new_tokens + index,
            "ignore_eos": True,
            "category": CATEGORIES[index % 3],
            "seed": index,
        }
        for index in range(count)
    ]


def write_trace(folder: Path, lines: list[dict[str, object]], name: str = "tiny.jsonl") -> Path:
    """A trace file in `folder`."""
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Runs `spinbench` in-process on the tiny models, in a folder of its own."""

    folder: Path
    models: TinyModels
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Outcome:
        """Run it."""
        self.capsys.readouterr()
        code = main(arguments)
        out, err = self.capsys.readouterr()
        return Outcome(code, out, err)

    def replay(self, *overrides: str) -> Outcome:
        """`spinbench replay` on the tiny models and trace, unless overrides say otherwise."""
        return self("replay", *self.overrides(), *overrides)

    def overrides(self) -> list[str]:
        """The overrides that name the tiny models and trace."""
        return tiny_overrides(self.models, self.folder)


def tiny_overrides(models: TinyModels, folder: Path) -> list[str]:
    """Overrides that replay a tiny trace in `folder` on the tiny models."""
    if not (folder / "tiny.jsonl").exists():
        write_trace(folder, trace_lines())
    drafters = f"[{models.good_drafter},{models.poor_drafter},prompt_lookup]"
    return [
        "models=huggingface", f"models.target={models.target}", f"models.drafters={drafters}",
        "trace.path=tiny.jsonl", "arrivals=all_at_once", "engine.dtype=float64", "engine.num_threads=1",
        "scheduler.max_num_seqs=3", "hydra.run.dir=run",
    ]  # fmt: skip


@pytest.fixture
def spinbench(
    tmp_path: Path, tiny: TinyModels, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # Hydra's write to the stdout of an earlier test
    return CommandLine(tmp_path, tiny, capsys)
