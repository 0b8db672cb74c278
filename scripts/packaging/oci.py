"""OCI archives: the image layout in a tar, for ``podman load``, ``docker load`` and ``skopeo``.

It is written as the specification of the Open Container Initiative has it, with ``manifest.json``
besides: that is Docker's own list, and a Docker before version 25 reads nothing else.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.packaging import reproducible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
VARIANTS = {"arm64": "v8"}
"""The variant of the processors that an architecture has in an index."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer, as it is in an archive."""

    packed: bytes = dataclasses.field(repr=False)
    content: str
    """The digest of its tar."""
    made_by: str
    """Its content, in words for people."""

    @classmethod
    def of(cls, root: Path, made_by: str, **tar: Any) -> Layer:
        """Make a layer of all that is below `root`; `tar` is as for `reproducible.write_tar`."""
        file = io.BytesIO()
        reproducible.write_tar(file, root, **tar)
        content = file.getvalue()
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", 6, packed, mtime=0) as zipping:
            zipping.write(content)
        return cls(packed.getvalue(), digest(content), made_by)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image, before it is written."""

    name: str
    """With its tag, ``cotun-trio:0.1.0``."""
    architecture: str
    created: str
    """The time in it, as in RFC 3339."""
    layers: tuple[Layer, ...]
    """The lowest first."""
    settings: Mapping[str, object]
    """Of its containers: user, entry point and so on."""
    annotations: Mapping[str, str]

    def write(self, path: Path) -> str:
        """Write it as an archive; return the digest by which registries know it."""
        with tempfile.TemporaryDirectory() as directory:
            found = self._lay_out(Path(directory))
            reproducible.write_tar(path, Path(directory))
        return found

    def _lay_out(self, root: Path) -> str:
        """Write the files of a layout; return the digest of the manifest."""
        layers = [_add(root, LAYER, layer.packed) for layer in self.layers]
        config = _add(root, CONFIG, _json(self._config()))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": self.annotations,
        }
        added = _add(root, MANIFEST, _json(manifest))
        described = {
            **added,
            "platform": self._platform(),
            "annotations": {
                # The name for containerd is the full one, as Docker understands the short one.
                "io.containerd.image.name": f"docker.io/library/{self.name}",
                "org.opencontainers.image.ref.name": self.name,
            },
        }
        files: dict[str, object] = {
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
            "index.json": {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]},
            "manifest.json": [
                {
                    "Config": _place(config["digest"]),
                    "RepoTags": [self.name],
                    "Layers": [_place(layer["digest"]) for layer in layers],
                }
            ],
        }
        for name, value in files.items():
            (root / name).write_bytes(_json(value))
        return str(added["digest"])

    def _platform(self) -> dict[str, str]:
        variant = VARIANTS.get(self.architecture)
        found = {"architecture": self.architecture, "os": "linux"}
        return {**found, "variant": variant} if variant else found

    def _config(self) -> dict[str, object]:
        return {
            "created": self.created,
            **self._platform(),
            "config": self.settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.content for layer in self.layers]},
            "history": list(self._history()),
        }

    def _history(self) -> Iterable[dict[str, str]]:
        for layer in self.layers:
            yield {"created": self.created, "created_by": layer.made_by}


def digest(data: bytes) -> str:
    """Return the digest of bytes, as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _add(root: Path, media_type: str, data: bytes) -> dict[str, Any]:
    """Put a blob into a layout, and return its descriptor."""
    name = digest(data)
    path = root / _place(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": name, "size": len(data)}


def _place(name: str) -> str:
    """Return where a layout has the blob with a digest."""
    return f"blobs/{name.replace(':', '/')}"


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
