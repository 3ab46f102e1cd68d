"""Distillation from end to end: text, labels, training, score, packing; every stage goes on where it stopped."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from spinbench.errors import UserError
from spinbench.json_file import write_json
from spinbench.models.distill.card import CardFacts, model_card
from spinbench.models.distill.category import categorise_text
from spinbench.models.distill.config import DistillConfig
from spinbench.models.distill.dataset import Corpus, SelfPlayLine, read_self_play, split_lines
from spinbench.models.distill.ngram_drafter import make_ngrams, ngram_name
from spinbench.models.distill.pack import load_packed, packed_tensors, write_drafter
from spinbench.models.distill.presets import chosen_recipes, recipes_for
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.schedule import TrainingData, plan_steps, run_fingerprint
from spinbench.models.distill.score import Score, correct_positions, score_by_category
from spinbench.models.distill.self_play import generate_self_play
from spinbench.models.distill.soft_labels import label_answers
from spinbench.models.distill.starting_point import check_sources, make_student, source_drafter
from spinbench.models.distill.student import Student
from spinbench.models.distill.trainer import train
from spinbench.models.distill.training_log import TrainingLog
from spinbench.models.loaded_model import TargetModel, macs_per_token


def run_distill(
    config: DistillConfig,
    target: TargetModel,
    recipes: Sequence[DrafterRecipe] | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, Score]]:
    """Train and pack the drafters that the config names for `target`; returns held-out scores per drafter and category.

    Started again with the same config it repeats nothing that is done. `recipes` replaces the target's own presets.
    """
    shown = Console(stderr=True) if console is None else console
    known = recipes_for(target) if recipes is None else recipes
    table = ngram_name(target)
    chosen = chosen_recipes(config, known, table)  # wrong names and missing sources fail before the work
    check_sources(chosen, Path(config.output_dir))
    corpus = make_corpus(config if chosen else replace(config, soft_labels=False), target, shown)
    scores: dict[str, dict[str, Score]] = {}
    if table in config.drafters or config.drafters == ("all",):
        scores[table] = make_ngrams(target, corpus, Path(config.output_dir) / table, config.num_speculative_tokens)
        shown.print(score_table(table, scores[table], config.num_speculative_tokens))
    for recipe in chosen:
        scores[recipe.name] = make_drafter(recipe, known, config, target, corpus, shown)
        shown.print(score_table(recipe.name, scores[recipe.name], config.num_speculative_tokens))
    return scores


def make_corpus(config: DistillConfig, target: TargetModel, console: Console) -> Corpus:
    """Self-play text in the work folder, its labels, categories and held-out split."""
    work = Path(config.work_dir)
    with progress_bar(console) as bar:
        task = bar.add_task("self-play (lines)", total=config.self_play.lines)
        path = generate_self_play(
            target,
            config.self_play,
            work / "self_play.jsonl",
            config.seed,
            lambda n, of: bar.update(task, completed=n, total=of),
        )
    lines = read_self_play(path)[: config.self_play.lines]
    vocab_size = target.vocab_size
    for number, line in enumerate(lines, start=1):
        if int(line.tokens.max()) >= vocab_size:
            raise UserError(
                f"{path}:{number}: token id {int(line.tokens.max())}, but the target's vocabulary has {vocab_size}"
            )
    labels = work / "soft_labels"
    if config.soft_labels:
        with progress_bar(console) as bar:
            task = bar.add_task("soft labels (lines)", total=len(lines))
            label_answers(target.model, lines, labels, lambda n: bar.update(task, completed=n))
    else:
        labels = work / "no_labels"
    return Corpus(lines, categories_of(lines, target), split_lines(lines, config.held_out_lines, config.seed), labels)


def categories_of(lines: Sequence[SelfPlayLine], target: TargetModel) -> list[str]:
    """The category of every line, or "any" for each when the target has no tokenizer to read them with."""
    tokenizer = target.tokenizer
    if tokenizer is None:
        return ["any"] * len(lines)
    system = shared_prefix_tokens(lines)
    prompts = [line.tokens[system : line.prompt_tokens].tolist() for line in lines]
    answers = [line.tokens[line.prompt_tokens :].tolist() for line in lines]
    return [
        categorise_text(
            str(tokenizer.decode(p, skip_special_tokens=True)), str(tokenizer.decode(a, skip_special_tokens=True))
        )
        for p, a in zip(prompts, answers, strict=True)
    ]


def shared_prefix_tokens(lines: Sequence[SelfPlayLine]) -> int:
    """How many tokens all prompts begin with alike: the system prompt and the turn's opening marks."""
    first = lines[0].tokens[: lines[0].prompt_tokens]
    shared = len(first)
    for line in lines:
        part = line.tokens[: min(shared, line.prompt_tokens)]
        differing = np.flatnonzero(part != first[: len(part)])
        shared = int(differing[0]) if len(differing) else len(part)
    return shared


def make_drafter(
    recipe: DrafterRecipe,
    known: Sequence[DrafterRecipe],
    config: DistillConfig,
    target: TargetModel,
    corpus: Corpus,
    console: Console,
) -> dict[str, Score]:
    """Train, pack and score one drafter; one whose folder and score are there is not trained again."""
    work, folder = Path(config.work_dir), Path(config.output_dir) / recipe.name
    score_path = work / "scores" / f"{recipe.name}.json"
    held_out = corpus.split.held_out
    data = TrainingData(
        lines=corpus.lines,
        categories=corpus.categories,
        train=corpus.split.train,
        validation=held_out[:: max(1, len(held_out) // 100)],
        labels_folder=corpus.labels_folder,
        pad_token_id=min(target.eos_token_ids, default=0),
    )
    # a score of another K is another score
    fingerprint = f"{run_fingerprint(recipe, data, plan_steps(recipe, data))} K={config.num_speculative_tokens}"
    if score_path.is_file() and (folder / "drafter.json").is_file():
        stored = json.loads(score_path.read_text(encoding="utf-8"))
        if stored["fingerprint"] == fingerprint:
            return {name: Score(**value) for name, value in stored["scores"].items()}
    student, target_ids = make_student(recipe, target, corpus, source_drafter(recipe, known, config, target))
    with progress_bar(console) as bar:
        task = bar.add_task(recipe.name, total=None)

        def on_step(step: int, steps: int, loss: float, tokens_per_s: float) -> None:
            bar.update(
                task,
                completed=step,
                total=steps,
                description=f"{recipe.name} loss {loss:.2f}, {tokens_per_s:.0f} tokens/s",
            )

        log = train(
            student,
            target_ids,
            data,
            work / "checkpoints" / f"{recipe.name}.pt",
            checkpoint_every_s=config.checkpoint_every_s,
            on_step=on_step,
        )
    scores = finish_drafter(student, target_ids, log, config, target, corpus, folder)
    write_json(score_path, {"fingerprint": fingerprint, "scores": {k: vars(v) for k, v in scores.items()}})
    return scores


def finish_drafter(
    student: Student,
    target_ids: NDArray[np.int32],
    log: TrainingLog,
    config: DistillConfig,
    target: TargetModel,
    corpus: Corpus,
    folder: Path,
) -> dict[str, Score]:
    """Pack the trained student into `folder` with its card; the scores are those of the packed weights."""
    tensors = packed_tensors(student, torch.from_numpy(target_ids))
    load_packed(student, tensors)
    correct = correct_positions(student, corpus.lines, corpus.split.held_out.tolist(), target_ids)
    scores = score_by_category(correct, corpus.categories, config.num_speculative_tokens)
    facts = CardFacts(
        target=target.name,
        target_multiply_adds=macs_per_token(target.model),
        training_lines=len(corpus.split.train),
        held_out_lines=len(corpus.split.held_out),
        training_answer_tokens=sum(corpus.lines[i].answer_tokens for i in corpus.split.train),
        packed_bytes=sum(t.numel() * t.element_size() for t in tensors.values()),
        num_speculative_tokens=config.num_speculative_tokens,
        device=f"{torch.get_num_threads()} CPU threads"
        if target.model.device.type == "cpu"
        else str(target.model.device),
    )
    write_drafter(
        folder,
        student,
        tensors,
        target=target.name,
        target_weights_sha256=target.weights_sha256,
        card=model_card(student.recipe, log, scores, facts),
    )
    return scores


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A progress display on `console` with counts and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


def score_table(name: str, scores: dict[str, Score], num_speculative_tokens: int) -> Table:
    """Held-out scores of one drafter, a row per category."""
    table = Table("category", "answer tokens", "top-1", f"acceptance length (K={num_speculative_tokens})", title=name)
    for category, value in scores.items():
        table.add_row(category, str(value.tokens), f"{value.top1_agreement:.3f}", f"{value.acceptance_length:.2f}")
    return table
