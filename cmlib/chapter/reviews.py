"""Reviews: texts with a verdict, as sequences of word numbers that a model can read.

Either the large movie review archive, which the reader has to bring, or a small corpus made here.
"""

import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

LONGEST_REVIEW = 100_000  # bytes; the longest of the archive has 14,000
PADDING, UNKNOWN = 0, 1  # numbers that stand for no word

GOOD = ["good", "great", "fine", "lovely", "funny", "clever", "warm", "moving", "brilliant", "superb"]
BAD = ["bad", "dull", "weak", "boring", "clumsy", "cold", "silly", "poor", "awful", "terrible"]
OTHER = ["the", "a", "film", "movie", "plot", "story", "actor", "scene", "ending", "music", "it", "was", "is"]
OTHER += ["and", "with", "of", "this", "that", "very", "rather", "ha"]


@dataclass(frozen=True)
class Reviews:
    """Texts and verdicts.

    Args:
        texts: one string for each review.
        verdicts: (n,), 1 where the review is in favour, 0 where not.
    """

    texts: Sequence[str]
    verdicts: Int[Tensor, " n"]


class _Member(tarfile.TarInfo):
    """A member whose extended header is not read into memory whatever size it says it has."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # an ordinary file's content is not read here, a header's is
        if not self.isreg() and self.size > LONGEST_REVIEW:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue] (tarfile's own)


def load_reviews(path: Any, split: str = "train", limit: int | None = None) -> Reviews:
    """Read a split of the large movie review archive, aclImdb_v1.tar.gz, without unpacking it.

    Of each split the files pos/0_9.txt, neg/0_2.txt and so on are read, number and rating in their names, if they are
    regular files of at most 100 kB in UTF-8. Whatever else the archive holds is passed over, and nothing is written.

    Args:
        path: of the archive.
        split: "train" or "test".
        limit: at most so many of each verdict; None takes all.

    Reference: maas2011learning
    """
    path = Path(path)
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"expected limit >= 1 or None, got {limit!r}")
    if not path.is_file():
        raise ValueError(f"expected the review archive, a file such as aclImdb_v1.tar.gz, got {str(path)!r}")
    wanted = re.compile(rf"(?:\./)?aclImdb/{split}/(pos|neg)/\d+_(?:10|[1-9])\.txt")
    found = {"pos": [], "neg": []}
    try:
        with tarfile.open(path, mode="r:*", tarinfo=_Member) as archive:
            for member in archive:
                match = wanted.fullmatch(member.name)
                if not match or not member.isreg() or member.size > LONGEST_REVIEW:
                    continue
                texts, file = found[match[1]], archive.extractfile(member)
                if file is not None and (limit is None or len(texts) < limit):
                    texts.append(file.read().decode("utf-8"))
                if limit is not None and all(len(texts) == limit for texts in found.values()):
                    break
    except (tarfile.TarError, zlib.error, EOFError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a tar archive of reviews in UTF-8, got {str(path)!r}: {error}") from error
    if not all(found.values()):
        raise ValueError(f"expected reviews under aclImdb/{split}/pos and neg, got none in {str(path)!r}")
    verdicts = [1] * len(found["pos"]) + [0] * len(found["neg"])
    return Reviews(found["pos"] + found["neg"], torch.tensor(verdicts))


def made_reviews(n: int, generator: torch.Generator, n_words: tuple[int, int] = (5, 60)) -> Reviews:
    """Make n reviews of drawn words: 21 that say nothing, ten that praise and ten that blame.

    Each review has one side to take, and about every fifth word is of that side or, one time in five, of the other;
    the verdict goes with the majority.

    Args:
        n: number of reviews, >= 1.
        n_words: fewest and most words.
    """
    if n < 1 or not 1 <= n_words[0] <= n_words[1]:
        raise ValueError(f"expected n >= 1 and n_words with 1 <= fewest <= most, got {n!r} and {n_words!r}")

    def draw(high: int, size: tuple = ()) -> Any:
        return torch.randint(0, high, size, generator=generator).tolist()

    texts, verdicts = [], []
    while len(texts) < n:
        side, words, balance = draw(2), [], 0
        for _ in range(n_words[0] + draw(n_words[1] - n_words[0] + 1)):
            if draw(5):
                words.append(OTHER[draw(len(OTHER))])
                continue
            praise = side if draw(5) else 1 - side
            balance += 1 if praise else -1
            words.append((GOOD if praise else BAD)[draw(len(GOOD))])
        if balance:  # undecided ones are drawn again
            texts.append(" ".join(words))
            verdicts.append(int(balance > 0))
    return Reviews(texts, torch.tensor(verdicts))


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; line breaks written as <br /> are no words."""
    return re.findall(r"[a-z']+", text.lower().replace("<br />", " "))


@dataclass(frozen=True)
class Vocabulary:
    """The most frequent words of some texts, numbered from 2 on; 0 is padding and 1 any other word.

    Args:
        numbers: word -> number.
    """

    numbers: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str], size: int = 5000, always: Sequence[str] = ()) -> "Vocabulary":
        """Return that of texts, of at most `size` words, those of `always` among them."""
        if size < len(always):
            raise ValueError(f"expected a size >= {len(always)}, the words that are always there, got {size!r}")
        counts = Counter(word for text in texts for word in words(text) if word not in always)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        chosen = [*always, *ordered[: size - len(always)]]
        return cls({word: number for number, word in enumerate(chosen, start=UNKNOWN + 1)})

    def __len__(self) -> int:
        return len(self.numbers) + 2

    def encode(self, texts: Sequence[str], longest: int) -> tuple[Int[Tensor, "n time"], Int[Tensor, " n"]]:
        """Return the first `longest` words of each text as numbers, padded after the end, and their counts."""
        rows = [[self.numbers.get(word, UNKNOWN) for word in words(text)[:longest]] or [UNKNOWN] for text in texts]
        encoded = torch.full((len(rows), max(map(len, rows))), PADDING)
        for row, numbers in zip(encoded, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return encoded, torch.tensor([len(row) for row in rows])
