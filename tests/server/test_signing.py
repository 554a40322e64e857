"""Signed manifests: valid in what a server gives out, in every form of file, and invalid once a byte is changed."""

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2 as httpx
import pytest
from PIL import Image

pytest.importorskip("c2pa", reason="manifests need the extra provenance")
pytest.importorskip("cryptography", reason="the certificates of the tests are made with cryptography")

from langevin.embed import extract
from langevin.safety.manifest import Signing, manifest_in
from tests.safety.signing import chain
from tests.server.conftest import serving
from tests.server.test_jobs import ended


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    certificates, key = chain()
    (folder / "chain.pem").write_text(certificates)
    (folder / "key.pem").write_text(key)
    return Signing.read(folder / "chain.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def signed(runs, signing, tmp_path_factory):
    with (
        serving(
            [runs / "classes", runs / "speech"], tmp_path_factory.mktemp("signed") / "jobs.db", signing=signing
        ) as (url, _, _),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        yield http


def checked(http, content, media_type):
    files = {"file": ("a", content, media_type)}
    results = http.post("/v1/content_provenance_checks", files=files).json()["results"]
    return next(one for one in results if one["type"] == "c2pa")


def test_files_of_jobs_are_signed_and_a_change_shows(signed):
    job = ended(signed, signed.post("/v1/jobs", json={"model": "classes", "count": 1}).json()["id"])
    content = signed.get(job["files"][0]["url"]).content
    found = checked(signed, content, "image/png")
    assert (found["outcome"], found["validation_state"], found["issuer"], found["model"]) == (
        "detected", "valid", "Testers", "classes",
    )  # fmt: skip
    assert extract(content)["model"] == "classes"  # what files say is there too
    changed = bytearray(content)
    changed[-40] ^= 1
    assert checked(signed, bytes(changed), "image/png")["validation_state"] == "invalid"


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_images_are_signed_in_every_form(signed, form):
    body = {"model": "classes", "prompt": "disc", "output_format": form, "response_format": "b64_json"}
    content = base64.b64decode(signed.post("/v1/images/generations", json=body).json()["data"][0]["b64_json"])
    assert checked(signed, content, f"image/{form}")["validation_state"] == "valid"


@pytest.mark.parametrize(("form", "media_type"), [("wav", "audio/wav"), ("mp3", "audio/mpeg")])
def test_speech_is_signed(signed, form, media_type):
    body = {"model": "speech", "input": "one", "voice": "default", "response_format": form}
    answer = signed.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200, answer.text
    assert checked(signed, answer.content, media_type)["validation_state"] == "valid"


def test_files_without_a_manifest_have_none(signed, http):
    job = ended(http, http.post("/v1/jobs", json={"model": "classes", "count": 1}).json()["id"])
    found = checked(signed, http.get(job["files"][0]["url"]).content, "image/png")
    assert (found["outcome"], found["validation_state"]) == ("not_detected", "not_present")
    assert checked(signed, b"nothing", "image/png")["outcome"] == "not_detected"


def test_kinds_of_files_without_manifests_stay_as_they_are(signing):
    assert signing.signed(b"some text", "text/plain", {}) == b"some text"
    assert manifest_in(b"nothing", "text/plain")["outcome"] == "not_detected"


def test_a_certificate_that_cannot_sign_is_refused(tmp_path, signing):
    (tmp_path / "chain.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ValueError, match="cannot sign"):
        Signing.read(tmp_path / "chain.pem", tmp_path / "key.pem")
    with pytest.raises(ValueError, match="cannot be read"):
        Signing.read(tmp_path / "none", tmp_path / "key.pem")


def test_a_file_that_refers_to_an_address_fetches_nothing():
    """A manifest elsewhere, named in the XMP of a picture, would let a client reach what the server can reach."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    address = f"http://127.0.0.1:{server.server_port}/secret"
    xmp = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{address}"/>'
        f"</rdf:RDF></x:xmpmeta>"
    ).encode()
    part = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    content = out.getvalue()
    content = content[:2] + b"\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part + content[2:]
    assert manifest_in(content, "image/jpeg")["outcome"] == "not_detected"
    server.shutdown()
    server.server_close()
    assert asked == []
