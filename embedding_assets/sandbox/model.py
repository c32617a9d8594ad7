"""The real model behind the service: static word vectors, small enough to ship in a wheel and fast without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODEL_ID = "wordllama-256"
MODEL_CREATED = 1_721_001_600
"""The model list wants a time of creation; this is the summer of the wordllama release that the weights come from."""

DIMENSIONS = (64, 128, 256)
"""The model was trained so that a prefix of its vector is a vector too (Matryoshka), at these lengths."""

FULL = DIMENSIONS[-1]
_TOKENS_AT_ONCE = 32_768
"""How many token vectors are gathered at once: 32 MB, however long the texts are."""


@dataclass(frozen=True)
class Embedded:
    """Texts as vectors before shortening: one row a text, and how many tokens each text had."""

    sums: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int64]


class Model:
    """The `wordllama` model: a text's vector is the normalised mean of the vectors of its tokens, in small letters."""

    def __init__(self) -> None:
        import wordllama

        # The loader looks for the tokenizer in `tokenizer/`, the wheel has it in `tokenizers/`: the package's own
        # folder as the cache makes it look there, and nothing is fetched over the network.
        loaded = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
        self._vectors: npt.NDArray[np.float32] = loaded.embedding
        self._tokenizer: Any = loaded.tokenizer
        self._tokenizer.no_padding()

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have together."""
        return sum(len(encoding) for encoding in self._encode(texts))

    def embed(self, texts: Sequence[str], *, longest: int) -> Embedded:
        """The texts as sums of their tokens' vectors.

        A text's row depends on nothing but the text, so that the same text has the same vector in whatever company it
        was sent. The tokenizer falls back to single bytes, so only the empty text has no token; it and texts of more
        than `longest` tokens get a row of zeros, which the caller refuses.
        """
        encodings = self._encode(texts)
        tokens = np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(texts))
        sums = np.zeros((len(texts), FULL), dtype=np.float32)
        rows: list[int] = []
        ids: list[int] = []
        starts: list[int] = []
        for row, encoding in enumerate(encodings):
            if not 0 < len(encoding) <= longest:
                continue
            rows.append(row)
            starts.append(len(ids))
            ids.extend(encoding.ids)
            if len(ids) >= _TOKENS_AT_ONCE:
                sums[rows] = np.add.reduceat(self._vectors[ids], starts, axis=0)
                rows, ids, starts = [], [], []
        if rows:
            sums[rows] = np.add.reduceat(self._vectors[ids], starts, axis=0)
        return Embedded(sums, tokens)

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        # Static vectors of "TOTAL" and "total" have little in common, and receipts shout: without this a question in
        # small letters does not find its answer in capitals.
        lower = [text.lower() for text in texts]
        encoded: list[Any] = self._tokenizer.encode_batch_fast(lower, add_special_tokens=False)
        return encoded


def shorten(sums: npt.NDArray[np.float32], dimensions: int) -> npt.NDArray[np.float32]:
    """The first `dimensions` of each row, brought to length one; so the sum of the tokens does for their mean."""
    cut = sums[:, :dimensions]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.ascontiguousarray(cut / np.where(norms > 0, norms, 1), dtype=np.float32)
