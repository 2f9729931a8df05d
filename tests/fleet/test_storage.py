"""Is every place the same to a sweep: folders, object stores and what is neither?"""

from __future__ import annotations

from pathlib import Path

import fleets
import pytest

from bnfold.errors import InputError, OutputError
from bnfold.fleet.source import find_models, open_source
from bnfold.fleet.storage import Place, check_writable, split_glob


def test_a_file_is_what_was_written_last(anywhere: str) -> None:
    """Written, replaced, read, listed and seen to have changed."""
    place = Place(anywhere)
    assert place.read("a/b.json") is None
    assert place.names() == {}
    place.write("a/b.json", b"one")
    first = place.names()["a/b.json"]
    place.write("a/b.json", b"three")
    second = place.names()["a/b.json"]
    assert (first.bytes, second.bytes) == (3, 5)
    assert first.state != second.state == place.state("a/b.json")
    assert place.read("a/b.json") == b"three"
    assert list(place.read_all(["a/b.json", "a/none.json"])) == [b"three"]
    assert list(place.names("a")) == ["a/b.json"]


def test_files_come_and_go(anywhere: str, tmp_path: Path) -> None:
    """A file of this machine arrives whole and comes back the same."""
    place, here = Place(anywhere), tmp_path / "here.bin"
    here.write_bytes(b"x" * 100_000)
    place.put(here, "deep/er/there.bin")
    assert place.exists("deep/er/there.bin")
    place.fetch("deep/er/there.bin", tmp_path / "back" / "again.bin")
    assert (tmp_path / "back" / "again.bin").read_bytes() == b"x" * 100_000


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """On a system that is neither a folder nor an object store, too: it is moved into place."""
    place = Place(str(tmp_path))
    place.protocols = {"sftp"}  # a local file system that is treated as a remote one
    place.write("a/b.txt", b"one")
    full = place.fs.pipe_file

    def half(path: str, data: bytes) -> None:
        full(path, data[:1])
        raise OSError("the line went dead")

    place.fs.pipe_file = half
    try:
        with pytest.raises(OSError, match="dead"):
            place.write("a/b.txt", b"two")
    finally:
        del place.fs.pipe_file
    assert place.read("a/b.txt") == b"one"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    """An OutputError that names the place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/below cannot be written"):
        check_writable(Place(str(tmp_path / "file" / "below")))


def test_unknown_protocols() -> None:
    """An InputError that names the URL."""
    with pytest.raises(InputError, match="nonsense://x cannot be opened"):
        Place("nonsense://x")


# -- what is found --------------------------------------------------------------------------------


def names(url: str, beside: str | None = None) -> list[str]:
    place, pattern = open_source(url)
    return sorted(
        f.model for f in find_models(place, pattern, beside=Place(beside) if beside else None)
    )


def test_folders_files_and_globs(tmp_path: Path) -> None:
    """All below a folder, one file, or what a pattern names, relative to what comes before it."""
    fleets.fleet(tmp_path, 3)
    (tmp_path / "team0" / "notes.txt").write_text("")
    assert names(str(tmp_path)) == ["team0/net0.onnx", "team0/net2.onnx", "team1/net1.onnx"]
    assert names(f"{tmp_path}/team0/net0.onnx") == ["net0.onnx"]
    assert names(f"{tmp_path}/*/net[01].onnx") == ["team0/net0.onnx", "team1/net1.onnx"]
    assert names(f"{tmp_path}/team*/**") == [
        "team0/net0.onnx",
        "team0/net2.onnx",
        "team1/net1.onnx",
    ]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    """What exists under that very name is meant."""
    fleets.save(fleets.small(), tmp_path / "a[1]" / "net.onnx")
    assert names(str(tmp_path / "a[1]")) == ["net.onnx"]


def test_the_destination_below_the_source_is_no_source(tmp_path: Path) -> None:
    """Folded models are not folded again."""
    fleets.fleet(tmp_path, 1)
    fleets.fleet(tmp_path / "folded", 1)
    fleets.fleet(tmp_path / "folded-by-hand", 1)
    found = names(str(tmp_path), beside=str(tmp_path / "folded"))
    assert found == ["folded-by-hand/team0/net0.onnx", "team0/net0.onnx"]


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    """An InputError that names the place, and one for a place that is not there."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"there is no \.onnx file in"):
            names(str(folder))


def test_split_glob() -> None:
    """The folder before the first wildcard."""
    assert split_glob("s3://b/k/*/x.onnx") == ("s3://b/k", "*/x.onnx")
    assert split_glob("*.onnx") == (".", "*.onnx")
    assert split_glob("/*.onnx") == ("/", "*.onnx")


def test_triton_companions(tmp_path: Path) -> None:
    """Everything beside the versions goes with each version, and versions have no others."""
    for version in (1, 2):
        fleets.save(fleets.small(version), tmp_path / "net" / str(version) / "model.onnx")
    (tmp_path / "net" / "config.pbtxt").write_text('name: "net"')
    (tmp_path / "net" / "labels.txt").write_text("cat")
    fleets.save(fleets.small(), tmp_path / "loose" / "1" / "model.onnx")
    for url in (str(tmp_path), f"{tmp_path}/*/*/model.onnx"):
        found = {f.model: f.companions for f in find_models(*open_source(url))}
        both = ("net/config.pbtxt", "net/labels.txt")
        assert found == {
            "net/1/model.onnx": both,
            "net/2/model.onnx": both,
            "loose/1/model.onnx": (),
        }
