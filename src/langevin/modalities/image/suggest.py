"""A recipe for images, sized to the data, the machine and the time, with reasons."""

from langevin.modalities.image.data import Images
from langevin.modalities.image.shape import patch_for
from langevin.modalities.latents import reason, suggested
from langevin.modalities.modality import Budget, Suggestion

SIZES = ((64, 4), (96, 4), (128, 4), (128, 6), (192, 6), (256, 6), (256, 8), (384, 8), (384, 12), (512, 12), (768, 12))
REFERENCE = 64  # pixels along a side up to which noise levels are the usual ones
MEMORISED = 20_000  # number of captioned images up to which a caption identifies its image


def multiply_adds(width: int, depth: int, tokens: int) -> int:
    """Multiply-adds of a forward pass of the transformer on one image."""
    return depth * (12 * width * width * tokens + 2 * tokens * tokens * width + 6 * width * width)


def several(train: Images) -> str:
    """What is said of images in buckets beside their usual size."""
    return f" and the same area in {len(train.sizes)} shapes" * (train.buckets is not None)


def suggest(
    train: Images, budget: Budget, *, name: str, shape: tuple[int, int, int], enlarge: int | None = None
) -> Suggestion:
    """A recipe for these images within the budget.

    Args:
        shape: of x.
        enlarge: pixels of the smaller images that an enlarger is given; None draws whole images."""
    if enlarge is not None:
        return enlarger(train, name=name, side=shape[1], enlarge=enlarge)
    channels, side, _ = shape
    latent = shape != train.shape
    patch = patch_for(side)
    tokens = (side // patch) ** 2
    captioned = train.captions is not None
    memorised = captioned and len(train) <= MEMORISED and train.buckets is None
    text = 24 if captioned and not memorised else 0
    wanted = min(max(40 * len(train), 60_000), 2_000_000)
    fitting = [size for size in SIZES if multiply_adds(*size, tokens + text) * wanted <= budget.multiply_adds] or [
        SIZES[0]
    ]
    width, depth = fitting[-1]
    trained = budget.multiply_adds / multiply_adds(width, depth, tokens + text)
    few = len(train) < 5000 and trained > 60 * len(train) and not memorised
    classes = len(train.classes)
    conditioned = "captions" if captioned else f"{classes} class{'es' if classes > 1 else ''}" if classes else ""
    times = {"kind": "log_normal", "mean": 1.0, "std": 1.5} if memorised else {}
    sampling = {"guidance": [{"kind": "classifier_free", "weight": 2.0}]} if conditioned else {}
    factor = side / REFERENCE
    if factor > 1:
        times = {"kind": "shifted", "factor": factor, **({"times": times} if times else {})}
        sampling |= {"grid": {"kind": "shifted", "factor": factor}}
    recipe = {
        "name": f"image/{name}",
        "description": f"chosen for {len(train)} images of {train.shape[1]}x{train.shape[2]}{several(train)}"
        f"{', in latents' * latent}",
        "network": {
            "kind": "dit", "width": width, "depth": depth, "patch": patch, "head_dim": 32,
            "dropout": 0.1 if few else 0.0,
            **({"caption_prior": 1024, "conditioning": {"text": "pooled"}} if memorised else {}),
        },
        "method": {
            "kind": "diffusion", **({"times": times} if times else {}),
        },
        "training": {
            "batch": 32 if memorised else 128 if side <= 16 else 64,
            "optimizer": {
                "kind": "muon", "lr": 0.02, "adamw_lr": 0.002, **({"embedding_lr": 0.04} if memorised else {}),
            },
        },
        "sampling": sampling,
    }  # fmt: skip
    reasons = [
        f"images: {len(train)} of {train.shape[1]}x{train.shape[2]}x{train.shape[0]}{several(train)}, conditioned on "
        f"{conditioned or 'nothing'}{f', as latents of {side}x{side}x{channels}' * latent}",
        f"network: transformer of width {width}, depth {depth}, patches of {patch}x{patch} ({tokens} tokens): the largest "
        f"that trains on about {trained / 1000:.0f}k images in {budget.minutes:g} minutes on this machine "
        f"({trained / max(1, len(train)):.0f} epochs)",
    ]
    if tokens > 1024:
        reasons.append(
            f"side {side} divides badly into patches, so this will be slow: data.size={side // 8 * 8} would be faster"
        )
    if factor > 1:
        reasons.append(
            f"noise {factor:g} times as strong as for {REFERENCE} pixels, where neighbouring pixels average it out: "
            "method.times and sampling.grid are shifted"
        )
    if memorised:
        reasons.append(
            "few captions, each of an image or two: a bias of every patch from the caption (network.caption_prior), "
            "and training at high noise, where the prediction depends on the caption alone"
        )
    if few:
        reasons.append("dropout 0.1: few images, many epochs")
    return Suggestion(recipe=recipe, reasons=tuple(reasons))


def enlarger(train: Images, *, name: str, side: int, enlarge: int) -> Suggestion:
    """A recipe for an enlarger: a small U-Net, as what is missing in an image is found near by."""
    patch = next((p for p in (side // REFERENCE, 1) if p and side % p == 0), 1)
    levels = [1, 2, 2][: 1 + sum(side // patch % 2**k == 0 for k in (1, 2))]
    own = "captions" if train.captions is not None else f"{len(train.classes)} classes" if train.classes else None
    conditioned = " and ".join(filter(None, [f"the image at {enlarge} pixels", own]))
    captions = {"conditioning": {"text": "pooled"}} if train.captions is not None else {}
    recipe = {
        "name": f"image/{name}",
        "description": f"chosen for {len(train)} images of {train.shape[1]}x{train.shape[2]}, enlarged from {enlarge}",
        "network": {
            "kind": "unet", "patch": patch, "width": 32, "channel_mult": levels, "blocks": 1, "attention": [],
            "head_dim": None, **captions,
        },
        "method": {"kind": "diffusion"},
        "training": {"batch": 16, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002}},
        "sampling": {},
    }  # fmt: skip
    reasons = (
        f"images: {len(train)} of {train.shape[1]}x{train.shape[2]}x{train.shape[0]}, conditioned on {conditioned}",
        f"network: U-Net of width 32 and {len(levels)} levels, patches of {patch}x{patch}: it looks near by",
    )
    return Suggestion(recipe=recipe, reasons=reasons)


def masked(train: Images, budget: Budget, *, name: str, positions: int, codes: int) -> Suggestion:
    """A recipe for masked diffusion of the codes of these images within the budget."""
    wanted = min(max(40 * len(train), 60_000), 2_000_000)
    fitting = [size for size in SIZES if multiply_adds(*size, positions) * wanted <= budget.multiply_adds] or [SIZES[0]]
    width, depth = fitting[-1]
    trained = budget.multiply_adds / multiply_adds(width, depth, positions)
    conditioned = train.captions is not None or bool(train.classes)
    recipe = {
        "name": f"image/{name}",
        "description": f"chosen for {len(train)} images of {train.shape[1]}x{train.shape[2]}, as codes",
        "network": {
            "kind": "transformer", "width": width, "depth": depth, "head_dim": 32,
            "dropout": 0.1 if trained > 20 * len(train) else 0.0,
        },
        "process": {"kind": "masked"},
        "training": {"batch": 64, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002, "embedding_lr": 0.008}},
        "sampling": {
            "sampler": {"kind": "unmask"}, "steps": min(positions, 32), "grid": {"kind": "unmask"},
            **({"guidance": [{"kind": "classifier_free", "weight": 1.5}]} if conditioned else {}),
        },
    }  # fmt: skip
    reasons = (
        f"images: {len(train)} of {train.shape[1]}x{train.shape[2]}x{train.shape[0]}, as {positions} of "
        f"{codes:,} codes each",
        f"network: transformer of width {width}, depth {depth}: about {trained / 1000:.0f}k images in {budget.minutes:g} "
        "minutes on this machine",
    )
    return Suggestion(recipe=recipe, reasons=reasons)


def autoencoder(train: Images, budget: Budget, *, name: str, codes: bool) -> Suggestion:
    """A recipe for the autoencoder of these images within the budget."""
    channels, side, _ = train.shape
    network = suggested(channels, side, budget, wanted=min(max(20 * len(train), 30_000), 500_000), codes=codes)
    recipe = {
        "name": f"image/{name}-autoencoder",
        "description": f"an autoencoder of {len(train)} images of {side}x{side}, to be the codec of another run",
        "network": {"kind": "autoencoder", "dimensions": 2, **network},
        "method": {"kind": "autoencoder"},
        "training": {"batch": 32, "optimizer": {"kind": "muon", "lr": 0.02, "adamw_lr": 0.002}},
    }
    return Suggestion(recipe=recipe, reasons=(reason(network, channels, side),))
