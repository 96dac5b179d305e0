"""The first screen says what the numbers say: error with interval, facts, the strongest evidence that is there."""

from pathlib import Path

import pytest
from tests.show import cases

from howdeep.analysis.evaluation import Answers
from howdeep.runs.folder import Run
from howdeep.runtime.precision import FP32
from howdeep.runtime.timing import Timing
from howdeep.search.answer import Candidate, FinalError, Verdict
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.degradation import Degradation, FamilyResult
from howdeep.search.diagnosis import Errors, diagnose, point_of
from howdeep.search.fit import Fit
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult
from howdeep.show.report.page import Page, page_of
from howdeep.show.report.reading import collect
from howdeep.show.report.sections import Answer, lesion_verdict
from howdeep.show.report.summary import data_text, summary_of
from howdeep.util.options import read_seconds
from howdeep.util.text import sentence

pytestmark = pytest.mark.usefixtures("undrawn")


def page(*paths: Path) -> Page:
    return page_of(collect(list(paths)), "howdeep report")


def answer(*paths: Path) -> Answer:
    return page(*paths).answer


def fit_of(run: Path, network: str = "cifar_resnet20") -> Fit:
    timing, result = Timing(1.5, (1.4, 1.6), 5), RoundResult(10.0, 100, 60.0, 1.0, 6.0, 0.2, Answers("i", ""))
    costs = CandidateCosts("resnet", 20, 1, network, 269_000, 2_500_000, timing, 0.01, False, 30.0, False, FP32)
    alike, onward = ("cifar_resnet14", "cifar_resnet32"), "with 90 min: deeper (cifar_resnet32)"
    verdict = Verdict(alike, "nothing", "more depth did not help", f"take {network}", onward)
    return Fit(
        network=network,
        family="resnet",
        depth=20,
        width=1,
        run=str(run),
        validation_error_percent=6.0,
        validation_standard_error=1.0,
        validation_images=100,
        test=FinalError(5.0, 1.0, 100),
        latency=timing,
        final=result,
        spent_seconds=read_seconds("x", "30m"),
        budgets=Budgets(1800.0),
        verdict=verdict,
        candidates=(Candidate(costs, (result,), False),),
        precision="fp32",
        notes=(),
        dropped=(Dropped("resnet", 56, 1, "cifar_resnet56", "latency", "9 ms", 0.009),),
    )


def test_one_run_is_its_name_its_error_and_its_exact_interval(tmp_path: Path) -> None:
    """5 of 179: with 0.91 % five or more are wrong 2.5 times in a hundred, with 6.4 % five or fewer."""
    found = answer(cases.run_folder(tmp_path / "run", "cifar_resnet56", wrong=5, n=179))
    assert found.sentence == "cifar_resnet56: 2.8 % test error (95 % interval 0.9–6.4, n = 179)"


def test_the_facts_are_counted_and_read_and_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    """cifar_resnet8 on one channel of 8×8 for two classes; 2.1 M MACs fewer with each unit than that of 32×32."""
    facts = dict(answer(cases.run_folder(tmp_path / "run", "cifar_resnet8")).facts)
    assert (facts["layers"], facts["units"], facts["training time"]) == ("8", "3", "12 s")
    assert facts["data"] == "digits, 8×8 pixels, 2 classes"
    assert "latency" not in facts


def test_parameters_are_those_of_the_network_that_is_built(tmp_path: Path) -> None:
    (subject,) = collect([cases.run_folder(tmp_path / "run", "cifar_resnet8")]).runs
    facts = summary_of(subject)
    assert subject.run is not None
    chain = subject.run.untrained()
    assert (facts.parameters, facts.units) == (sum(weights.numel() for weights in chain.parameters()), len(chain))


def test_a_cut_network_has_the_size_and_the_error_of_the_cut(tmp_path: Path) -> None:
    """9 units of two layers less two units: 16 layers; the test error of the record of the cut, 5 + 0.5 %."""
    run = cases.run_folder(tmp_path / "run", wrong=None, errors=(), removed=(1, 2))
    cases.written(run / "cut.json", "cut", cases.cut(9, 2))
    found = answer(run)
    assert found.sentence.startswith("cifar_resnet20 cut to 7 units: 5.5 % test error (95 % interval ")
    assert found.sentence.endswith("n = 100)")
    facts = dict(found.facts)
    assert (facts["layers"], facts["units"], facts["latency"]) == ("16", "7", "1 ms")
    test = "2 of 9 units out: test 5.0 → 5.5 %, +0.5 points (95 %: −0.5 to +1.5); 2 → 1 ms; 50 % less time, 22 % fewer"
    assert found.verdict.startswith(test)


def test_a_run_beside_the_record_of_its_cut_keeps_its_own_latency(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    cases.written(run / "cut.json", "cut", cases.cut(9, 2))
    assert dict(answer(run).facts)["latency"] == "2 ms"


def test_a_run_that_is_not_finished_is_told_by_its_validation_error(tmp_path: Path) -> None:
    assert answer(cases.run_folder(tmp_path / "run", wrong=None)).sentence == "cifar_resnet20: 6.0 % validation error"
    assert "no error" in answer(cases.run_folder(tmp_path / "new", wrong=None, errors=())).sentence


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (((1.0, 6.0),), "It knows its training images (training error 1.0 %, validation error 6.0 %)"),
        (((5.0, 6.0),), "It does not know its training images yet (training error 5.0 %, validation error 6.0 %)"),
        (((0.0, 0.0),), "It does not know its training images yet"),
    ],
)
def test_without_other_evidence_the_gap_of_the_curves_is_the_verdict(errors: tuple, said: str, tmp_path: Path) -> None:
    assert answer(cases.run_folder(tmp_path / "run", errors=errors)).verdict.startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # Intervals reach one point to either side, so that 1.0 alone would be significant, and of four it is not.
        (
            (0.9, -3.0, 0.0, 1.01),
            "4 of 4 units cost nothing significant when taken out alone (one image is 1 %): there may",
        ),
        (
            (0.9, 2.0, 3.0),
            "1 of 3 units costs nothing significant when taken out alone (one image is 1 %); the others cost",
        ),
        ((1.2, 2.0), "Every one of 2 units costs significantly more than nothing when it is taken out."),
    ],
)
def test_lesions_say_how_many_units_can_be_missed(changes: tuple, said: str) -> None:
    assert lesion_verdict(cases.lesion(changes)).startswith(said)


def test_a_network_that_has_learned_little_has_no_depth_to_spare() -> None:
    """Of two classes guessing gets half of the images wrong, and a network that gets 40 % wrong not much less."""
    learned, guessing = (lesion_verdict(cases.lesion((0.0, 0.0), error=error)) for error in (20.0, 40.0))
    assert "there may be depth to spare" in learned
    assert guessing.endswith("gets 40.0 % wrong, where guessing gets 50 %: train it before you cut it.")


def test_lesions_are_stronger_than_curves_a_cut_than_lesions_and_the_strip_is_shown(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    cases.written(run / "lesion.json", "lesion", cases.lesion((0.1,) * 9))
    found = answer(run)
    assert found.verdict.startswith("9 of 9 units")
    assert found.strip is not None
    assert found.strip.kind == "lesion"
    cases.written(run / "cut.json", "cut", cases.cut(9, 2))
    assert answer(run).verdict.startswith("2 of 9 units out: test 5.0 → 5.5 %, +0.5 points")


def test_the_strip_is_that_of_deleted_units_of_the_best_network(tmp_path: Path) -> None:
    places = [
        cases.written(tmp_path / "a.json", "lesion", cases.lesion((1.0,), "duplicate", error=0.0)),
        cases.written(tmp_path / "b.json", "lesion", cases.lesion((1.0,), error=5.0)),
        cases.written(tmp_path / "c.json", "lesion", cases.lesion((2.0,), error=3.0)),
    ]
    strip = answer(*places).strip
    assert strip is not None
    assert strip.value == cases.lesion((2.0,), error=3.0)


def test_a_fit_answers_before_everything_else(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "answer" / "runs" / "cifar_resnet20")
    cases.written(run / "lesion.json", "lesion", cases.lesion((0.1,) * 9))
    cases.written(tmp_path / "answer" / "answer.json", "fit", fit_of(run))
    found = answer(tmp_path / "answer")
    assert found.sentence.startswith(
        "Take cifar_resnet20, 20 layers: 5.0 % test error (95 % interval 1.6–11.3, n = 100)"
    )
    said = "More depth did not help. Take cifar_resnet20. With 90 min: deeper (cifar_resnet32)."
    assert found.verdict == said
    facts = dict(found.facts)
    assert facts["cannot be told apart"] == "cifar_resnet14 and cifar_resnet32"
    assert (facts["latency"], facts["time spent"]) == ("1.5 ms", "30 min")
    assert facts["units"] == "9"
    assert (found.strip, found.chart is None) == (None, False)
    told = page(tmp_path / "answer")
    (search,) = (one for part in told.parts for one in part.sections if one.heading == "How deep: the search")
    assert search.charts == ()
    assert told.next == (f"howdeep export {run} --out {run}.onnx", "hand it over")


def test_a_ladder_answers_with_its_diagnosis(tmp_path: Path) -> None:
    points = tuple(point_of(depth, [Errors(error, 1000, error + 1, 1000)]) for depth, error in ((8, 2.0), (56, 40.0)))
    family = FamilyResult("plain", 1, "plain", points, diagnose(points))
    found = answer(
        cases.written(tmp_path / "d.json", "degradation", Degradation("digits", "epochs", (0,), (family,), ()))
    )
    assert found.sentence == "Plain: optimisation fails beyond 8 layers."
    assert found.verdict.startswith(
        "Plain: training error rises from 2.0 % (1.2–3.1) at 8 layers to 40.0 % (36.9–43.1) at 56 (95 %)."
    )


def test_a_record_alone_says_its_finding(tmp_path: Path) -> None:
    found = answer(cases.written(tmp_path / "e.json", "evaluation", cases.evaluation(5, 100)))
    assert found.sentence == "5.0 % error (95 % interval 1.6–11.3, n = 100); the worst class is 0 with 10.0 %."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("take it", "Take it."),
        ("cifar_resnet56 ends", "cifar_resnet56 ends."),
        ("9 of 27 units out", "9 of 27 units out."),
        ("done.", "Done."),
        ("", ""),
    ],
)
def test_a_finding_becomes_a_sentence_and_names_keep_their_letters(text: str, said: str) -> None:
    assert sentence(text) == said


def test_the_file_of_imported_weights_is_not_taken_for_their_data() -> None:
    data = {"name": "weights.th", "source": "weights.th", "height": 32, "width": 32, "classes": None}
    imported = Run(Path("run"), {"imported": "weights.th", "data": data})
    assert data_text(imported) == "unknown data, 32×32 pixels"
    assert data_text(imported, "photos/cifar10") == "cifar10, 32×32 pixels"
    assert data_text(Run(Path("run"), {"data": {**data, "name": "digits"}})) == "digits, 32×32 pixels"
