"""The GAN on images: its gradients, its penalty, and what it learns to tell apart."""

from __future__ import annotations

import pytest
import torch

from steer.registry.plugins import manager
from steer_dmd2.train.discriminator import (
    PENALTY,
    Captioned,
    Discriminator,
    fool,
    gradient_penalty,
    scale_of,
    tell_apart,
)
from steer_shapes.detector import load

SIZE, TEXT = (24, 16), 8


def made(rows: int, seed: int = 0) -> tuple[Discriminator, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return Discriminator(SIZE, TEXT), torch.rand(rows, 3, SIZE[1], SIZE[0]), torch.randn(rows, 5, TEXT)


@pytest.mark.parametrize("size", [(8, 8), (24, 16), (64, 64), (200, 72)])
def test_any_size_has_local_and_global_logits(size: tuple[int, int]) -> None:
    discriminator = Discriminator(size, TEXT)
    local, whole = discriminator(torch.rand(2, 3, size[1], size[0]), torch.randn(2, 5, TEXT))
    assert local.shape[0] == 2 and 8 <= local.shape[1] <= 16 * 64 and whole.shape == (2,)


def test_it_begins_from_features_that_are_known_and_leaves_them_as_they_are() -> None:
    features = manager().registry.data_of("image features")["shapes-detector"].load()
    discriminator = Discriminator((64, 64), TEXT, features())
    images, text = torch.rand(2, 3, 64, 64), torch.randn(2, 5, TEXT)
    with torch.no_grad():
        detector = load()
        known = detector.blocks(detector.stem(2 * images - 1))
        assert torch.equal(discriminator.trunk(images), torch.nn.functional.silu(known))
    local, whole = discriminator(images, text)
    assert local.shape == (2, 256)
    whole.sum().backward()
    assert all(parameter.grad is not None for parameter in discriminator.trunk.parameters())
    assert not any(parameter.requires_grad for parameter in load().parameters())


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_the_students_gradient_is_that_of_its_loss_however_it_is_split(at_once: int) -> None:
    discriminator, images, text = made(5)
    latents = (images * 4 - 2).requires_grad_()
    value, gradient, shown = fool(discriminator, latents, text, torch.sigmoid, at_once)
    local, whole = discriminator(torch.sigmoid(latents), text)
    expected = torch.nn.functional.softplus(-local).mean() + torch.nn.functional.softplus(-whole).mean()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, latents.grad, rtol=1e-3, atol=1e-6 * float(latents.grad.abs().max()) + 1e-9)
    assert torch.allclose(shown, torch.sigmoid(latents)) and not shown.requires_grad
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_the_penalty_is_half_the_squared_gradient_and_reaches_the_weights() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    images = torch.rand(3, 3, 4, 2, requires_grad=True)
    local = weight[0] * images.sum((1, 2, 3)).unsqueeze(1).expand(3, 5)  # a gradient of 2 by each of 24 numbers
    whole = weight[1] * images.sum((1, 2, 3))
    found = gradient_penalty(local, whole, images)
    assert found.item() == pytest.approx(0.5 * PENALTY * 8 * 24)
    found.backward()
    assert weight.grad is not None and torch.allclose(weight.grad, torch.full((2,), PENALTY * 8 * 24))


def test_one_gradient_is_scaled_to_another() -> None:
    main, added = torch.randn(4, 3), torch.randn(4, 3)
    assert (scale_of(0.5, main, added) * added).norm() == pytest.approx(0.5 * main.norm().item(), rel=1e-5)
    assert torch.isfinite(scale_of(0.5, main, torch.zeros(4)))


@pytest.mark.training
def test_it_learns_what_is_real_and_what_a_caption_says() -> None:
    """Real images are gray, dark or light as their captions say; the student's have stripes."""
    discriminator, _, _ = made(1)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3, betas=(0.5, 0.99))
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, TEXT, generator=rng)
    stripes = 0.3 * (torch.arange(SIZE[0]) % 2 - 0.5)

    def batch(striped: bool) -> Captioned:
        kinds = torch.randint(2, (16,), generator=rng)
        light = (0.3 + 0.4 * kinds).view(-1, 1, 1, 1) + 0.05 * torch.randn(16, 3, SIZE[1], SIZE[0], generator=rng)
        return Captioned(light + stripes * striped, [str(kind) for kind in kinds.tolist()], tokens[kinds])

    for step in range(60):
        optimizer.zero_grad()
        tell_apart(discriminator, batch(False), batch(True), penalized=step % 4 == 0)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        real, striped = batch(False), batch(True)
        local, whole = discriminator(real.images, real.tokens)
        wrong = discriminator(real.images, tokens[1 - torch.tensor([int(one) for one in real.captions])])[1]
        fake_local, fake_whole = discriminator(striped.images, striped.tokens)
    assert (local > 0).float().mean() > 0.9 > 0.1 > (fake_local > 0).float().mean()
    assert whole.mean() > fake_whole.mean() + 1
    assert whole.mean() > wrong.mean() + 1


def test_images_that_share_a_caption_are_no_fakes_of_each_other() -> None:
    discriminator, images, text = made(3)
    same = Captioned(images, ["a"] * 3, text[:1].expand(3, -1, -1))
    other = Captioned(images.flip(0), ["a"] * 3, same.tokens)
    found = tell_apart(discriminator, same, other, penalized=False)
    softplus = torch.nn.functional.softplus
    (local, whole), (fake_local, fake_whole) = (discriminator(one.images, one.tokens) for one in (same, other))
    expected = sum(softplus(one).mean() for one in (-local, fake_local, -whole, fake_whole))
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
