"""Does a sweep do with many models what `optimize` does with one, once, whatever happens?"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fleets
import onnx
import psutil
import pytest

import bnfold
from bnfold import isolation
from bnfold.errors import InputError, OutputError
from bnfold.fleet.manifest import FOLDER, LINES, Manifest, read_lines
from bnfold.fleet.record import SweptModel
from bnfold.fleet.storage import Place

pytestmark = pytest.mark.isolated
QUICK: dict[str, Any] = {"bench": False, "samples": 1, "workers": 2}


def swept(source: str | Path, destination: str | Path, **options: Any) -> dict[str, SweptModel]:
    found = list(bnfold.sweep(str(source), str(destination), **QUICK | options))
    assert len({record.model for record in found}) == len(found)
    return {record.model: record for record in found}


def lines(destination: str | Path) -> list[SweptModel]:
    data = Place(str(destination)).read(f"{FOLDER}/{LINES}")
    assert data is not None
    return read_lines(data)


def test_everywhere(anywhere: str, tmp_path: Path) -> None:
    """The folded models are those of `optimize`, byte by byte; a second sweep does nothing."""
    source = fleets.fleet(tmp_path / "source", 3)
    fleets.save(fleets.PLAIN, source / "plain.onnx")
    (source / "garbage.onnx").write_bytes(b"this is no model\xff\x00")
    found = swept(source, anywhere)
    place = Place(anywhere)
    for name, record in found.items():
        if name == "garbage.onnx":
            assert (record.outcome, record.failure and record.failure.kind) == (
                "failed",
                "invalid",
            )
            continue
        assert record.outcome == ("unchanged" if name == "plain.onnx" else "equivalent")
        bnfold.optimize(source / name, tmp_path / "one.onnx", bench=False, samples=1, force=True)
        assert place.read(name) == (tmp_path / "one.onnx").read_bytes()
    assert lines(anywhere) == sorted(found.values(), key=lambda r: r.model)
    again = swept(source, anywhere)
    assert all(record.skipped for record in again.values())
    assert lines(anywhere) == sorted(found.values(), key=lambda r: r.model)


def test_from_anywhere(anywhere: str, tmp_path: Path) -> None:
    """A source may be what a destination may be; external data is fetched with its model."""
    place = Place(anywhere).sub("source")
    fleets.save_external(tmp_path / "here" / "big" / "net.onnx")
    for path in (tmp_path / "here").rglob("*.*"):
        name = str(path.relative_to(tmp_path / "here"))
        place.write(name, path.read_bytes())
    record = swept(place.url, tmp_path / "folded")["big/net.onnx"]
    assert record.outcome == "equivalent"
    assert set(record.inputs) == {"big/net.onnx", "big/weights.bin"}
    original, folded = tmp_path / "here" / "big" / "net.onnx", tmp_path / "folded/big/net.onnx"
    assert bnfold.verify(original, folded, samples=1)
    data = bytearray(place.read("big/weights.bin") or b"")
    data[0] ^= 1
    place.write("big/weights.bin", bytes(data))
    assert not swept(place.url, tmp_path / "folded")["big/net.onnx"].skipped


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    """Another file, option or a lost output: yes; another time of the same bytes: no."""
    source, target = fleets.fleet(tmp_path / "source", 4), tmp_path / "folded"
    first = swept(source, target)
    fleets.save(fleets.small(99), source / "team0" / "net0.onnx")
    os.utime(source / "team1" / "net1.onnx", (1, 1))
    (target / "team0" / "net2.onnx").unlink()
    second = swept(source, target)
    done = {name for name, record in second.items() if not record.skipped}
    assert done == {"team0/net0.onnx", "team0/net2.onnx"}
    assert second["team0/net0.onnx"].sha256 != first["team0/net0.onnx"].sha256
    assert all(r.skipped for r in swept(source, target, checksum=True).values())
    assert not any(r.skipped for r in swept(source, target, samples=2).values())
    assert not any(r.skipped for r in swept(source, target, samples=2, again=True).values())


def test_a_change_that_the_storage_does_not_tell_of(tmp_path: Path) -> None:
    """`checksum` finds it: the records say another hash than the bytes have."""
    source, target = fleets.fleet(tmp_path / "source", 1), tmp_path / "folded"
    swept(source, target)
    manifest = Manifest(Place(str(target / FOLDER)))
    (record,) = manifest.records().values()
    text = json.dumps(record.to_dict()).replace(record.sha256, "0" * 64)
    (target / FOLDER / "records" / f"{record.model}.json").write_text(text)
    assert all(r.skipped for r in swept(source, target).values())
    assert not any(r.skipped for r in swept(source, target, checksum=True).values())


def test_triton_repository(tmp_path: Path) -> None:
    """The layout stays, the configuration goes along, and again when only it changes."""
    source, target = tmp_path / "source", tmp_path / "folded"
    fleets.save(fleets.small(), source / "net" / "1" / "model.onnx")
    config = source / "net" / "config.pbtxt"
    config.write_text("max_batch_size: 8")
    manifest = str(tmp_path / "manifest")
    swept(source, target, manifest=manifest)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*.*")) == [
        "net/1/model.onnx",
        "net/config.pbtxt",
    ]
    config.write_text("max_batch_size: 16")
    assert swept(source, target, manifest=manifest)["net/1/model.onnx"].skipped
    assert (target / "net" / "config.pbtxt").read_text() == "max_batch_size: 16"


def test_timing_comes_after_and_may_come_later(tmp_path: Path) -> None:
    """A fleet that was folded is timed without folding it again, and then no more."""
    source, target = fleets.fleet(tmp_path / "source", 2), tmp_path / "folded"
    fleets.save(fleets.PLAIN, source / "plain.onnx")
    first = swept(source, target)
    timed = swept(source, target, bench=True, budget_s=0.2)
    for name, record in timed.items():
        assert record.finished == first[name].finished
        assert (record.speed is None) == (name == "plain.onnx")
        result = json.loads((target / FOLDER / "results" / f"{name}.json").read_text())
        assert (result["speed"] is None) == (name == "plain.onnx")
    assert all(r.skipped for r in swept(source, target, bench=True, budget_s=0.2).values())
    assert not swept(source, target, bench=True, budget_s=0.3)["team0/net0.onnx"].skipped


# -- what goes wrong ------------------------------------------------------------------------------


def test_one_that_crashes_hangs_swells_or_is_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed with its error, and the other models are what they would have been."""
    monkeypatch.setattr(isolation, "_BOOT", fleets.boot())
    source, target = fleets.fleet(tmp_path / "source", 4), tmp_path / "folded"
    for name in ("crash", "swell"):
        fleets.save(fleets.small(), source / f"{name}.onnx")
    fleets.save(fleets.ENDLESS, source / "endless.onnx")
    (source / "garbage.onnx").write_bytes(random.Random(1).randbytes(5000))
    (source / "empty.onnx").write_bytes(b"")
    found = swept(source, target, timeout=8, memory_limit="800 MB")
    kinds = {n: r.failure.kind for n, r in found.items() if r.failure is not None}
    assert kinds == {
        "crash.onnx": "crashed",
        "swell.onnx": "memory",
        "endless.onnx": "timed_out",
        "garbage.onnx": "invalid",
        "empty.onnx": "invalid",
    }
    assert "SIGSEGV" in found["crash.onnx"].failure.message  # type: ignore[union-attr]
    good = [record for name, record in found.items() if name not in kinds]
    assert [record.outcome for record in good] == ["equivalent"] * 4, good
    assert not any((target / name).exists() for name in kinds)
    assert len(lines(target)) == 9
    fleets.save(fleets.PLAIN, source / "endless.onnx")
    again = swept(source, target, memory_limit="4 GB")
    tried = {name for name, record in again.items() if not record.skipped}
    assert tried == {"crash.onnx", "swell.onnx", "endless.onnx"}
    assert again["swell.onnx"].outcome == "equivalent", again["swell.onnx"].failure


def test_a_model_is_not_blamed_for_another_s_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was spoiled before is not used up on the next model."""
    monkeypatch.setattr(isolation, "_BOOT", fleets.boot("mischief.install_late(3)"))
    source = fleets.fleet(tmp_path / "source", 6)
    found = swept(source, tmp_path / "folded", workers=1)
    assert {record.outcome for record in found.values()} == {"equivalent"}


def test_not_equivalent(tmp_path: Path) -> None:
    """A model of which no equivalent one can be made is an answer: it says how far it was off,
    writes no model and is not tried again, and the others are unaffected."""
    source, target = fleets.fleet(tmp_path / "source", 1), tmp_path / "folded"
    fleets.save(fleets.CHAOTIC, source / "chaotic.onnx")
    first = swept(source, target, atol=1e-3, rtol=0.0)
    assert {name: record.outcome for name, record in first.items()} == {
        "chaotic.onnx": "not_equivalent",
        "team0/net0.onnx": "equivalent",
    }
    failure = first["chaotic.onnx"].failure
    assert failure is not None
    assert failure.message.startswith("no equivalent model could be made: output y on ")
    assert not first["chaotic.onnx"].outputs
    assert not (target / "chaotic.onnx").exists()
    again = swept(source, target, atol=1e-3, rtol=0.0)
    assert all(record.skipped for record in again.values())


def test_a_destination_that_no_sweep_made(tmp_path: Path) -> None:
    """Its models are not written over, unless that is asked for; nor is the source, ever."""
    source, target = fleets.fleet(tmp_path / "source", 1), tmp_path / "folded"
    fleets.save(fleets.small(5), target / "team0" / "net0.onnx")
    with pytest.raises(OutputError, match=r"holds team0/net0\.onnx already"):
        swept(source, target)
    assert swept(source, target, force=True)["team0/net0.onnx"].outcome == "equivalent"
    with pytest.raises(OutputError, match="the same"):
        swept(source, f"{tmp_path}/./source/")


def test_options_that_make_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told before anything is done."""
    source = fleets.fleet(tmp_path / "source", 1)
    with pytest.raises(TypeError, match="no option nonsense"):
        bnfold.sweep(str(source), str(tmp_path / "x"), nonsense=1)
    with pytest.raises(InputError, match="no amount of memory"):
        bnfold.sweep(str(source), str(tmp_path / "x"), memory_limit="much")
    monkeypatch.setattr("bnfold.fleet.schedule.PATIENCE_S", 2)
    with pytest.raises(InputError, match="there is no scheduler at"):
        swept(source, tmp_path / "x", scheduler=f"tcp://127.0.0.1:{fleets.free_port()}")
    with pytest.raises(InputError, match="memory:// is seen by this process alone"):
        swept(source, "memory://x", scheduler="tcp://127.0.0.1:1")


# -- ends that come early -------------------------------------------------------------------------


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_closing_the_generator_ends_the_sweep(tmp_path: Path) -> None:
    """No process is left, what was done is in the manifest, and the next sweep goes on."""
    source, target = fleets.fleet(tmp_path / "source", 6), tmp_path / "folded"
    fleets.save(fleets.ENDLESS, source / "endless.onnx")
    before = children()
    running = bnfold.sweep(str(source), str(target), **QUICK)
    next(running)
    running.close()
    fleets.wait_for(lambda: children() <= before, 10)
    known = {record.model for record in lines(target)}
    assert 0 < len(known) < 7
    (source / "endless.onnx").unlink()
    rest = swept(source, target)
    assert {name for name, record in rest.items() if record.skipped} == known


SWEEP = """
import sys, bnfold
for record in bnfold.sweep(sys.argv[1], sys.argv[2], bench=False, samples=1, workers=2):
    print(record.model, flush=True)
"""


def start(source: str | Path, destination: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(source), destination],
        env=fleets.environment(),
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_killed_and_started_again(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """At a random moment: only what was under way is done again, and nothing half is left."""
    source = fleets.fleet(tmp_path / "source", 10)
    bucket = str(tmp_path) if place == "folder" else str(request.getfixturevalue("bucket"))
    destination = f"{bucket}/folded"
    records = Place(destination).sub(f"{FOLDER}/records")
    moment = random.Random().uniform(0.0, 0.5)
    running = start(source, destination)
    fleets.wait_for(lambda: records.names() or running.poll() is not None, 120)
    started = psutil.Process(running.pid).children(recursive=True)
    time.sleep(moment)
    running.send_signal(signal.SIGKILL)
    running.wait()
    fleets.wait_for(lambda: not any(child.is_running() for child in started), 20)
    known = set(Manifest(Place(destination).sub(FOLDER)).records())
    found = swept(source, destination)
    assert {name for name, record in found.items() if record.skipped} == known
    assert {record.outcome for record in found.values()} == {"equivalent"}
    assert len(lines(destination)) == 10
    for name in found:
        onnx.load_model_from_string(Place(destination).read(name) or b"")


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_two_sweeps_at_once(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Both end well, and the manifest is whole."""
    source = fleets.fleet(tmp_path / "source", 8)
    bucket = str(tmp_path) if place == "folder" else str(request.getfixturevalue("bucket"))
    other = start(source, f"{bucket}/folded")
    found = swept(source, f"{bucket}/folded")
    assert other.wait(120) == 0
    assert {record.outcome for record in found.values()} == {"equivalent"}
    assert {record.model for record in lines(f"{bucket}/folded")} == set(found)
    assert all(record.skipped for record in swept(source, f"{bucket}/folded").values())


# -- other machines -------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_cluster(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler and two workers over TCP: the same, also where a model crashes."""
    fleets.plant_mischief(tmp_path / "mischief")
    monkeypatch.syspath_prepend(str(tmp_path / "mischief"))
    source = fleets.fleet(tmp_path / "source", 6)
    fleets.save(fleets.small(), source / "crash.onnx")
    with fleets.cluster() as address:
        options: dict[str, Any] = {"scheduler": address, "bench": True, "budget_s": 0.2}
        found = swept(source, f"{bucket}/folded", **options)
        assert {n for n, r in found.items() if not r} == {"crash.onnx"}
        (source / "crash.onnx").rename(tmp_path / "crash.onnx")
        here = swept(source, tmp_path / "here")
        (tmp_path / "crash.onnx").rename(source / "crash.onnx")
        for name, record in found.items():
            assert (record.speed is None) == (name == "crash.onnx")
            if name not in here:
                continue
            assert record.outcome == here[name].outcome, record.failure
            assert record.outputs.keys() == here[name].outputs.keys()
            assert [o.sha256 for o in record.outputs.values()] == [
                o.sha256 for o in here[name].outputs.values()
            ]
        again = swept(source, f"{bucket}/folded", **options)
        assert [name for name, record in again.items() if not record.skipped] == ["crash.onnx"]


@pytest.mark.slow
def test_a_cluster_that_cannot_time(tmp_path: Path) -> None:
    """Without the resource the sweep would wait for ever; it says what to do instead."""
    source = fleets.fleet(tmp_path / "source", 1)
    with fleets.cluster(1, resources=False) as address:
        with pytest.raises(InputError, match=r"no worker of .* offers the resource BENCH"):
            swept(source, tmp_path / "x", scheduler=address, bench=True)
        assert swept(source, tmp_path / "x", scheduler=address)["team0/net0.onnx"]
