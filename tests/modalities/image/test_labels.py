"""Labels that are missing: without any, training is that without classes, to the bit; some are learned from; and files of
labels, good and bad."""

import csv
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from langevin.diffusion.condition import Condition, class_port
from langevin.modalities.image.conditions import Known, encode
from langevin.modalities.image.data import Folder, load_parts
from langevin.modalities.image.digits import open_digits
from langevin.modalities.image.labels import relabelled
from langevin.recipe.coupling import examples
from langevin.run.directory import open_run
from tests import tiny
from tests.modalities.image.pictures import fill, many, write_metadata


def labels_file(path, **labels):
    """A file of labels, by the stems of images."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        writer.writerows([f"{name}.png", label] for name, label in labels.items())
    return path


def folder(root, labels=None):
    fill(root, *many(12), side=8)
    if labels:
        write_metadata(
            root, "metadata.csv", *[{"file_name": f"{n:03d}.png", "label": labels[n % 2]} for n in range(12)]
        )
    return root


def weights(run):
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors")


@pytest.mark.parametrize("network", ["dit", "unet"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_missing_labels_everywhere_train_like_a_class_that_is_always_withheld(network, dropout):
    """Bit for bit, whatever is dropped besides; and the embeddings of classes do not move."""
    data = replace(tiny.images(), labels=torch.full((23,), -1))
    training = tiny.config(steps=4, optimizer=tiny.OPTIMIZERS["adamw"])
    read = tiny.batches(training, tiny.images())

    def withheld(step, rows, draw):
        batch = read(step, rows, draw)
        return replace(batch, condition=batch.condition.dropped())

    found = []
    for batches in (tiny.batches(training, data), withheld):
        made = tiny.method(network, condition_dropout=dropout)
        state = tiny.state_of(made, training)
        reports = tiny.advance(state, made, training, until=4, read=batches)
        found.append(([report.loss for report in reports], tiny.everything(state)))
    assert found[0][0] == found[1][0]
    tiny.assert_same(found[0][1], found[1][1])


def test_a_run_without_any_label_is_a_run_without_classes_to_the_bit(tmp_path):
    plain, labelled = folder(tmp_path / "plain"), folder(tmp_path / "labelled", "ab")
    empty = labels_file(tmp_path / "empty.csv", **{f"{n:03d}": "" for n in range(12)})
    first = tiny.run_of(plain, tmp_path / "first", steps=3)
    second = tiny.run_of(labelled, tmp_path / "second", f"data.labels={empty}", steps=3)
    found, expected = weights(second), weights(first)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_label_that_is_missing_is_withheld_and_the_others_are_not():
    condition = encode(torch.tensor([2, -1, 0]), None, None)
    assert condition.global_.tensor.tolist() == [2, 0, 0]
    assert condition.global_.kept().tolist() == [True, False, True]
    assert class_port(torch.tensor([1, 0])).keep is None


def test_examples_without_a_label_are_coupled_among_themselves():
    data = replace(tiny.images(6), labels=torch.tensor([0, -1, 1, 0, -1, 1]))
    training = tiny.config()
    groups = examples(tiny.batches(training, data).__closure__[1].cell_contents)[1]
    assert groups.tolist() == [1, 0, 2, 1, 0, 2]


def test_a_file_of_labels_takes_the_place_of_those_of_the_data(tmp_path):
    fill(tmp_path / "images", *many(3, "cat/{}.png"), *many(3, "dog/{}.png"), side=8)
    path = labels_file(tmp_path / "labels.csv", **{"cat/0": "dog", "cat/1": "", "dog/2": "cat"})
    with pytest.warns(UserWarning, match="trained on without their class: 4"):
        train, held = load_parts(Folder(path=str(tmp_path / "images")), labels=path)
    names = [train.classes[i] if i >= 0 else None for part in (train, held) for i in part.labels.tolist()]
    said = dict(zip([*train.names, *held.names], names, strict=True))
    assert said == {
        "cat/0.png": "dog", "cat/1.png": None, "cat/2.png": None, "dog/0.png": None, "dog/1.png": None, "dog/2.png": "cat"
    }  # fmt: skip
    assert set(train.notes.without_label) == {name for name, label in said.items() if label is None}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"elephant": "cat"}, "labels no image of .*elephant.png.*they are called 000.png"),
        ({"00O": "cat"}, "did you mean '0"),
    ],
)
def test_a_file_of_labels_of_other_images_is_refused(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        load_parts(Folder(path=str(folder(tmp_path / "a"))), labels=labels_file(tmp_path / "labels.csv", **labels))


def test_labels_that_are_no_class_of_the_data_are_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file_name,label\ndigit-0000,7\ndigit-0001,seven\n")
    with pytest.raises(ValueError, match="gives digit-0001 the label 'seven', and the classes of Digits are 0, 1, 2"):
        relabelled(open_digits(), path)
    with pytest.raises(ValueError, match=r"nowhere\.csv"):
        relabelled(open_digits(), tmp_path / "nowhere.csv")


def test_no_condition_is_invented_for_images_without_a_label():
    """What is drawn like the data has the classes of the data, where there are some."""
    data = replace(tiny.images(4), labels=torch.tensor([1, -1, 2, -1]))
    known = Known(classes=tiny.CLASSES, vocabulary=None)
    found = known.like(data, 4)
    assert found.names == ("dot", "", "ring", "")
    encoded = found.encoded(None)
    assert isinstance(encoded, Condition)
    assert encoded.global_.kept().tolist() == [True, False, True, False]


def test_a_run_finds_its_file_of_labels_from_any_directory(tmp_path, monkeypatch):
    data = folder(tmp_path / "data", "ab")
    labels_file(tmp_path / "some.csv", **{f"{n:03d}": "ab"[n % 2] if n % 3 else "" for n in range(12)})
    monkeypatch.chdir(tmp_path)
    run = open_run(tiny.run_of(data, tmp_path / "run", "data.labels=some.csv", steps=2))
    monkeypatch.chdir(tmp_path / "data")
    assert run.recipe.data.labels == str(tmp_path / "some.csv")
    train, val = run.open_data()
    assert train.classes == ("a", "b")
    assert sorted({*train.labels.tolist(), *val.labels.tolist()}) == [-1, 0, 1]
