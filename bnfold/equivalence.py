"""Is the candidate the same model? Runs both, and holds both against a float64 evaluation.

The original is run with the runtime's optimizations off, since at the default level the runtime
folds Conv and BatchNormalization itself and two such sessions would prove nothing. The candidate
is run with them off and at the deployment level. `bnfold.yardstick` says how far is too far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnfold import arguments, draws
from bnfold.comparison import Runs, Table
from bnfold.decisions import deciding
from bnfold.errors import BnfoldError, ProviderUnavailable
from bnfold.evaluation import evaluate
from bnfold.evidence import JUDGE_SECONDS, Evidence, as_tensors
from bnfold.feeds import SAMPLES, Data, Feeds, Samples, make_samples
from bnfold.isolation import PATIENCE_S
from bnfold.modelio import open_model
from bnfold.report import EquivalenceReport, OutputComparison
from bnfold.runtime import CPU, Level, Provider
from bnfold.sessions import Sessions
from bnfold.sizes import Dims, check_same_inputs
from bnfold.stored import StoredModel

Model = onnx.ModelProto | str | Path
Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""

DEPLOYED: tuple[Level, ...] = ("disable", "all")
"""The levels at which a candidate must pass: as written, and as it will be used."""

DRAWN_ONCE = (
    "the original draws random numbers: they were drawn once for each sample and given to both "
    "models"
)

GIVEN = "given"
"""What the settings say of data that is no file."""


def verify(
    original: Model,
    candidate: Model,
    *,
    data: Data | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    dims: Dims | None = None,
    providers: Sequence[Provider] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    judge_seconds: float = JUDGE_SECONDS,
    progress: Progress | None = None,
    isolate: bool = True,
    timeout_s: float | None = PATIENCE_S,
) -> EquivalenceReport:
    """Run both models and say whether they compute the same; the report is truthy if so.

    `data` (a dict or an iterable of dicts of arrays, .npz, .npy, a folder of ONNX test sets)
    takes the place of the `samples` generated sets of inputs; `dims` gives sizes to symbolic
    dimensions or shapes to inputs. With `atol` or `rtol` the rule is the plain
    `|a - e| <= atol + rtol * |e|` against the original.

    Sessions run in a child process, so that a runtime that crashes, or does not answer within
    `timeout_s`, is an error here (RuntimeCrashed) or, where it is the candidate's, a "no".
    `isolate=False` runs them in this process. Raises ModelError, InputError, RuntimeUnavailable
    and ProviderUnavailable for what could not be done at all.
    """
    chosen = arguments.providers(providers) or (CPU,)
    with Sessions(isolate, timeout_s) as sessions:
        models = open_model(original), open_model(candidate)
        check_same_inputs(*(model.proto for model in models))
        run = sessions.open(original, level="disable").run
        made = make_samples(models[0].proto, run, data=data, dims=dims, samples=samples, seed=seed)
        fixed = draws.fix(*models, made.items, sessions.open, seed)
        if fixed is not None:
            original, candidate = fixed.original, fixed.candidate
            models = open_model(original), open_model(candidate)
            made = Samples(fixed.samples, (*made.notes, DRAWN_ONCE))
        decided = deciding(models[0].proto, models[1].proto, models[0].weights)
        if fixed is not None:
            decided = fixed.watching(decided)
        plain = atol is not None or rtol is not None
        evidence = Evidence(
            outputs=[output.name for output in models[0].proto.graph.output],
            samples=made.items,
            seed=seed,
            atol=atol,
            rtol=rtol,
            mode="tolerance" if plain else "float64",
            deciding=decided,
            notes=list(made.notes),
        )
        proof = _Proof(original, candidate, evidence, models, sessions, progress)
        if not plain:
            if draws.may_draw(models[0].proto):
                draws.refuse_random(sessions.open(original, level="disable"), made.items[0])
            judges = partial(sessions.judge, original), partial(sessions.judge, candidate)
            evaluate(evidence, models, judges, judge_seconds, proof.say)
        with np.errstate(all="ignore"):  # infinities are compared, not computed with
            for provider in chosen:
                proof.compare_on(provider)
        settings = {
            "samples": samples,
            "dims": None if dims is None else dict(dims),
            "data": _named_data(data),
            "providers": list(chosen),
            "judge_seconds": judge_seconds,
        }
        return proof.report(settings)


def _named_data(data: Data | None) -> str | None:
    if data is None:
        return None
    return str(Path(data).resolve()) if isinstance(data, (str, Path)) else GIVEN


def digest(feeds: Feeds) -> str:
    """The SHA-256 of a set of inputs."""
    found = hashlib.sha256()
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        found.update(f"{name} {array.dtype} {array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


class _Proof:
    """One verification, step by step."""

    def __init__(
        self,
        original: Model,
        candidate: Model,
        evidence: Evidence,
        models: tuple[StoredModel, StoredModel],
        sessions: Sessions,
        progress: Progress | None,
    ) -> None:
        self.original = original
        self.candidate = candidate
        self.evidence = evidence
        self.models = models
        self.sessions = sessions
        self.progress = progress
        self.comparisons: list[OutputComparison] = []
        self.providers: list[str] = []
        self.culprit: str | None = None

    def say(self, stage: str, done: int, total: int) -> None:
        """Tell the caller how far it is."""
        if self.progress is not None:
            self.progress(stage, done, total)

    def compare_on(self, provider: Provider) -> None:
        """Every output on one provider, at both levels."""
        watched = self.evidence.deciding.watched
        plain = self.sessions.open(
            self.original, provider=provider, level="disable", outputs=watched
        )
        self.providers.append(plain.provider)
        expected = [as_tensors(plain.run(s.feeds)) for s in self.evidence.samples]
        runs: dict[Level, Runs] = {}
        for done, level in enumerate(DEPLOYED):
            self.say(f"run {plain.provider}", done, len(DEPLOYED) + 1)
            runs[level] = self._run(self.candidate, provider, level)
        self.say(f"run {plain.provider}", len(DEPLOYED), len(DEPLOYED) + 1)
        deployed = self._run(self.original, provider, "all")
        table = Table(self.evidence, plain, expected, deployed)
        if self.evidence.mode == "float64" and plain.provider == CPU:
            self._distrust(table)
        failed_before = sum(not c.passed for c in self.comparisons)
        for level in DEPLOYED:
            for name in self.evidence.outputs:
                self.comparisons.append(table.compare(name, level, runs[level]))
        for name in self.evidence.deciding.shared:
            if table.is_float(name):  # whole numbers alone would not show a fault that is small
                self.comparisons.append(table.compare(name, "disable", runs["disable"]))
        if self.culprit is None and sum(not c.passed for c in self.comparisons) > failed_before:
            self._find_culprit(provider)
        table.judge_the_runtime(runs["all"])
        table.note_what_proves_little()

    def _run(self, model: Model, provider: Provider, level: Level) -> Runs:
        """Outputs for every sample; an error of the model is a result, one of the provider not."""
        runs = Runs([None] * len(self.evidence.samples))
        watched = self.evidence.deciding.shared if level == "disable" else ()
        try:
            session = self.sessions.open(model, provider=provider, level=level, outputs=watched)
            for index, sample in enumerate(self.evidence.samples):
                runs.values[index] = as_tensors(session.run(sample.feeds))
        except ProviderUnavailable:
            raise
        except BnfoldError as error:
            runs.error = error
        return runs

    def _distrust(self, table: Table) -> None:
        """Give the judge up where it, not the original, seems to be wrong.

        A disagreement on a few samples is the original's: it has a singularity there. One on
        most samples means that the evaluation computes something else.
        """
        for name in (*self.evidence.outputs, *self.evidence.deciding.watched):
            odd = table.disagreements(name)
            if 2 * len(odd) > len(self.evidence.samples):
                self.evidence.drop_judge(
                    f"the float64 evaluation of {name} lies farther from the runtime than "
                    "rounding explains; errors are held against the runtime's noise instead"
                )
                table.forget()
                return
            for index in odd:
                self.evidence.note(
                    "the original is far from its own float64 evaluation on sample "
                    f"({self.evidence.samples[index].name}), output {name}: that sample "
                    "proves little"
                )

    def _find_culprit(self, provider: Provider) -> None:
        from bnfold.culprit import first_departure

        failed = [c for c in self.comparisons if not c.passed]
        named = {sample.name: sample for sample in self.evidence.samples}
        sample = named.get(failed[0].sample, self.evidence.samples[0])
        found = first_departure(
            *self.models, sample.feeds, provider=provider, open_session=self.sessions.open
        )
        if found is not None:
            self.culprit = found.tensor
            self.evidence.note(
                f"the first tensor to depart is {found.tensor} ({found.op_type}), "
                f"by {found.error:.1e} of its scale"
            )

    def report(self, settings: dict[str, Any]) -> EquivalenceReport:
        """What was found."""
        return EquivalenceReport(
            outputs=tuple(self.comparisons),
            seed=self.evidence.seed,
            samples=tuple(sample.name for sample in self.evidence.samples),
            judge=self.evidence.mode,
            providers=tuple(self.providers),
            culprit=self.culprit,
            atol=self.evidence.atol,
            rtol=self.evidence.rtol,
            notes=tuple(self.evidence.notes),
            environment=self.sessions.environment(),
            digests=tuple(digest(sample.feeds) for sample in self.evidence.made),
            settings=settings,
        )
