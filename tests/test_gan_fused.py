"""The Triton kernels give what the plain operators give: values, gradients and gradients of gradients.

On a GPU the kernels run here. Elsewhere they run in Triton's interpreter, which has to be asked for before Triton is
imported: `test_kernels_in_the_interpreter` runs this file once more in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.functional import conv2d, conv_transpose2d

from skinsynth.gan import backend, fused, resample
from skinsynth.gan.discriminator import Discriminator, DiscriminatorConfig
from skinsynth.gan.generator import Generator, GeneratorConfig
from skinsynth.gan.layers import activate
from skinsynth.gan.losses import path_lengths, r1_penalty

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

RESAMPLING = {
    "pad0": (partial(fused.binomial, padding=0), partial(resample._filter, padding=0)),
    "pad1": (partial(fused.binomial, padding=1), partial(resample._filter, padding=1)),
    "pad2": (partial(fused.binomial, padding=2), partial(resample._filter, padding=2)),
    "up": (fused.upsample2d, resample.upsample2d),
    "down": (fused.downsample2d, resample.downsample2d),
}
# Relative to the largest value: half a unit in the last place, and some steps of rounding.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@pytest.fixture(autouse=True)
def full_precision():
    """On a GPU the plain convolutions would round to 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def needs_kernels(test):
    """The test where kernels run in this process; elsewhere nothing, so that pytest does not collect it."""
    return test if fused.available() and (INTERPRETED or DEVICE == "cuda") else None


def plain_bias_activation(x, bias, clamp):
    return activate(x + bias[:, None, None], clamp)


def plain_styled_activation(y, scale, noise, bias, clamp):
    x = y * scale[:, :, None, None] + bias[:, None, None]
    return activate(x if noise is None else x + noise, clamp)


def normal(rng, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=rng, dtype=dtype).to(DEVICE).requires_grad_()


def quarters(rng, *shape, reach):
    """Multiples of 1/4, exact in 16 bits, so that rounding moves nothing across zero or the clamp."""
    steps = torch.randint(-4 * reach, 4 * reach + 1, shape, generator=rng)
    return (steps / 4).to(DEVICE)


def styled_inputs(rng, shape, noise_count, numbers):
    count, channels, height, width = shape
    noise = numbers(rng, noise_count, 1, height, width) if noise_count else None
    return [numbers(rng, *shape), numbers(rng, count, channels), noise, numbers(rng, channels)]


def both_orders(operator, inputs):
    """The operator's values, gradients of a loss, and gradients of the square of these."""
    leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
    wanted = [x for x in leaves if x is not None]
    out = operator(*leaves)
    first = grad(out.square().sum(), wanted, create_graph=True)
    second = grad(sum(x.float().square().sum() for x in first), wanted)
    return [out, *first, *second]


def assert_same(actual, expected, dtype):
    for ours, theirs in zip(actual, expected, strict=True):
        tolerance = TOLERANCE[dtype] * max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0, check_dtype=False, check_stride=False)


@pytest.mark.slow
@pytest.mark.skipif(not fused.available(), reason="Triton is not installed")
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the kernels run in this process")
def test_kernels_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider"]
    run = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not fused.available(), reason="Triton is not installed")
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the kernels run in this process")
def test_kernels_compile_for_hopper_with_wide_accesses(rng, monkeypatch, tmp_path):
    """Everything but the launch: arguments are bound as on a GPU and made into its machine code."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver, jit

    class Hopper:
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):  # noqa: ARG002 - Triton's interface
            return 0

    compiled = []
    run = jit.JITFunction.run

    def compile_only(self, *arguments, grid, warmup, **options):
        compiled.append(run(self, *arguments, grid=grid, warmup=True, **options).asm)

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", Hopper())
    monkeypatch.setattr(jit.JITFunction, "run", compile_only)
    shape = 1, 64, 36, 36
    for operator, _ in RESAMPLING.values():
        operator(torch.zeros(shape, dtype=torch.float16))
    inputs = [x.half() for x in styled_inputs(rng, shape, 1, normal)]
    grad(fused.styled_activation(*inputs, clamp=1.0).sum(), inputs)
    fused.bias_activation(inputs[0], inputs[3], None)
    assert len(compiled) == 8
    for code in compiled:
        assert len(code["cubin"]) > 0
        # Four words at once, which neighbouring threads continue.
        assert "ld.global.v4.b32" in code["ptx"]
        assert "st.global.v4.b32" in code["ptx"]


def test_the_module_loads_without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("fused_without_triton", fused.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.available()


@needs_kernels
@pytest.mark.parametrize("name", RESAMPLING)
def test_resampling_gives_what_the_plain_one_gives(rng, name):
    ours, plain = RESAMPLING[name]
    images = [normal(rng, 2, 3, 5, 4)]
    assert_same(both_orders(ours, images), both_orders(plain, images), torch.float32)


@needs_kernels
@pytest.mark.parametrize("name", RESAMPLING)
def test_images_larger_than_one_program_takes_are_resampled(rng, name):
    ours, plain = RESAMPLING[name]
    images = normal(rng, 1, 38, fused.ROWS + 4, fused.LANES // 38 + 4)
    assert_same([ours(images)], [plain(images)], torch.float32)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", RESAMPLING)
def test_resampling_in_16_bits_is_near_that_in_32(rng, name, dtype):
    ours, plain = RESAMPLING[name]
    images = quarters(rng, 1, 5, 4, 5, reach=1)
    found = both_orders(ours, [images.to(dtype)])
    assert {x.dtype for x in found} == {dtype}
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert_same(found, both_orders(plain, [images]), dtype)


@needs_kernels
@pytest.mark.parametrize("name", RESAMPLING)
def test_the_gradient_of_resampling_is_its_adjoint(rng, name):
    """<A x, y> = <x, A' y>, and A'' = A."""
    operator, _ = RESAMPLING[name]
    x = normal(rng, 1, 2, 4, 5, dtype=torch.float64)
    y = normal(rng, *operator(x).shape, dtype=torch.float64)
    (adjoint,) = grad(operator(x), x, y, create_graph=True)
    torch.testing.assert_close((operator(x) * y).sum(), (x * adjoint).sum())
    (again,) = grad(adjoint, y, x)
    torch.testing.assert_close(again, operator(x))


@needs_kernels
@pytest.mark.parametrize("clamp", [None, 0.93])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 70, 9, 5)])
def test_bias_activation_gives_what_the_plain_one_gives(rng, shape, clamp):
    inputs = [normal(rng, *shape), normal(rng, shape[1])]
    ours, plain = (
        both_orders(partial(operator, clamp=clamp), inputs)
        for operator in (fused.bias_activation, plain_bias_activation)
    )
    assert_same(ours, plain, torch.float32)


@needs_kernels
@pytest.mark.parametrize("clamp", [None, 0.93])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 70, 9, 5)])
@pytest.mark.parametrize("noise_count", [0, 1, 2])
def test_styled_activation_gives_what_the_plain_one_gives(rng, shape, noise_count, clamp):
    inputs = styled_inputs(rng, shape, noise_count, normal)
    ours, plain = (
        both_orders(partial(operator, clamp=clamp), inputs)
        for operator in (fused.styled_activation, plain_styled_activation)
    )
    assert_same(ours, plain, torch.float32)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wide_vectors", [True, False])
def test_activations_in_16_bits_are_near_those_in_32(rng, dtype, wide_vectors):
    exact = styled_inputs(rng, (2, 5, 3, 4), 2, partial(quarters, reach=1))
    images, *vectors = (x.to(dtype) for x in exact)
    inputs = [images, *(x.float() if wide_vectors else x for x in vectors)]
    ours = both_orders(partial(fused.styled_activation, clamp=0.93), inputs)
    assert [x.dtype for x in ours[1:5]] == [x.dtype for x in inputs]
    assert_same(ours, both_orders(partial(plain_styled_activation, clamp=0.93), exact), dtype)
    ours = both_orders(partial(fused.bias_activation, clamp=0.93), [inputs[0], inputs[3]])
    assert_same(ours, both_orders(partial(plain_bias_activation, clamp=0.93), [exact[0], exact[3]]), dtype)


@needs_kernels
def test_activations_have_the_gradients_of_finite_differences(rng):
    inputs = styled_inputs(rng, (2, 3, 2, 3), 1, partial(normal, dtype=torch.float64))
    operator = partial(fused.styled_activation, clamp=1.5)
    assert gradcheck(operator, inputs, fast_mode=True)
    assert gradgradcheck(operator, inputs, fast_mode=True)


@needs_kernels
def test_activations_let_nan_through():
    images = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0], device=DEVICE).view(1, 1, 2, 2)
    out = fused.bias_activation(images, torch.zeros(1, device=DEVICE), 2.0)
    torch.testing.assert_close(
        out.flatten(), torch.tensor([torch.nan, 2, -2, 1], device=DEVICE), equal_nan=True, check_stride=False
    )


@needs_kernels
def test_r1_through_kernels_is_r1_without_them(rng):
    images, bias = normal(rng, 2, 3, 6, 6), normal(rng, 4)
    weights = normal(rng, 4, 3, 3, 3), normal(rng, 2, 4, 3, 3)

    def penalty_gradients(activation, binomial):
        x = activation(conv2d(images, weights[0], padding=1), bias, 2.0)
        logits = conv2d(binomial(x, 2), weights[1], stride=2).square().mean(dim=(1, 2, 3))[:, None]
        return grad(r1_penalty(images, logits, gamma=1.0), [*weights, bias, images])

    ours = penalty_gradients(fused.bias_activation, fused.binomial)
    assert_same(ours, penalty_gradients(plain_bias_activation, resample._filter), torch.float32)


@needs_kernels
def test_path_lengths_through_kernels_are_those_without_them(rng):
    ws, images, noise = normal(rng, 2, 1, 5), normal(rng, 2, 4, 3, 3), normal(rng, 1, 1, 6, 6)
    style, weight, bias = normal(rng, 5, 4), normal(rng, 4, 4, 3, 3), normal(rng, 4)
    direction = normal(rng, 2, 4, 6, 6).detach()

    def length_gradients(activation, binomial):
        scale = ws[:, 0] @ style
        spread = conv_transpose2d(images * scale[:, :, None, None], 4 * weight, stride=2)
        out = activation(binomial(spread, 1), scale.square(), noise, bias, 50.0)
        lengths = path_lengths(out, ws, direction)
        return [lengths, *grad(lengths.square().sum(), [ws, style, weight, bias, noise, images])]

    ours = length_gradients(fused.styled_activation, fused.binomial)
    assert_same(ours, length_gradients(plain_styled_activation, resample._filter), torch.float32)


@needs_kernels
def test_whole_networks_are_the_same_with_kernels_and_without(rng, monkeypatch):
    """`fused: true` reaches every layer: images, logits, R1 and path lengths with their gradients."""
    monkeypatch.setattr(backend, "on_gpu", lambda _: True)
    generator = Generator(GeneratorConfig(8, 3, 5, 5, 0, 2, 32, 4, 3.0, 0, "float16", True), rng).to(DEVICE)
    discriminator = Discriminator(
        DiscriminatorConfig(8, 3, 0, 2, 32, 4, "resnet", 2, 1, 3.0, 0, "float16", True), rng
    ).to(DEVICE)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if name.endswith("noise_strength"):
                weight.fill_(0.5)
    z, real = torch.randn(2, 5, generator=rng).to(DEVICE), normal(rng, 2, 3, 8, 8)

    def everything():
        none = torch.zeros(2, 0, device=DEVICE)
        ws = generator.mapping(z, none)
        images = generator.synthesis(ws)
        lengths = path_lengths(images, ws, torch.ones_like(images) / 8)
        penalty = r1_penalty(real, discriminator(real, none), 1.0)
        logits = discriminator(images, none)
        loss = logits.sum() + lengths.square().sum() + penalty
        weights = [*generator.parameters(), *discriminator.parameters()]
        return [images, logits, lengths, penalty, *grad(loss, weights, allow_unused=True, materialize_grads=True)]

    fast = everything()
    for module in (*generator.modules(), *discriminator.modules()):
        if hasattr(module, "fused"):
            module.fused = False
    assert_same(fast, everything(), torch.float32)
