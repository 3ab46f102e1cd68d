"""A causal LM from a Hugging Face folder or hub id, complete or refused."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2 as _  # placeholder
