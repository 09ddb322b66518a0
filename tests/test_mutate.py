"""The mutation tool: it plants what it says, wrong derivatives die, weak cases let them live, and the right ones are put back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import demo_operators as demo
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.operator import OPERATORS, Array, elementwise, linear
from tinygrad_ja.testing import mutate
from tinygrad_ja.testing.equivalent import EQUIVALENT
from tinygrad_ja.testing.mutants import find_source, mutants_of


@elementwise(lambda g, other: g / other, lambda g, input, other: -g * input / (other * other), domain=[(-2.0, 2.0), (0.5, 2.0)])
def demo_quotient(xp, input: Array, other: Array):
    return input / other


@linear(lambda g, factor: g * factor, cases=lambda pick: ((pick.array((3,)),), {}))
def demo_untested_argument(xp, input: Array, factor: float = 1.0):
    """Its cases never give ``factor`` another value than 1."""
    return input * factor


def texts(name: str) -> list[str]:
    return [mutant.text for mutant in mutants_of(OPERATORS[name])]


def test_the_mistakes_that_people_make_are_planted() -> None:
    planted = texts("demo_quotient")
    for expected in (
        "[input] lambda g, other: g * other",  # the wrong operation
        "[input] lambda g, other: other / g",  # operands swapped
        "[input] lambda g, other: g",  # a factor lost
        "[other] lambda g, input, other: g * input / (other * other)",  # a sign lost
        "[other] lambda g, input, other: -g * input / other",  # a power lost
        "[other] lambda g, input, other: -g * other / (other * other)",  # another saved value
        "[input] 2 * result",
        "[input] g *= 0 afterwards",
        "derivatives of input and other swapped",
    ):
        assert expected in planted


def test_mutants_are_found_in_functions_and_their_private_helpers() -> None:
    planted = texts("demo_affine")
    assert any(text.startswith("_affine_backward: return (g * weight, g * input") for text in planted)
    assert any("bias is not None" in text for text in planted)
    assert any("(g * input, g * weight" in text for text in planted)


def test_two_lambdas_on_one_line_are_told_apart() -> None:
    first, second = (find_source(d) for d in OPERATORS["demo_quotient"].derivatives)
    assert [a.arg for a in first.args.args] == ["g", "other"]
    assert [a.arg for a in second.args.args] == ["g", "input", "other"]


@pytest.mark.parametrize("name", ["demo_quotient", "demo_exp", "demo_squares", "demo_affine", "demo_take", "demo_between"])
def test_every_mutant_of_a_well_tested_operator_dies(name: str) -> None:
    result = mutate.mutate(name, cases=12)
    assert result.mutants >= 3
    assert result.fault == ""
    assert result.survivors == []
    assert result.killed == result.mutants


def test_what_the_cases_do_not_reach_survives() -> None:
    result = mutate.mutate("demo_untested_argument", cases=6)
    assert result.survivors == ["lambda g, factor: g"]
    assert not mutate.passed([result])


def test_a_proof_excuses_a_survivor_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EQUIVALENT, ("demo_untested_argument", "lambda g, factor: g"), "not a proof, but a test")
    result = mutate.mutate("demo_untested_argument", cases=6)
    assert (result.survivors, result.excused) == ([], ["lambda g, factor: g"])
    assert mutate.passed([result])
    monkeypatch.setitem(EQUIVALENT, ("demo_exp", "no such mutant"), "out of date")
    result = mutate.mutate("demo_exp", cases=2)
    assert result.stale == ["no such mutant"]
    assert not mutate.passed([result])


def test_the_right_derivatives_are_put_back() -> None:
    before = OPERATORS["demo_exp"].derivatives
    mutate.mutate("demo_exp", cases=2)
    assert OPERATORS["demo_exp"].derivatives == before
    x = tg.tensor([0.0], requires_grad=True)
    demo.demo_exp(x).backward()
    assert x.grad.tolist() == [1.0]


def test_an_operator_that_is_wrong_already_is_a_fault() -> None:
    result = mutate.mutate("wrong_factor", cases=2)
    assert "wrong_factor" in result.fault
    assert not mutate.passed([result])


def test_the_report_lists_operators_survivors_and_the_score() -> None:
    results = [
        mutate.Result("tanh", 10, 10, [], [], [], 0.1),
        mutate.Result("max", 10, 7, ["lambda g: g"], ["a", "b"], [], 0.2),
    ]
    report = mutate.report(results)
    lines = report.splitlines()
    assert lines[0].split() == ["operator", "mutants", "killed", "proven", "alive", "s"]
    assert lines[1].split() == ["tanh", "10", "10", "0", "0", "0.1"]
    assert lines[2].split() == ["max", "10", "7", "2", "1", "0.2"]
    assert "survivor in max:\n    lambda g: g" in report
    assert "20 mutants of 2 operators: 17 killed, 2 equivalent by proof, 1 alive" in report
    assert lines[-1] == "score 94.4 %"
    assert not mutate.passed(results)
    assert mutate.passed(results[:1])


def test_the_command_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "score.json"
    command = [sys.executable, "-m", "tinygrad_ja.testing.mutate", "tanh", "mul", "--cases", "4", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = json.loads(file.read_text(encoding="utf-8"))
    assert (first["operator"], second["operator"]) == ("tanh", "mul")
    assert first["killed"] == first["mutants"] > 5
