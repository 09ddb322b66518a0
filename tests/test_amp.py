"""autocast: which operator runs in which precision, what comes back for the parameters; GradScaler: its factor and its order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.amp import GradScaler
from tinygrad_ja.core.operator import Array, primitive


def inputs() -> tuple[tg.Tensor, tg.Tensor]:
    rng = np.random.default_rng(0)
    x, w = (tg.tensor(rng.standard_normal((4, 4)).astype(np.float32), requires_grad=True) for _ in range(2))
    return x, w


# ---- autocast


def test_products_run_in_float16_and_sums_in_float32() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        product = x @ w
        assert product.dtype == tg.float16
        assert tg.relu(product).dtype == tg.float16  # as its input
        assert product.sum().dtype == tg.float32
        assert tg.softmax(product, 1).dtype == tg.float32
    assert (x @ w).dtype == tg.float32


def test_gradients_of_parameters_are_float32_and_near_those_without() -> None:
    def gradients(low: bool) -> list[np.ndarray]:
        x, w = inputs()
        with tg.autocast("cpu", dtype=tg.float16, enabled=low):
            loss = (tg.tanh(x @ w) @ w).sum()
        loss.backward()
        assert x.grad is not None and w.grad is not None
        assert x.grad.dtype == w.grad.dtype == tg.float32
        return [x.grad.numpy(), w.grad.numpy()]

    for low, full in zip(gradients(True), gradients(False)):
        assert not np.array_equal(low, full)
        np.testing.assert_allclose(low, full, atol=2e-2)


def test_bfloat16_gives_numbers_with_eight_significant_bits() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype="bfloat16"):
        y = x @ w
    assert y.dtype == tg.float32
    assert not (y.detach().numpy().view(np.uint32) & 0xFFFF).any()
    np.testing.assert_allclose(y.detach().numpy(), (x @ w).detach().numpy(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("bits, eps", [(7, 2.0**-8), (10, 2.0**-11), (22, 2.0**-23)])
def test_reduced_precision_rounds_to_the_nearest_number_and_a_tie_to_even(bits: int, eps: float) -> None:
    given = np.array([1 + eps, 1 + 3 * eps, -1 - eps, 1 + 0.75 * eps, np.inf, -np.inf, 0.0], np.float32)
    expected = np.array([1, 1 + 4 * eps, -1, 1, np.inf, -np.inf, 0.0], np.float32)
    if bits == 22:
        given[3] = 1.0  # no number between
    assert tg.reduce_precision(given, bits).tolist() == expected.tolist()
    assert np.isnan(tg.reduce_precision(np.array([np.nan], np.float32), bits)).all()


def test_a_parameter_is_converted_once_in_a_block() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        y = x.detach()
        for _ in range(5):
            y = tg.tanh(y @ w)
    casts = set()
    nodes = [y.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node.name == "cast":
            casts.add(id(node))
        nodes += [parent for parent in getattr(node, "parents", ()) if parent is not None]
    assert len(casts) <= 2  # of w, and none of the first y, which needs no gradient


def test_what_was_converted_without_a_gradient_is_not_taken_for_one_with() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        with tg.no_grad():
            x @ w
        (x @ w).sum().backward()
    assert w.grad is not None


def test_autocast_of_another_device_changes_nothing() -> None:
    x, w = inputs()
    with tg.autocast("cuda"):
        assert tg.is_autocast_enabled("cuda") and not tg.is_autocast_enabled("cpu")
        assert (x @ w).dtype == tg.float32


def test_an_island_inside_runs_as_written() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        with tg.autocast("cpu", enabled=False):
            assert (x @ w).dtype == tg.float32
        assert (x @ w).dtype == tg.float16


def test_float64_and_integers_are_left_alone() -> None:
    with tg.autocast("cpu", dtype=tg.float16):
        assert (tg.ones(2, 2, dtype=tg.float64) @ tg.ones(2, 2, dtype=tg.float64)).dtype == tg.float64
        assert tg.tensor([1, 2]).sum().dtype == tg.int64


def test_float16_becomes_bfloat16_where_that_is_asked_for() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype="bfloat16"):
        y = x.half() @ w
    assert y.dtype == tg.float32 and not (y.detach().numpy().view(np.uint32) & 0xFFFF).any()


def test_an_array_beside_a_tensor_is_converted_too() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        assert (x.detach().numpy() @ w).dtype == tg.float16


def test_operators_of_any_number_of_inputs_are_converted() -> None:
    x, w = inputs()
    with tg.autocast("cpu", dtype=tg.float16):
        y = tg.einsum("ij,jk->ik", x, w)
    y.sum().backward()
    assert y.dtype == tg.float16 and w.grad is not None and w.grad.dtype == tg.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_checkpointed_part_runs_again_as_it_ran_before(dtype: str) -> None:
    def gradients(part: Any) -> list[np.ndarray]:
        x, w = inputs()
        with tg.autocast("cpu", dtype=dtype):
            y = part(lambda x: tg.tanh(x @ w) @ w, x)
        y.sum().backward()
        assert x.grad is not None and w.grad is not None
        return [x.grad.numpy(), w.grad.numpy()]

    for kept, again in zip(gradients(lambda run, x: run(x)), gradients(tg.checkpoint)):
        assert again.dtype == np.float32
        np.testing.assert_array_equal(again, kept)


def test_a_checkpoint_without_autocast_runs_again_without() -> None:
    x, w = inputs()
    y = tg.checkpoint(lambda x: x @ w, x)
    with tg.autocast("cpu", dtype=tg.float16):
        y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((4, 4), np.float32) @ w.detach().numpy().T)  # type: ignore[union-attr]


def test_a_composed_function_runs_as_a_whole_in_float32() -> None:
    big = tg.tensor([[300.0, 400.0]], dtype=tg.float16)  # whose scalar product is no float16
    with tg.autocast("cpu", dtype=tg.float16):
        assert tg.nn.functional.cosine_similarity(big, big).tolist() == pytest.approx([1.0])


def test_it_is_a_decorator_too() -> None:
    @tg.autocast("cpu", dtype=tg.float16)
    def product(a: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
        return a @ b

    assert product(*inputs()).dtype == tg.float16
    assert not tg.is_autocast_enabled("cpu")


def test_a_failure_inside_ends_it() -> None:
    with pytest.raises(tg.errors.ShapeError), tg.autocast("cpu", dtype=tg.float16):
        tg.ones(2, 3) @ tg.ones(2, 3)
    assert not tg.is_autocast_enabled("cpu")


def test_an_operator_of_ones_own_names_its_precision() -> None:
    @primitive(lambda g: g, signature="(n)->(n)", autocast="lower")
    def lowered_copy(xp: object, input: Array) -> Array:
        return input.copy()

    with tg.autocast("cpu", dtype=tg.float16):
        assert lowered_copy(tg.ones(2)).dtype == tg.float16


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("tpu",), "device_type"),
        ((None,), "device_type"),
        (("cpu", tg.int32), "dtype"),
        (("cpu", "int8"), "dtype"),
        (("cpu", 3), "dtype"),
    ],
)
def test_autocast_refuses_what_it_does_not_know(arguments: tuple[object, ...], name: str) -> None:
    with pytest.raises(tg.errors.ArgumentError, match=name):
        tg.autocast(*arguments)  # type: ignore[arg-type]


# ---- GradScaler


def one_step(scaler: GradScaler, gradient: float) -> float:
    """The parameter after a step from 1.0 with lr 1."""
    w = tg.tensor([1.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=1.0)
    scaler.scale((w * gradient).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    return float(w.item())


def test_the_step_is_that_of_the_unscaled_gradient() -> None:
    assert one_step(GradScaler("cpu"), 0.25) == 0.75


def test_an_infinite_gradient_skips_the_step_and_halves_the_factor() -> None:
    scaler = GradScaler("cpu", init_scale=1024.0)
    assert one_step(scaler, float("inf")) == 1.0
    assert scaler.get_scale() == 512.0


def test_the_factor_grows_after_an_interval_of_good_steps() -> None:
    scaler = GradScaler("cpu", init_scale=4.0, growth_interval=3)
    factors = []
    for gradient in (1.0, 1.0, float("nan"), 1.0, 1.0, 1.0):
        one_step(scaler, gradient)
        factors.append(scaler.get_scale())
    assert factors == [4.0, 4.0, 2.0, 2.0, 2.0, 4.0]


def test_scaling_saves_gradients_that_float16_cannot_hold() -> None:
    w = tg.tensor([1.0], requires_grad=True)
    small = tg.tensor([2.0**-15], dtype=tg.float16)

    def gradient(scale: float) -> float:
        w.grad = None
        ((w.to(tg.float16) * small * small).sum().float() * scale).backward()
        return float(w.grad.item())  # type: ignore[union-attr]

    assert gradient(1.0) == 0.0
    assert gradient(2.0**15) == 2.0**-15


def test_gradients_can_be_clipped_between_unscale_and_step() -> None:
    w = tg.tensor([3.0, 4.0], requires_grad=True)
    optimizer, scaler = tg.optim.SGD([w], lr=1.0), GradScaler("cpu")
    scaler.scale((w * w / 2).sum()).backward()
    scaler.unscale_(optimizer)
    assert tg.nn.utils.clip_grad_norm_([w], 1.0).item() == pytest.approx(5.0)
    scaler.step(optimizer)
    np.testing.assert_allclose(w.tolist(), [2.4, 3.2], rtol=1e-6)


def test_two_optimizers_share_one_factor() -> None:
    scaler = GradScaler("cpu", init_scale=8.0)
    good, bad = tg.tensor([1.0], requires_grad=True), tg.tensor([1.0], requires_grad=True)
    first, second = tg.optim.SGD([good], lr=1.0), tg.optim.SGD([bad], lr=1.0)
    scaler.scale((good * 0.5).sum() + (bad * float("inf")).sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (good.item(), bad.item(), scaler.get_scale()) == (0.5, 1.0, 4.0)


def test_scale_takes_nested_outputs() -> None:
    a, (b,) = GradScaler("cpu", init_scale=2.0).scale([tg.ones(1), (tg.ones(2),)])
    assert a.tolist() == [2.0] and b.tolist() == [2.0, 2.0]


def test_disabled_it_passes_everything_through() -> None:
    scaler = GradScaler("cpu", enabled=False)
    assert one_step(scaler, 0.25) == 0.75
    assert scaler.get_scale() == 1.0 and scaler.state_dict() == {} and not scaler.is_enabled()


def test_its_state_is_saved_and_loaded() -> None:
    scaler, other = GradScaler("cpu", init_scale=4.0, growth_interval=2), GradScaler("cpu")
    one_step(scaler, 1.0)
    other.load_state_dict(scaler.state_dict())
    one_step(other, 1.0)
    assert other.get_scale() == 8.0
    with pytest.raises(tg.errors.StateError, match="scale is missing"):
        other.load_state_dict({"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 1, "_growth_tracker": 0})


def test_calls_in_a_wrong_order_are_refused() -> None:
    w = tg.tensor([1.0], requires_grad=True)
    optimizer, scaler = tg.optim.SGD([w], lr=1.0), GradScaler("cpu")
    with pytest.raises(tg.errors.ArgumentError, match="needs a step"):
        scaler.update()
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(tg.errors.ArgumentError, match="unscale_"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(tg.errors.ArgumentError, match="step"):
        scaler.step(optimizer)


def test_a_closure_is_refused() -> None:
    w = tg.tensor([1.0], requires_grad=True)
    optimizer, scaler = tg.optim.SGD([w], lr=1.0), GradScaler("cpu")
    scaler.scale(w.sum()).backward()
    with pytest.raises(tg.errors.ArgumentError, match="closure"):
        scaler.step(optimizer, lambda: w.sum())
    GradScaler("cpu", enabled=False).step(optimizer, lambda: w.sum())


def test_float16_gradients_are_refused() -> None:
    w = tg.tensor([1.0], dtype=tg.float16, requires_grad=True)
    optimizer, scaler = tg.optim.SGD([w], lr=1.0), GradScaler("cpu", init_scale=2.0)
    scaler.scale(w.sum()).backward()
    with pytest.raises(tg.errors.DtypeError, match="float32 is needed"):
        scaler.step(optimizer)
    assert w.grad.tolist() == [2.0]  # type: ignore[union-attr]


def test_its_settings_can_be_read_and_changed() -> None:
    scaler = GradScaler("cpu", init_scale=4.0)
    scaler.set_growth_factor(3.0)
    scaler.set_backoff_factor(0.25)
    scaler.set_growth_interval(1)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (3.0, 0.25, 1)
    one_step(scaler, 1.0)
    assert scaler.get_scale() == 12.0
    one_step(scaler, float("inf"))
    assert scaler.get_scale() == 3.0


@pytest.mark.parametrize("setting", [{"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"init_scale": 0.0}])
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(tg.errors.ArgumentError, match=next(iter(setting))):
        GradScaler("cpu", **setting)  # type: ignore[arg-type]
