"""models: recurrence, convolution and the continuous kernel are three views of one network."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, signal
from torch import nn

import cmlib
from cmlib import inputs, kernels, parameterizations
from cmlib.models import ACTIVATIONS, RNN, S4D, SSM, LinearRNN, NormalizedRNN
from cmlib.models.rnn import _Euler, _euler
from cmlib.sequence_maps import causal_convolution, linear_scan

RATES = np.array([0.05, 0.4, 3.0])
WEIGHTS = np.array([1.0, -0.5, 2.0]), np.array([0.3, 1.0, 1.0])


def dense_weights(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((4, 4))
    return W - (linalg.eigvals(W).real.max() + 0.2) * np.eye(4), rng.standard_normal(4), rng.standard_normal(4)


def network(kind: str, **options) -> LinearRNN:
    return LinearRNN(*dense_weights(), **options) if kind == "dense" else LinearRNN(-RATES, *WEIGHTS, **options)


def noise(n: int = 300, batch: int = 3) -> torch.Tensor:
    return inputs.white_noise(n, batch=batch, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["dense", "diagonal"])
@pytest.mark.parametrize("discretization", ["zoh", "euler"])
@pytest.mark.parametrize("dt", [0.01, 0.1, 0.3])
def test_recurrence_is_convolution(kind, discretization, dt):
    model, x = network(kind, dt=dt, discretization=discretization), noise()
    y = model(x)
    assert y.shape == (3, 300, 1)
    assert (y - model(x, route="convolution")).abs().max() < 1e-12 * y.abs().max()


@pytest.mark.parametrize("discretization", ["zoh", "euler"])
def test_a_diagonal_network_is_the_dense_one_with_its_matrix(discretization):
    options = {"dt": 0.2, "discretization": discretization}
    diagonal, dense = LinearRNN(-RATES, *WEIGHTS, **options), LinearRNN(np.diag(-RATES), *WEIGHTS, **options)
    assert torch.allclose(diagonal(noise()), dense(noise()), rtol=1e-12, atol=1e-13)
    assert torch.equal(diagonal.recurrent(), dense.recurrent())


@pytest.mark.parametrize("kind, dt", [("dense", 0.3), ("diagonal", 0.3), ("diagonal", 1e-6)])
def test_zero_order_hold_is_scipys(kind, dt):
    model = network(kind, dt=dt)
    W, U, c = (p.detach().numpy() for p in (model.recurrent(), model.U, model.c))
    A, B, *_ = signal.cont2discrete((W, U[:, None], c[None], np.zeros((1, 1))), dt, method="zoh")
    ours = [t.detach().numpy() for t in model.discretized()]
    ours[0] = np.diag(ours[0]) if kind == "diagonal" else ours[0]
    assert np.allclose(ours[0], A, rtol=0, atol=1e-14)
    assert np.allclose(ours[1], B[:, 0], rtol=1e-12, atol=1e-15)


def test_zero_order_hold_is_exact_at_any_step():
    # the same held input at a quarter of the step, read at every fourth output
    x = noise(50)
    coarse, fine = network("dense", dt=0.4), network("dense", dt=0.1)
    assert torch.allclose(coarse(x), fine(x.repeat_interleave(4, 1))[:, 3::4], rtol=1e-11, atol=1e-12)


def test_euler_converges_with_order_one():
    x, steps = noise(20), np.array([2.0**-k for k in range(5, 10)])
    exact = network("dense", dt=1.0)(x)
    errors = []
    for dt in steps:
        n = round(1 / dt)
        y = network("dense", dt=dt, discretization="euler")(x.repeat_interleave(n, 1))[:, n - 1 :: n]
        errors.append((y - exact).abs().max().item())
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["dense", "diagonal"])
def test_kernel_is_the_matrix_exponential(kind):
    model, t = network(kind), np.linspace(0, 10, 21)
    W, U, c = (p.detach().numpy() for p in (model.recurrent(), model.U, model.c))
    expected = [c @ linalg.expm(W * x) @ U for x in t]
    assert np.allclose(model.kernel(t).detach().numpy(), expected, rtol=0, atol=1e-12)
    square = model.kernel(t[:20].reshape(4, 5)).detach().numpy()
    assert np.allclose(square, np.reshape(expected[:20], (4, 5)), rtol=0, atol=1e-12)
    assert model.kernel(t[3]).item() == pytest.approx(expected[3], rel=0, abs=1e-12)
    assert model.kernel([]).shape == (0,)


def test_gradients_flow_through_both_routes_even_at_a_zero_eigenvalue():
    x = noise(6, 2)
    for W in (torch.tensor([-0.5, 0.0]), torch.tensor([[-0.5, 0.3], [0.0, 0.0]])):
        for route in ("recurrence", "convolution"):

            def output(W, U, c, route=route):
                model = LinearRNN(W, U, c)
                return torch.func.functional_call(model, {"W": W, "U": U, "c": c}, (x, route))

            weights = [v.double().requires_grad_() for v in (W, torch.tensor([1.0, 2.0]), torch.tensor([1.0, -1.0]))]
            assert torch.autograd.gradcheck(output, weights)


@pytest.mark.parametrize("name", ["exp", "softplus", "inverse_square"])
def test_raw_weights_reach_the_same_network(name):
    f = parameterizations.PARAMETERIZATIONS[name]
    rates = np.array([0.05, 0.4, 1.5])
    raw = LinearRNN(f.inverse(-rates), *WEIGHTS, parameterization=f)
    assert torch.allclose(raw(noise()), LinearRNN(-rates, *WEIGHTS)(noise()), rtol=1e-10, atol=1e-12)


def test_single_precision_stays_single():
    weights = [torch.tensor(v, dtype=torch.float32) for v in (-RATES, *WEIGHTS)]
    assert LinearRNN(*weights)(noise().float()).dtype == torch.float32
    assert LinearRNN(*weights)(noise().float(), route="convolution").dtype == torch.float32


def test_causal_convolution_is_numpys():
    weights, x = torch.randn(40, generator=torch.Generator().manual_seed(1)).double(), noise(40, 1)[..., 0]
    expected = np.convolve(weights.numpy(), x[0].numpy())[:40]
    assert np.allclose(causal_convolution(weights, x)[0].numpy(), expected, atol=1e-13)


@pytest.mark.parametrize(
    "W, U, c, options, message",
    [
        (np.ones((2, 3)), [1, 1], [1, 1], {}, "expected W of shape"),
        ([[-1.0]], [1.0, 2.0], [1.0], {}, "expected U and c of shape"),
        ([[-1.0]], [1.0], [[1.0]], {}, "expected U and c of shape"),
        ([[np.nan]], [1.0], [1.0], {}, "expected W to hold finite numbers"),
        (-1.0, [1.0], [1.0], {}, "expected W to hold finite numbers"),
        ([[-1.0]], [1.0], [1.0], {"dt": 0.0}, "expected dt > 0"),
        ([[-1.0]], [1.0], [1.0], {"discretization": "tustin"}, "expected discretization"),
        ([[-1.0]], [1.0], [1.0], {"parameterization": parameterizations.exp}, "expected a diagonal W"),
    ],
)
def test_construction_rejects(W, U, c, options, message):
    with pytest.raises(ValueError, match=message):
        LinearRNN(W, U, c, **options)


def test_forward_rejects():
    with pytest.raises(ValueError, match="expected an input of shape"):
        network("dense")(torch.zeros(3, 10))
    with pytest.raises(ValueError, match="expected route"):
        network("dense")(noise(), route="scan")


def nonlinear(activation: str = "tanh", dt: float = 0.1) -> RNN:
    rng = np.random.default_rng(1)
    U, c, b = rng.standard_normal((4, 2)), rng.standard_normal((4, 3)), rng.standard_normal(4)
    return RNN(dense_weights()[0], U, c, b, dt=dt, activation=activation)


def two_channels(n: int = 30) -> torch.Tensor:
    return inputs.white_noise(n, batch=3, d_in=2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "activation, sigma",
    [
        ("tanh", np.tanh),
        ("hardtanh", lambda v: np.clip(v, -1, 1)),
        ("relu", lambda v: np.maximum(v, 0)),
        ("identity", lambda v: v),
    ],
)
def test_nonlinear_network_is_eulers_recursion(activation, sigma):
    model, x = nonlinear(activation), two_channels()
    W, U, b, c = (p.detach().numpy() for p in (model.W, model.U, model.b, model.c))
    y = model(x).detach().numpy()
    assert y.shape == (3, 30, 3)
    for sample in range(3):
        h = np.zeros(4)
        for k in range(30):
            h = h + 0.1 * sigma(W @ h + U @ x[sample, k].numpy() + b)
            assert np.abs(y[sample, k] - c.T @ h).max() < 1e-12 * max(1.0, np.abs(h).max())


def test_network_without_activation_and_bias_is_the_linear_one():
    W, U, c = dense_weights()
    linear = LinearRNN(W, U, c, dt=0.1, discretization="euler")
    assert torch.allclose(RNN(W, U, c, dt=0.1, activation="identity")(noise()), linear(noise()), rtol=0, atol=1e-11)


def test_nonlinear_network_converges_to_its_flow_with_order_one():
    steps, gaps = np.array([2.0**-k for k in range(4, 9)]), []
    model = nonlinear()
    W, U, b, c = (p.detach().numpy() for p in (model.W, model.U, model.b, model.c))
    u = np.array([1.0, -0.5])
    flow = integrate.solve_ivp(lambda t, h: np.tanh(W @ h + U @ u + b), (0, 2), np.zeros(4), rtol=1e-11, atol=1e-12)
    for dt in steps:
        held = inputs.heaviside(round(2 / dt), u)
        gaps.append(np.abs(nonlinear(dt=dt)(held)[0, -1].detach().numpy() - c.T @ flow.y[:, -1]).max())
    assert np.polyfit(np.log(steps), np.log(gaps), 1)[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_gradients_of_the_nonlinear_network_are_right(activation):
    model, x = nonlinear(activation), two_channels(4)
    names, values = zip(*model.named_parameters(), strict=True)

    def output(*weights):
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, values)


def test_every_activation_keeps_single_precision():
    for name in ACTIVATIONS:
        assert nonlinear(name).float()(two_channels().float()).dtype == torch.float32


@pytest.mark.parametrize(
    "W, U, c, options, message",
    [
        (np.ones((2, 3)), [1, 1], [1, 1], {}, "expected W of shape"),
        ([[-1.0]], [1.0, 2.0], [1.0], {}, "expected U of 1 rows"),
        ([[-1.0]], [1.0], np.ones((2, 1)), {}, "expected c of 1 rows"),
        ([[-1.0]], np.ones((1, 0)), [1.0], {}, "expected U to hold finite numbers"),
        ([[-1.0]], [1.0], [1.0], {"b": [[1.0]]}, "expected b of 1 rows"),
        ([[-1.0]], [1.0], [np.inf], {}, "expected c to hold finite numbers"),
        ([[-1.0]], [1.0], [1.0], {"dt": 0.0}, "expected dt > 0"),
        ([[-1.0]], [1.0], [1.0], {"activation": "sine"}, "expected activation among"),
    ],
)
def test_nonlinear_network_rejects(W, U, c, options, message):
    with pytest.raises(ValueError, match=message):
        RNN(W, U, c, **options)


def test_nonlinear_network_rejects_an_input_of_other_channels():
    with pytest.raises(ValueError, match=r"expected an input of shape \(batch, time, 2\)"):
        nonlinear()(torch.zeros(3, 10, 1, dtype=torch.float64))


def s4d(seed=0, **options):
    return S4D(3, 5, generator=torch.Generator().manual_seed(seed), **options)


def test_s4d_recurrence_is_convolution():
    x = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layer = s4d()
    # 60 steps of sums of 5 terms of size 1
    assert torch.allclose(layer(x), layer(x, "recurrence"), rtol=0, atol=1e-12)


def test_s4d_discretizes_as_scipy_does():
    # before the mixing, channel j is the state-space model scipy samples with the zero-order hold
    layer = s4d()
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(3))
        layer.D.zero_()
    x = torch.zeros(1, 40, 3, dtype=torch.float64)
    x[:, :, 1] = torch.sin(torch.arange(40.0))
    step = layer.log_step[1].exp().item()
    lam = (layer.eigenvalues()[1] / step).detach().numpy()
    C = torch.view_as_complex(layer.C)[1].detach().numpy()
    A = np.diag(np.concatenate([lam, lam.conj()]))
    system = signal.cont2discrete((A, np.ones((10, 1)), np.concatenate([C, C.conj()])[None], [[0.0]]), step)
    h, y = np.zeros(10, dtype=complex), []
    for u in x[0, :, 1].numpy():
        h = system[0] @ h + system[1][:, 0] * u
        y.append((system[2] @ h)[0].real)
    expected = nn.functional.gelu(torch.tensor(np.array(y)))
    assert torch.allclose(layer(x)[0, :, 1], expected, rtol=0, atol=1e-12)
    assert np.allclose(lam, -0.5 + 1j * np.pi * np.arange(5))


def test_s4d_is_causal_and_stays_stable():
    layer, x = s4d(), torch.zeros(1, 30, 3, dtype=torch.float64)
    later = x.clone()
    later[:, 20:] = 1.0
    assert torch.allclose(layer(x)[:, :20], layer(later)[:, :20], rtol=0, atol=1e-14)
    with torch.no_grad():
        for weight in layer.parameters():
            weight += 3.0
    assert (layer.eigenvalues().real < 0).all()


@pytest.mark.parametrize("name", parameterizations.PARAMETERIZATIONS)
def test_s4d_begins_alike_in_every_parameterization(name):
    f = parameterizations.PARAMETERIZATIONS[name]
    layer, x = s4d(parameterization=f), torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(1)).double()
    assert torch.allclose(layer(x), s4d()(x), rtol=0, atol=1e-13)
    with torch.no_grad():
        layer.W += 3.0
    assert bool((layer.eigenvalues().real < 0).all()) is f.stable


def test_s4d_start_depends_on_its_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (s4d(seed).C for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert s4d(steps=(0.02, 0.02)).log_step.exp().tolist() == pytest.approx([0.02] * 3)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((0,), {}, "expected channels to be an integer >= 1"),
        ((2, 0), {}, "expected modes to be an integer >= 1"),
        ((2, 2), {"steps": (0.1, 0.01)}, "smallest <= largest"),
        ((2, 2), {"parameterization": parameterizations.dissipative}, "parameterization of its kind"),
    ],
)
def test_s4d_rejects(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        S4D(*arguments, **options)
    layer = S4D(2, 2)
    with pytest.raises(ValueError, match="shape"):
        layer(torch.zeros(1, 4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="route"):
        layer(torch.zeros(1, 4, 2, dtype=torch.float64), "scan")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_diagonal_network_is_the_dense_one(activation):
    W, U, b, c = -np.array([0.2, 1.0, 3.0]), [1.0, -0.5, 2.0], [0.1, 0.0, -0.2], [1.0, 1.0, -1.0]
    x = torch.randn(3, 40, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    diagonal, dense = (RNN(w, U, c, b, dt=0.1, activation=activation) for w in (W, np.diag(W)))
    assert torch.allclose(diagonal(x), dense(x), rtol=0, atol=1e-13)
    assert torch.equal(diagonal.recurrent(), dense.recurrent()) and diagonal.diagonal and not dense.diagonal


def with_both_shapes(activation: str, diagonal: bool) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    model, x = nonlinear(activation), two_channels(6)
    W = torch.diagonal(model.W).clone() if diagonal else model.W
    weights = tuple(v.detach().clone().requires_grad_() for v in (W, model.U, model.b, model.c))
    return (x.requires_grad_(), *weights), 1 + torch.arange(6 * 3 * 3, dtype=torch.float64).reshape(3, 6, 3) / 50


def adjoint(*tensors, activation):
    return _Euler.apply(*tensors, 0.1, activation)[0]


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_written_out_adjoint_is_the_gradient_of_the_loop(activation, diagonal):
    tensors, dy = with_both_shapes(activation, diagonal)
    plain, fast = _euler(*tensors, 0.1, activation), adjoint(*tensors, activation=activation)
    assert torch.allclose(fast, plain, rtol=0, atol=1e-13)
    ours = torch.autograd.grad(fast, tensors, dy, retain_graph=True)
    again = torch.autograd.grad(fast, tensors, dy)
    theirs = torch.autograd.grad(plain, tensors, dy)
    for first, second, other in zip(ours, again, theirs, strict=True):
        assert torch.equal(first, second)
        assert torch.allclose(first, other, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # torch's own, where its forward mode begins
@pytest.mark.parametrize("diagonal", [True, False])
def test_network_has_second_derivatives_and_a_forward_mode(diagonal):
    tensors, _ = with_both_shapes("tanh", diagonal)
    output = partial(adjoint, activation="tanh")
    assert torch.autograd.gradgradcheck(output, tensors)
    assert torch.autograd.gradcheck(output, tensors, check_forward_ad=True)
    still = tensors[0].detach()
    only = torch.func.jvp(lambda W: output(still, W, *tensors[2:]), (tensors[1],), (torch.ones_like(tensors[1]),))[1]
    whole = torch.func.jvp(output, tensors, tuple(torch.zeros_like(v) + (i == 1) for i, v in enumerate(tensors)))[1]
    assert torch.allclose(only, whole, rtol=0, atol=1e-14)


@pytest.mark.parametrize("diagonal", [True, False])
def test_networks_in_a_batch_are_each_as_alone(diagonal):
    (x, *weights), dy = with_both_shapes("tanh", diagonal)
    output = partial(adjoint, activation="tanh")
    batch = [torch.stack([v, 2 * v]).detach() for v in weights]
    together = torch.vmap(output, (None, 0, 0, 0, 0))(x, *batch)

    def loss(W):
        return (output(x, W, *weights[1:]) * dy).sum()

    slopes = torch.vmap(torch.func.grad(loss))(batch[0])
    for i in range(2):
        assert torch.allclose(together[i], output(x, *(v[i] for v in batch)), rtol=0, atol=1e-13)
        W = batch[0][i].requires_grad_()
        assert torch.allclose(slopes[i], torch.autograd.grad(loss(W), W)[0], rtol=1e-12, atol=1e-12)
    jacobian = torch.func.jacrev(lambda U: output(x, weights[0], U, *weights[2:]))(weights[1])
    assert jacobian.shape == (3, 6, 3, 4, 2) and jacobian.abs().max() > 0


@pytest.mark.parametrize("f", [parameterizations.exp, parameterizations.softplus, parameterizations.inverse_square])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_nonlinear_network_takes_a_parameterization_of_eigenvalues(f, activation):
    rates, U, c = np.array([0.2, 0.7, 1.5]), [1.0, -0.5, 2.0], [1.0, 1.0, -1.0]
    raw = RNN(f.inverse(-rates), U, c, dt=0.1, activation=activation, parameterization=f)
    plain = RNN(-rates, U, c, dt=0.1, activation=activation)
    assert torch.allclose(raw(noise()), plain(noise()), rtol=0, atol=1e-12)
    assert torch.allclose(raw.recurrent(), plain.recurrent(), rtol=0, atol=1e-14)
    (slope,) = torch.autograd.grad(raw(noise()).sum(), raw.W)
    (direct,) = torch.autograd.grad(plain(noise()).sum(), plain.W)
    assert torch.allclose(slope, direct * f.derivative(raw.W.detach()), rtol=1e-9, atol=1e-12)


def test_networks_take_a_parameterization_of_matrices():
    M, U, c = np.random.default_rng(2).standard_normal((3, 3)), [1.0, -0.5, 2.0], [1.0, 1.0, -1.0]
    f = parameterizations.dissipative
    W = f(torch.tensor(M))
    for one in (LinearRNN, RNN):
        raw, plain = one(M, U, c, dt=0.1, parameterization=f), one(W, U, c, dt=0.1)
        assert torch.allclose(raw(noise()), plain(noise()), rtol=0, atol=1e-12)
        assert torch.equal(raw.recurrent(), W)
    linear = LinearRNN(M, U, c, parameterization=f)
    assert torch.allclose(linear.kernel([0.5, 2.0]), LinearRNN(W, U, c).kernel([0.5, 2.0]), rtol=0, atol=1e-12)
    for one in (LinearRNN, RNN):
        with pytest.raises(ValueError, match="expected a dense W"):
            one([-1.0], [1.0], [1.0], parameterization=f)
        with pytest.raises(ValueError, match="expected a diagonal W"):
            one(M, U, c, parameterization=parameterizations.exp)


def ssm(activation: str = "tanh", f=parameterizations.direct) -> SSM:
    rng = np.random.default_rng(3)
    W = f.inverse(-np.array([0.05, 0.4, 1.0, 1.9]))
    U, C = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    return SSM(W, U, C, dt=0.3, activation=activation, parameterization=f)


@pytest.mark.parametrize("f", parameterizations.PARAMETERIZATIONS.values())
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_state_space_layer_is_one_map_by_three_routes(activation, f):
    model = ssm(activation, f)
    for n in (1, 2, 37, 64):
        x = two_channels(n)
        scan, others = model(x, "scan"), [model(x, *route) for route in (("convolution",), ())]
        for other in others:
            assert torch.allclose(scan, other, rtol=0, atol=1e-12)
    slopes = [torch.autograd.grad(model(x, r).square().sum(), list(model.parameters())) for r in ("scan", "recurrence")]
    for ours, theirs in zip(*slopes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_state_space_layer_without_activation_is_the_linear_network():
    U, C = [1.0, -0.5, 2.0], [1.0, 1.0, -1.0]
    layer, linear = SSM(-RATES, U, C, dt=0.1, activation="identity"), LinearRNN(-RATES, U, C, dt=0.1)
    assert torch.allclose(layer(noise()), linear(noise()), rtol=0, atol=1e-12)
    assert torch.equal(layer.recurrent(), linear.recurrent())


def test_scan_takes_coefficients_that_change_with_time():
    g = torch.Generator().manual_seed(0)
    A, drive = (torch.rand(3, 21, 2, generator=g, dtype=torch.float64) for _ in range(2))
    h, expected = torch.zeros(3, 2, dtype=torch.float64), []
    for k in range(21):
        h = A[:, k] * h + drive[:, k]
        expected.append(h)
    assert torch.allclose(linear_scan(A, drive), torch.stack(expected, 1), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "W, U, C, options, message",
    [
        (np.ones((2, 2)), [1, 1], [1, 1], {}, r"expected W of shape \(m,\)"),
        ([-1.0], [1.0, 2.0], [1.0], {}, "expected U of 1 rows"),
        ([-1.0], [1.0], np.ones((2, 1)), {}, "expected C of 1 rows"),
        ([-1.0], [1.0], [1.0], {"dt": 0.0}, "expected dt > 0"),
        ([-1.0], [1.0], [1.0], {"activation": "sine"}, "expected activation among"),
        ([-1.0], [1.0], [1.0], {"parameterization": parameterizations.dissipative}, "expected a dense W"),
    ],
)
def test_state_space_layer_rejects(W, U, C, options, message):
    with pytest.raises(ValueError, match=message):
        SSM(W, U, C, **options)


def test_state_space_layer_rejects_inputs_and_routes():
    with pytest.raises(ValueError, match=r"expected an input of shape \(batch, time, 2\)"):
        ssm()(noise())
    with pytest.raises(ValueError, match="expected route"):
        ssm()(two_channels(), "fft")


@pytest.mark.parametrize(
    ("norm", "size"),
    [
        ("l1", lambda s: s.l1_norm()),
        ("l2", lambda s: kernels.l2_distance(s, 0 * kernels.Exponential(1.0))),
        ("w1", lambda s: (s.l1_norm() + s(0.0) + s(0.0)) * (1 + s.rates[0]) / (1 + 2 * s.rates[0])),  # rho' < 0
    ],
)
@pytest.mark.parametrize("rate", [1e-4, 0.3, 20.0])
def test_a_normalised_mode_has_the_size_of_its_weights_whatever_its_rate(norm, size, rate):
    model = NormalizedRNN([np.log(rate)], [2.0], [1.5], norm=norm, parameterization=parameterizations.exp)
    mode = cmlib.ExponentialSum([rate], [model.kernel(0.0).item()])
    assert size(mode) == pytest.approx(3.0, rel=1e-6)


def test_a_normalised_network_is_a_linear_one_whose_readout_moves_with_its_rates():
    raw, U, gamma = torch.tensor([-1.0, 0.5]).double(), torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0])
    model = NormalizedRNN(raw, U, gamma.double(), dt=0.3, parameterization=parameterizations.exp)
    x = torch.randn(2, 30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(2):
        plain = LinearRNN(model.W, U, gamma * model.W.exp(), dt=0.3, parameterization=parameterizations.exp)
        assert torch.allclose(model(x), plain(x)) and torch.allclose(model(x, route="convolution"), plain(x))
        with torch.no_grad():
            model.W += 1.0
