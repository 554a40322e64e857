"""CIFAR-10 is read from its directory or archive alike, never unpacked, and never fetched unasked."""

import gzip
import io
import tarfile

import pytest
import torch

from langevin.modalities.image import cifar10
from langevin.modalities.image.data import (
    Cifar10,
    Folder,
    load_parts,
    open_table,
)
from langevin.modalities.image.modality import Image
from langevin.modalities.image.unreadable import Broken
from tests.modalities.image.pictures import (
    everything,
    make_cifar,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_cifar10_round_trip(tmp_path):
    pixels = make_cifar(tmp_path / "cifar-10-batches-bin", 4)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    places = (tmp_path, tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-10-binary.tar.gz")
    for place in places:
        for source in (Cifar10(path=str(place)), Folder(path=str(place))):
            train, held = load_parts(source)
            assert train.shape == (3, 32, 32)
            assert train.classes[:2] == ("class0", "class1")
            assert torch.equal(everything(train), pixels[:20])
            assert torch.equal(everything(held), pixels[20:])
            assert train.labels.tolist() == [0, 1, 2, 3] * 5
    assert "instead of 10,000" in train.notes.remarks[0]
    with pytest.raises(ValueError, match="32x32 in colour"):
        open_table(Folder(path=str(tmp_path), size=16))


def test_cifar10_names_are_optional(tmp_path):
    make_cifar(tmp_path, 2, names=False)
    assert open_table(Cifar10(path=str(tmp_path))).class_names()[:3] == ("airplane", "automobile", "bird")


def test_cifar10_wrong_files(tmp_path):
    make_cifar(tmp_path, 3)
    path = tmp_path / "data_batch_4.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(Broken, match=r"data_batch_4.bin has 9,214 bytes"):
        open_table(Cifar10(path=str(tmp_path)))
    path.write_bytes(bytes([77]) + whole[1:])
    with pytest.raises(Broken, match="label 77 in record 0"):
        open_table(Cifar10(path=str(tmp_path)))
    path.unlink()
    with pytest.raises(ValueError, match=r"data_batch_4.bin is missing"):
        open_table(Cifar10(path=str(tmp_path)))


def test_cifar10_archive_is_read_and_never_unpacked(tmp_path):
    make_cifar(tmp_path / "in", 2)
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "in", "../../escape")
    before = sorted(tmp_path.rglob("*"))
    assert len(open_table(Cifar10(path=str(path)))) == 12
    assert sorted(tmp_path.rglob("*")) == before
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Broken, match=r"not a complete \.tar\.gz"):
        open_table(Cifar10(path=str(path)))
    path.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(ValueError, match=r"not a complete \.tar\.gz|is missing"):
        open_table(Cifar10(path=str(path)))


def test_cifar10_is_not_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    calls = []

    def urlopen(url, timeout):
        calls.append(url)
        return io.BytesIO(b"a captive portal")

    monkeypatch.setattr(cifar10.urllib.request, "urlopen", urlopen)
    with pytest.raises(ValueError, match=r"https://www\.cs\.toronto\.edu.*data\.download=true to `langevin train`"):
        open_table(Cifar10())
    assert calls == []
    with pytest.raises(ValueError, match="not the known file"):
        open_table(Cifar10(download=True))
    assert len(calls) == 1
    assert not list(tmp_path.rglob("*.part"))
    cached = tmp_path / ".cache/langevin/cifar-10-binary.tar.gz"
    cached.write_bytes(b"damaged")
    with pytest.raises(Broken, match="md5 sum"):
        open_table(Cifar10())


def test_cifar10_download_is_kept(tmp_path, monkeypatch):
    make_cifar(tmp_path / "in", 2)
    with tarfile.open(tmp_path / "sent.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", "cifar-10-batches-bin")
    sent = (tmp_path / "sent.tar.gz").read_bytes()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(cifar10, "_MD5", cifar10._md5(tmp_path / "sent.tar.gz"))
    monkeypatch.setattr(cifar10.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(sent))
    assert len(open_table(Cifar10(download=True))) == 12
    monkeypatch.setattr(cifar10.urllib.request, "urlopen", None)
    assert len(open_table(Cifar10())) == 12


def archive_of(path, *members: tuple[str, int, bytes]) -> None:
    """A .tar.gz of members (name, size, type) of zeros."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        for name, size, kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = size, kind
            file.write(member.tobuf())
            for _ in range(-(-size // 2**20)):
                file.write(bytes(2**20))
        file.write(bytes(1024))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_what_is_passed_over_in_an_archive_is_bounded(tmp_path, monkeypatch, kind):
    """Also a header of metadata, which tarfile reads at once."""
    monkeypatch.setattr(cifar10, "_UNPACKED", 2**22)
    path = tmp_path / "cifar-10-binary.tar.gz"
    archive_of(path, ("a", 2**23, kind), ("b", 10, tarfile.REGTYPE))
    with pytest.raises(Broken, match=r"unpacks to more than 4,194,304 bytes"):
        open_table(Cifar10(path=str(path)))


def test_an_archive_of_very_many_files_and_a_large_file_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-binary.tar.gz"
    archive_of(path, *[(f"{n}", 0, tarfile.REGTYPE) for n in range(1500)])
    with pytest.raises(Broken, match="holds more than 1000 files"):
        open_table(Cifar10(path=str(path)))
    make_cifar(tmp_path, 2)
    with (tmp_path / "data_batch_3.bin").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(Broken, match=r"data_batch_3.bin has 1,099,511,627,776 bytes"):
        open_table(Cifar10(path=str(tmp_path)))


def test_a_run_never_downloads(tmp_path):
    """The recipe of a run says what it was trained on, and whoever gets it did not ask for a download."""
    make_cifar(tmp_path, 2)
    asked = Image(path=str(tmp_path), download=True)
    assert not asked.fitted(asked.open()[0]).download
