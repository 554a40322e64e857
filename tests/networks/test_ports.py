"""Laws of conditioning: every network with every port that it can be built with, and what it refuses.

In float64; `stirred` networks, whose zeros are not zero any more.
"""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.condition import FACTS, PORTS, SEQUENCES, Condition, KVCache, Port, join
from langevin.networks import (
    MLP,
    Autoencoder,
    ColumnMLP,
    ColumnTransformer,
    DiT,
    DiT2D,
    InverseSTFT,
    JointDiT,
    Transformer,
    UNet,
    UNet2D,
)
from langevin.networks.embedding import ALL_PORTS, ConditioningConfig
from langevin.networks.encoder import ConditionEncoder, resample
from langevin.recipe.tree import NetworkConfig

NEAR = {"rtol": 0, "atol": 1e-10}
WIDTHS = {
    "global_": {"classes": 3}, "global_vector": {"vector_width": 2}, "cross_vectors": {"cross_width": 3},
    "cross": {"vocabulary": 9, "length": 6, "text_layers": 1}, "prepend": {"prepend_width": 4},
    "concat": {"concat_channels": 2}, "aligned": {"aligned_width": 5},
}  # fmt: skip
SIZES = {"width": 16, "head_dim": 8, "channels": 2}
TOKENS = Transformer.Config(width=16, depth=2, head_dim=8, vocab_size=7, ngram_window=1)
NETWORKS: dict[str, NetworkConfig] = {
    "dit 1d": DiT.Config(**SIZES, depth=2, patch=2, dimensions=1),
    "dit 2d": DiT.Config(**SIZES, depth=2, patch=2),
    "dit 3d": DiT.Config(**SIZES, depth=1, patch=2, dimensions=3),
    "unet 1d": UNet.Config(**SIZES, channel_mult=(1, 2), blocks=1, dimensions=1),
    "unet 2d": UNet.Config(**SIZES, channel_mult=(1, 2), blocks=1, attention=(0, 1)),
    "unet 3d": UNet.Config(**SIZES, channel_mult=(1, 2), blocks=1, dimensions=3),
    "unet of patches and waves": UNet.Config(**SIZES, channel_mult=(1, 2), blocks=1, patch=2, fourier=(1,)),
    "mlp": MLP.Config(width=16, depth=2, channels=6),
    "dit with convolutions": DiT.Config(**SIZES, depth=2, patch=1, dimensions=1, kernel=3),
    "inverse stft": InverseSTFT.Config(width=16, depth=2, channels=2, n_fft=8, prior="unit"),
    "tokens": replace(TOKENS, time_conditioning=True),
    "causal tokens": replace(TOKENS, attention="causal"),
    "tokens by blocks": replace(TOKENS, attention="block", block_size=4),
}
EVERY = pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
CASES = [(name, port) for name, config in NETWORKS.items() for port in config.supported_ports]
EACH = pytest.mark.parametrize(("name", "port"), CASES)


def attends(config: NetworkConfig) -> bool:
    return not (
        isinstance(config, MLP.Config | InverseSTFT.Config)
        or (isinstance(config, Transformer.Config) and config.attention == "block")
    )


def conditioning(config: NetworkConfig, *ports: str) -> ConditioningConfig:
    """With so many ports, default all that it supports."""
    chosen = {key: n for port in ports or config.supported_ports for key, n in WIDTHS[port].items()}
    return ConditioningConfig(**chosen, text="cross_attention" if attends(config) else "pooled")


def stirred(config: NetworkConfig) -> torch.nn.Module:
    torch.manual_seed(1)
    network = config.build().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def built(config: NetworkConfig, *ports: str) -> torch.nn.Module:
    return stirred(replace(config, conditioning=conditioning(config, *ports)))


def space_of(config: NetworkConfig) -> tuple[int, ...]:
    if isinstance(config, MLP.Config):
        return ()
    return (4,) if isinstance(config, Transformer.Config | InverseSTFT.Config) else (4, 8, 4)[: config.dimensions]


def data(config: NetworkConfig, rows: int, space: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(config, Transformer.Config):
        return torch.randint(0, 7, (rows, *space), generator=generator)
    return torch.randn(rows, config.channels or 1, *space, generator=generator, dtype=torch.float64)


def told(config: NetworkConfig, rows: int, space: tuple[int, ...], *, n: int = 3, seed: int = 0) -> Condition:
    """Something on every port that the network supports, in sequences of n."""
    generator = torch.Generator().manual_seed(seed + 50)

    def vectors(*shape: int) -> Port:
        return Port(tensor=torch.randn(rows, *shape, generator=generator, dtype=torch.float64))

    every = {
        "global_": Port(tensor=(torch.arange(rows) + seed) % 3), "global_vector": vectors(2),
        "cross": Port(tensor=torch.randint(1, 9, (rows, n), generator=generator)), "cross_vectors": vectors(n, 3),
        "prepend": vectors(n, 4), "concat": vectors(2, *space), "aligned": vectors(n + 1, 5),
    }  # fmt: skip
    return Condition(**{port: every[port] for port in config.supported_ports})


def only(condition: Condition, *ports: str) -> Condition:
    return replace(condition, **{port: None for port in PORTS if port not in ports})


def ask(network: torch.nn.Module, x: torch.Tensor, condition: Condition | None) -> torch.Tensor:
    with torch.no_grad():
        return network(x, torch.linspace(-1, 1, len(x), dtype=torch.float64), condition)


def test_every_network_and_every_port_is_tested():
    without = {
        Autoencoder.Config,
        ColumnMLP.Config,
        ColumnTransformer.Config,
        JointDiT.Config,
        UNet2D.Config,
        DiT2D.Config,
    }
    assert {type(config) for config in NETWORKS.values()} == set(NetworkConfig.__args__) - without
    assert set(WIDTHS) == set(PORTS) == set(ALL_PORTS)
    assert {port for _, port in CASES} == set(PORTS)


@EACH
def test_a_port_matters_alone_withheld_it_does_not_and_rows_do_not_mix(name, port):
    config = NETWORKS[name]
    network, space = built(config, port), space_of(config)
    x, one, other = data(config, 4, space), *(only(told(config, 4, space, seed=s), port) for s in (0, 1))
    first = ask(network, x, one)
    assert (ask(network, x, other) - first).abs().flatten(1).amax(1).min() > 1e-4
    torch.testing.assert_close(ask(network, x, one.dropped()), ask(network, x, other.dropped()), **NEAR)
    keep = torch.tensor([True, False, False, True])
    mixed = ask(network, x, one.only(keep))
    torch.testing.assert_close(mixed[keep], first[keep], **NEAR)
    torch.testing.assert_close(mixed[~keep], ask(network, x, one.dropped())[~keep], **NEAR)
    assert (mixed - first)[~keep].abs().flatten(1).amax(1).min() > 1e-4


@pytest.mark.parametrize("length", [2, 24])
def test_a_word_counts_as_much_in_a_long_text_as_in_a_short_one(length):
    torch.manual_seed(0)
    encoder = ConditionEncoder(ConditioningConfig(vocabulary=9, length=24), 16, network="a test").double()
    torch.nn.init.zeros_(encoder.pool.weight)  # the bag of words alone
    text = torch.full((3, length), 2)
    text[1, -1], text[2, -1] = 7, 0  # another last word; and none
    vector = encoder(Condition(cross=Port(tensor=text)), torch.zeros(3, 1)).vector
    word = encoder.bag_of_words.weight
    torch.testing.assert_close(vector[1] - vector[0], word[7] - word[2])
    torch.testing.assert_close(vector[0] - vector[2], word[2])


@EVERY
def test_any_two_requests_are_together_what_they_are_alone(config):
    """Sequences of other lengths, and ports that one side lacks, which are withheld from it."""
    network, space = built(config), space_of(config)
    x, many = data(config, 5, space), told(config, 3, space, n=5, seed=2)
    few = told(config, 2, space, n=2)
    alone = torch.cat([ask(network, x, join(few, many))[:2], ask(network, x, join(few, many))[2:]])
    times = torch.linspace(-1, 1, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(alone[:2], network(x[:2], times[:2], few), **NEAR)
        torch.testing.assert_close(alone[2:], network(x[2:], times[2:], many), **NEAR)
        for port in config.supported_ports[1:]:
            without = replace(few, **{port: None})
            given = getattr(few, port)
            withheld = replace(few, **{port: given.only(torch.zeros(2, dtype=torch.bool))})
            together = network(x, times, join(without, many))
            torch.testing.assert_close(together[:2], network(x[:2], times[:2], withheld), **NEAR)
            torch.testing.assert_close(together[2:], alone[2:], **NEAR)


@EACH
def test_what_stands_in_the_padding_of_a_port_changes_nothing(name, port):
    if port not in ("cross", "cross_vectors", "prepend", "aligned"):
        return
    config = NETWORKS[name]
    network, space = built(config, port), space_of(config)
    x, whole = data(config, 3, space), only(told(config, 3, space, n=3), port)
    given = getattr(whole, port)
    n = given.tensor.shape[1]
    mask = torch.arange(n + 2).expand(3, -1) < n
    scribble = 8 if port == "cross" else torch.nan
    tensor = torch.cat([given.tensor, torch.full_like(given.tensor[:, :2], scribble)], 1)
    padded = replace(whole, **{port: Port(tensor=tensor, mask=mask)})
    torch.testing.assert_close(ask(network, x, padded), ask(network, x, whole), **NEAR)


@EVERY
def test_gradients_reach_every_parameter_of_the_condition(config):
    network, space = built(config), space_of(config)
    condition = told(config, 4, space).only(torch.tensor([True, False, True, True]))
    network(data(config, 4, space), torch.linspace(-1, 1, 4, dtype=torch.float64), condition).square().sum().backward()
    untouched = [n for n, p in network.encoder.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert untouched == []


# ---------------------------------------------------------------------------------------------------------- refusals


@EVERY
def test_a_port_that_a_network_cannot_read_is_refused_where_it_is_described(config):
    for port in set(PORTS) - set(config.supported_ports):
        with pytest.raises(ValueError, match=f"does not read the port {port}"):
            replace(config, conditioning=ConditioningConfig(**WIDTHS[port]))
    if not attends(config):
        with pytest.raises(ValueError, match=r"text=pooled|does not read the port cross"):
            replace(config, conditioning=ConditioningConfig(**WIDTHS["cross"]))


@EVERY
def test_what_a_network_was_not_built_with_is_refused_by_name(config):
    network, space = stirred(config), space_of(config)
    x, whole = data(config, 2, space), told(NETWORKS["dit 1d"], 2, space)
    for port in PORTS:
        with pytest.raises(ValueError, match=f"is given the port {port}, which it was not built with"):
            ask(network, x, only(whole, port))
    facts = {
        "clean": torch.zeros(2, 4).long(),
        "data_mask": torch.ones(2).bool(),
        "cache": KVCache(keys_values=torch.zeros(2, 4, 2, 2, 16), mask=torch.ones(2, 4).bool()),
        "span": torch.zeros(2),
    }
    assert set(facts) == set(FACTS)
    read = {"tokens by blocks": ("clean", "data_mask", "cache"), "mlp": ()}.get(network_name(config), ("data_mask",))
    for name, value in facts.items():
        if name not in read:
            with pytest.raises(ValueError, match=f"is given condition.{name}, which it does not read"):
                ask(network, x, Condition(**{name: value}))


@EVERY
def test_the_length_of_a_step_is_read_by_those_that_make_a_vector_of_it_and_refused_by_the_others(config):
    described = replace(config.conditioning, span=True)
    if not isinstance(config, DiT.Config | UNet.Config | MLP.Config):
        with pytest.raises(ValueError, match="does not read the length of a step"):
            replace(config, conditioning=described)
        return
    network, x = stirred(replace(config, conditioning=described)), data(config, 3, space_of(config))
    c_time, spans = torch.tensor([-1.0, 0.0, 1.0]).double(), torch.tensor([0.0, 0.3, 0.9]).double()
    with torch.no_grad():
        whole, none = network(x, c_time, Condition(span=spans)), network(x, c_time, None)
        torch.testing.assert_close(whole[0], none[0], **NEAR)
        assert (whole - none)[1:].abs().flatten(1).amax(1).min() > 1e-3
        alone = [network(x[i], c_time[i], Condition(span=spans[i])) for i in torch.arange(3).split(1)]
    torch.testing.assert_close(torch.cat(alone), whole, **NEAR)
    joined = join(Condition(span=spans), Condition(), counts=[3, 1])
    assert joined.span.tolist() == [*spans.tolist(), 0.0]


def network_name(config: NetworkConfig) -> str:
    return next(name for name, known in NETWORKS.items() if known == config)


@EACH
def test_a_port_that_is_missing_or_misshapen_is_refused(name, port):
    config = NETWORKS[name]
    network, space = built(config, port), space_of(config)
    x, whole = data(config, 2, space), told(config, 2, space)
    with pytest.raises(ValueError, match=rf"{port}\): expected 2 samples of it, got nothing"):
        ask(network, x, None)
    wrong = getattr(whole, port).tensor
    wrong = wrong[..., None] if port == "global_" else wrong[..., :1] if port != "cross" else wrong[:, :0]
    if port == "concat" and not space[1:]:
        wrong = wrong.expand(-1, -1, 3)
    with pytest.raises(ValueError, match=rf"{port}\) of shape"):
        ask(network, x, Condition(**{port: Port(tensor=wrong)}))


@EACH
def test_a_mask_or_keep_bits_of_another_shape_or_type_are_refused(name, port):
    config = NETWORKS[name]
    network, space = built(config, port), space_of(config)
    x, tensor = data(config, 2, space), getattr(told(config, 2, space), port).tensor
    for keep in (torch.ones(1).bool(), torch.ones(2, 1).bool(), torch.ones(2)):
        with pytest.raises(ValueError, match=rf"port {port}\): its keep is bool of shape \(2,\), got"):
            ask(network, x, Condition(**{port: Port(tensor=tensor, keep=keep)}))
    if port not in SEQUENCES:
        with pytest.raises(ValueError, match=rf"port {port}\), which is not a sequence"):
            ask(network, x, Condition(**{port: Port(tensor=tensor, mask=torch.ones(2, 3).bool())}))
        return
    n = tensor.shape[1]
    for mask in (torch.ones(1, n).bool(), torch.ones(2, n + 1).bool(), torch.ones(2, n)):
        with pytest.raises(ValueError, match=rf"port {port}\): its mask is bool of shape \(2, {n}\), got"):
            ask(network, x, Condition(**{port: Port(tensor=tensor, mask=mask)}))


def test_a_data_mask_of_another_shape_is_refused():
    network = stirred(NETWORKS["dit 2d"])
    x = data(NETWORKS["dit 2d"], 2, (4, 8))
    for mask in (torch.ones(2, 4).bool(), torch.ones(2, 8, 4).bool(), torch.ones(2, 4, 8)):
        with pytest.raises(ValueError, match=r"a data mask is bool .* \(2, 4, 8\)"):
            ask(network, x, Condition(data_mask=mask))


# ------------------------------------------------------------------------------------------------ aligned sequences


def test_a_sequence_of_the_datas_own_rate_is_left_as_it_is():
    x, shown = torch.randn(2, 6, 3), torch.arange(6) < torch.tensor([[6], [4]])
    at = resample(x, shown, 6, torch.tensor([6, 4]))
    assert torch.equal(at[0], x[0])
    assert torch.equal(at[1, :4], x[1, :4])


@pytest.mark.parametrize(("items", "positions"), [(4, 8), (8, 4), (3, 7), (10, 10), (1, 5)])
def test_a_line_in_time_is_the_same_line_at_another_rate(items, positions):
    """The value at a position is that of the line at its centre, but for half an item at either end."""

    def centres(n: int) -> torch.Tensor:
        return (torch.arange(n, dtype=torch.float64) + 0.5) / n

    at = resample(centres(items)[None, :, None], torch.ones(1, items, dtype=torch.bool), positions)[0, :, 0]
    torch.testing.assert_close(at, centres(positions).clamp(0.5 / items, 1 - 0.5 / items), rtol=0, atol=1e-12)


def test_an_aligned_sequence_is_felt_where_it_stands():
    """A U-Net without attention sees a change of one item near its place only."""
    config = replace(NETWORKS["unet 1d"], channel_mult=(1,), attention=())
    torch.manual_seed(0)
    network = replace(config, conditioning=ConditioningConfig(aligned_width=1)).build().double()
    read = []
    network.conv_in.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0][0, -1]))
    sequence = torch.zeros(1, 8, 1, dtype=torch.float64)
    sequence[0, 5] = 1.0
    mask = torch.ones(1, 16, dtype=torch.bool)
    ask(network, torch.zeros(1, 2, 16, dtype=torch.float64), Condition(aligned=Port(tensor=sequence), data_mask=mask))
    assert read[0].nonzero()[:, 0].tolist() == [9, 10, 11, 12]
