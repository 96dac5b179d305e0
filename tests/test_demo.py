"""The demo leaves a page behind that tells all of it: with small networks here, the rest is as a user sees it."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from howdeep import demo
from howdeep.show.report.reading import collect


@pytest.mark.slow
def test_the_demo_writes_its_records_into_the_runs_and_a_page_about_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"DEPTHS": (8, 14), "EPOCHS": 1, "VERY_DEEP": 20, "VERY_DEEP_EPOCHS": 1, "DISSECTED": 14, "KEPT": 4}
    small |= {"SAMPLED_LENGTHS": (1, 3)}
    for name, value in small.items():
        monkeypatch.setattr(demo, name, value)
    console = Console(file=io.StringIO(), width=80)
    demo.demo(tmp_path, console=console)
    assert isinstance(console.file, io.StringIO)
    assert re.search(r"on one page: \S*report\.html \(\d+ kB", console.file.getvalue())
    runs = {Path(one.place).name: [record.kind for record in one.records] for one in collect([tmp_path]).runs}
    plain = {"cifar_plain8": [], "cifar_plain14": ["lesion"]}
    residual = {"cifar_resnet8": [], "cifar_resnet14": ["lesion", "paths"], "cifar_resnet20": ["paths"]}
    assert runs == {**plain, **residual, "cut_to_4_units": ["cut"]}
    assert "howdeep probe timm:tf_efficientnet_lite0" in console.file.getvalue().splitlines()[-1]
    text = (tmp_path / "report.html").read_text()
    for name in ("cifar_plain14", "cifar_resnet20", "cifar_resnet14 cut to 4 units"):
        assert f">{name}<" in text
