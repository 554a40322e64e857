"""Signed manifests in files, after C2PA (c2pa.org): who made them, by what, and that they were not changed since.

It needs the extra `provenance`. A certificate of one's own makes a manifest valid; it is trusted by readers who trust the
certificate's authority. A manifest is easily removed.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langevin.extras import require

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif", "audio/wav", "audio/mpeg", "video/mp4")
SETTINGS = {  # nothing is fetched, whatever a file refers to
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
STATES = {"Trusted": "trusted", "Valid": "valid", "Invalid": "invalid"}


@dataclass(frozen=True, kw_only=True)
class Signing:
    """Signs files.

    Args:
        certificates: the signer's own first, then those up to the authority, PEM.
        key: the private key of the first, PEM.
        algorithm: of the signature, such as es256.
    """

    certificates: str
    key: str
    algorithm: str = "es256"

    @classmethod
    def read(cls, certificates: Path, key: Path) -> "Signing":
        """The signing by files. Raises `ValueError` if they cannot sign."""
        try:
            signing = cls(certificates=certificates.read_text(), key=key.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the certificate or its key cannot be read: {error}") from error
        signing._signer()
        return signing

    def signed(self, content: bytes, media_type: str, facts: Mapping[str, Any]) -> bytes:
        """The content of a file with a manifest; of a kind that holds none, the same content."""
        if media_type not in MEDIA_TYPES:
            return content
        c2pa = require("c2pa", "signed manifests")
        generator = {"name": "langevin", "version": version("langevin")}
        created = {"action": "c2pa.created", "digitalSourceType": MADE_BY_A_MODEL, "softwareAgent": generator}
        manifest = {
            "claim_generator_info": [generator], "title": str(facts.get("model", "")), "format": media_type,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                {"label": "org.langevin.recipe", "data": dict(facts)},
            ],
        }  # fmt: skip
        out = io.BytesIO()
        context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
        c2pa.Builder(json.dumps(manifest), context).sign(self._signer(), media_type, io.BytesIO(content), out)
        return out.getvalue()

    def _signer(self) -> Any:
        c2pa = require("c2pa", "signed manifests")
        try:
            return c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(self.algorithm.encode(), self.certificates.encode(), self.key.encode(), None)
            )
        except c2pa.C2paError as error:
            raise ValueError(f"the certificate and its key cannot sign: {error}") from error


def manifest_in(content: bytes, media_type: str) -> dict[str, Any]:
    """What the manifest of a file says, as OpenAI's provenance checks put it: outcome, validation_state, issuer, model and
    generated_at. Raises `ValueError` without the package."""
    c2pa = require("c2pa", "signed manifests")
    nothing = {"outcome": "not_detected", "validation_state": "not_present", "issuer": None, "model": None,
               "generated_at": None}  # fmt: skip
    try:
        context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
        with c2pa.Reader(media_type, io.BytesIO(content), context=context) as reader:
            found = json.loads(reader.json())
    except (c2pa.C2paError, ValueError):
        return nothing
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    signature = active.get("signature_info", {})
    return {
        "outcome": "detected", "validation_state": STATES.get(found.get("validation_state"), "invalid"),
        "issuer": signature.get("issuer"), "model": active.get("title"), "generated_at": signature.get("time"),
    }  # fmt: skip


__all__ = ["MEDIA_TYPES", "Signing", "manifest_in"]
