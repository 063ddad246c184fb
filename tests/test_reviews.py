"""reviews: an archive is read as it is meant, the rest is passed over; made reviews say what their verdict says."""

import gzip
import io
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from cmlib.chapter import reviews

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from notebooks import code_cells, read_notebook, source, tags  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def archive(path, members, mode="w:gz"):
    """Write a tar archive of (name, content) pairs; a content of None is a folder, a TarInfo that member itself."""
    with tarfile.open(path, mode) as file:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def members(split="train", n=3):
    for verdict, word in (("neg", "bad"), ("pos", "good")):
        for i in range(n):
            yield (
                f"aclImdb/{split}/{verdict}/{i}_{10 if verdict == 'pos' else 1}.txt",
                f"A {word} film, no {i}".encode(),
            )


def test_archive_is_read_without_unpacking(tmp_path, monkeypatch):
    path = archive(tmp_path / "aclImdb_v1.tar.gz", [("aclImdb", None), *members(), *members("test", 2)])
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    train = reviews.load_reviews(path)
    assert list(train.texts) == [f"A {w} film, no {i}" for w in ("good", "bad") for i in range(3)]
    assert train.verdicts.tolist() == [1, 1, 1, 0, 0, 0]
    assert reviews.load_reviews(str(path), "test").verdicts.tolist() == [1, 1, 0, 0]
    assert reviews.load_reviews(path, limit=1).texts == ["A good film, no 0", "A bad film, no 0"]
    assert sorted(tmp_path.iterdir()) == before


def test_archive_may_come_uncompressed_and_with_a_leading_dot(tmp_path):
    path = archive(tmp_path / "reviews.tar", [("./" + name, content) for name, content in members()], mode="w")
    assert len(reviews.load_reviews(path).texts) == 6


def test_what_is_no_review_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(reviews, "LONGEST_REVIEW", 1000)
    link = tarfile.TarInfo("aclImdb/train/pos/7_9.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    strange = [
        ("aclImdb/train/unsup/1_0.txt", b"unlabelled"),
        ("aclImdb/train/pos/../../../../evil_9.txt", b"evil"),
        ("/aclImdb/train/pos/1_9.txt", b"absolute"),
        ("other/aclImdb/train/pos/1_9.txt", b"elsewhere"),
        ("aclImdb/train/pos/1_11.txt", b"no rating"),
        ("aclImdb/train/pos/8_9.txt", b"x" * 1001),
        ("link", link),
    ]
    found = reviews.load_reviews(archive(tmp_path / "a.tar.gz", [*strange, *members()]))
    assert len(found.texts) == 6 and not any("evil" in t or "x" * 9 in t for t in found.texts)


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda p: p / "missing.tar.gz", {}, "expected the review archive"),
        (lambda p: p, {}, "expected the review archive"),
        (lambda p: p / "text", {}, "expected a tar archive"),
        (lambda p: p / "cut.tar.gz", {}, "expected a tar archive"),
        (lambda p: p / "other.tar.gz", {}, "expected reviews under aclImdb/train"),
        (lambda p: p / "whole.tar.gz", {"split": "test"}, "expected reviews under aclImdb/test"),
        (lambda p: p / "latin.tar.gz", {}, "UTF-8"),
        (lambda p: p / "whole.tar.gz", {"split": "dev"}, "expected split"),
        (lambda p: p / "whole.tar.gz", {"limit": 0}, "expected limit"),
    ],
)
def test_load_reviews_rejects(tmp_path, make, options, message):
    (tmp_path / "text").write_text("no archive")
    whole = archive(tmp_path / "whole.tar.gz", members(n=200)).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    archive(tmp_path / "other.tar.gz", [("readme", b"other")])
    archive(tmp_path / "latin.tar.gz", [("aclImdb/train/pos/0_9.txt", b"caf\xe9"), *members()])
    with pytest.raises(ValueError, match=message):
        reviews.load_reviews(make(tmp_path), **options)


def test_a_damaged_gzip_stream_is_a_clear_error(tmp_path):
    data = bytearray(gzip.compress(b"\0" * 100_000))
    data[30:60] = b"\xff" * 30
    (tmp_path / "damaged.tar.gz").write_bytes(data)
    with pytest.raises(ValueError, match="expected a tar archive|expected reviews under"):
        reviews.load_reviews(tmp_path / "damaged.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_says_it_is_huge_is_not_read(tmp_path, kind):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = kind, 3 << 30
    (tmp_path / "bomb.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(ValueError, match="a header of 3221225472 bytes"):
        reviews.load_reviews(tmp_path / "bomb.tar")


def test_made_reviews_have_the_verdict_of_their_majority():
    made = reviews.made_reviews(300, generator())
    for text, verdict in zip(made.texts, made.verdicts.tolist(), strict=True):
        said = text.split()
        balance = sum(w in reviews.GOOD for w in said) - sum(w in reviews.BAD for w in said)
        assert balance and verdict == (balance > 0) and 5 <= len(said) <= 60
    assert 0.4 < made.verdicts.double().mean() < 0.6
    assert made.texts == reviews.made_reviews(300, generator()).texts != reviews.made_reviews(300, generator(1)).texts
    assert len(reviews.OTHER) == 21 and len(reviews.GOOD) == len(reviews.BAD) == 10


@pytest.mark.parametrize("n, n_words", [(0, (5, 60)), (3, (0, 4)), (3, (5, 4))])
def test_made_reviews_rejects(n, n_words):
    with pytest.raises(ValueError, match="expected n >= 1"):
        reviews.made_reviews(n, generator(), n_words)


def test_words_are_lower_case_and_line_breaks_are_none():
    assert reviews.words("It's GOOD.<br /><br />A film, 10/10!") == ["it's", "good", "a", "film"]


def test_vocabulary_keeps_the_most_frequent_words():
    vocabulary = reviews.Vocabulary.of(["b b b a a c", "a b"], size=3, always=["ha"])
    assert vocabulary.numbers == {"ha": 2, "b": 3, "a": 4} and len(vocabulary) == 5
    encoded, lengths = vocabulary.encode(["b c ha b", "a", "!"], longest=3)
    assert encoded.tolist() == [[3, 1, 2], [4, 0, 0], [1, 0, 0]] and lengths.tolist() == [3, 1, 1]
    with pytest.raises(ValueError, match="expected a size"):
        reviews.Vocabulary.of(["a"], size=0, always=["ha"])


def test_the_chapter_trains_on_an_archive_as_well_as_on_made_reviews(tmp_path, monkeypatch):
    made = {split: reviews.made_reviews(n, generator(n)) for split, n in (("train", 2200), ("test", 400))}
    files = [
        (f"aclImdb/{split}/{'pos' if verdict else 'neg'}/{i}_{9 if verdict else 2}.txt", text.encode())
        for split, corpus in made.items()
        for i, (text, verdict) in enumerate(zip(corpus.texts, corpus.verdicts.tolist(), strict=True))
    ]
    path = archive(tmp_path / "aclImdb_v1.tar.gz", files)
    monkeypatch.setenv("CMLIB_OUTPUT", str(tmp_path / "out"))
    variables = {}
    for cell in code_cells(read_notebook(ROOT / "book" / "nonlinear" / "memory-in-applications.ipynb")):
        exec(source(cell), variables)
        if "parameters" in tags(cell):
            variables |= {"archive": str(path), "n_tests": 300, "n_watched": 20, "n_seeds": 1}
        if "right" in variables:
            break
    assert len(variables["shown"].texts) == 2000 and sum(variables["shown"].verdicts) == 1000
    assert variables["right"]["trained"].min() > 0.8 > variables["right"]["untrained"].min()
