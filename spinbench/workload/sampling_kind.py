"""The ways of drawing tokens at temperature > 0."""

from typing import Literal

SamplingKind = Literal["drafter_invariant", "rejection"]
"""`drafter_invariant`: noise shared by target and drafters (arXiv 2408.07978), so a request's text depends on its seed
alone. `rejection`: accept or redraw (arXiv 2211.17192); the law is the target's, the text depends on who drafted."""
