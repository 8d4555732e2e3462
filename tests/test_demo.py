"""What `make demo` says at its end follows from the files, whatever they say."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "examples" / "demo.py"


@pytest.fixture
def demo(monkeypatch):
    spec = importlib.util.spec_from_file_location("demo", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def search(z, p, bound=False, believed=True):
    numbers = {"global_significance": z, "global_p_value": p, "global_p_value_is_bound": bound}
    quoted = {"cut": "mass", **numbers} if believed else {"cut": None, **dict.fromkeys(numbers)}
    return {"believed": quoted, "pseudo_experiments": 40_000, "interval": [3157.4, 3560.52], "mass_estimate": 3430.0,
            "selected_events": 98, "expected": 41.2, "local_significance": 5.1}  # fmt: skip


def test_a_search_is_told_as_it_came_out(demo):
    found = demo.searched(search(4.0, 1 / 40_001, bound=True), "It")
    assert found.startswith(
        "It: a bump at 3430 GeV in the window 3157 to 3561 GeV, 2.0% from the true 3500 GeV; 98 events"
    )
    assert "local 5.1 sigma, global significance > 4.0 sigma" in found
    assert demo.searched(search(2.9, 0.002), "It").startswith(
        "It: nothing found; global significance 2.9 sigma (p 0.002)"
    )
    assert "no significance can be quoted" in demo.searched(search(9.0, 0.0, believed=False), "It")


@pytest.mark.parametrize("tuned, said", [(3.0, "The tuned one is better."), (1.4, "The tuned one is not better.")])
def test_a_tuned_model_is_compared_with_its_preset(demo, tuned, said, tmp_path, monkeypatch, capsys):
    for name, value in (("hunt", search(4.0, 1 / 40_001)), ("hunt_background", search(0.0, 0.6))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "search.json").write_text(json.dumps(value))
    for name, improvement in (("tuned", tuned), ("preset", 1.5)):
        judged = {"auc": {"1": 0.8}, "improvement": {"1": {"improvement": improvement}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(judged))
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path)])
    demo.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].endswith(said) and f"S/sqrt(B) x {tuned:.2f}" in printed[-1]
    assert printed[-2].startswith("Without signal: nothing found")
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path), "--window"])
    demo.main()
    assert capsys.readouterr().out == "3157 3561\n"
