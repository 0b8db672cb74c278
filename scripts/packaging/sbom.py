"""What is in an artefact: its software bill of materials, as CycloneDX 1.6 has it in JSON.

``NAME.cdx.json`` lies beside the artefact NAME, and says its hash.  What is in the artefact are
components with versions, package URLs, and the hash of what has been downloaded; Python packages
have licences, too.  What needs what is under "dependencies".  Wheels with compiled parts say what
those are made of, in ``.dist-info/sboms``: those are components of the package.

The bytes depend on the artefact and on what is in it: the serial number is made from the
artefact's hash, and the time is `reproducible.epoch`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from importlib import metadata
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.packaging import lock, reproducible
from scripts.packaging.environment import OURS
from scripts.packaging.python_packages import read_project, version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.metadata import PackageMetadata
    from pathlib import Path

    from cyclonedx.model.license import License

    from scripts.packaging.environment import Carried

SUFFIX = ".cdx.json"
TOOL = "cyclonedx-python-lib"
TROVE = "License :: OSI Approved :: "
LICENCES = {"MIT License": "MIT", "Apache Software License": "Apache-2.0"}
"""What some classifiers are called elsewhere; others are no licence but a family of them."""


def write(
    artefact: Path,
    *,
    carried: Sequence[Carried] = (),
    more: Iterable[Component] = (),
    kind: ComponentType = ComponentType.APPLICATION,
    purl: PackageURL | None = None,
) -> Path:
    """Write the components of an artefact, beside it; return where.

    `carried` is what `environment.install` has returned, while that directory is still there.
    `more` are its other components, such as the packages of a distribution: see `debian_package`.
    `purl` is the name of the artefact where its users fetch it.
    """
    if purl is None:
        purl = PackageURL("generic", None, OURS, version(), {"file_name": artefact.name})
    root = _root(artefact, kind, purl)
    packages = {package.name: _package(package) for package in carried}
    others = list(more)
    bom = _bom(root, [*packages.values(), *others])
    for package in carried:
        component = packages[package.name]
        needed = (packages[name] for name in package.needs)
        bom.register_dependency(component, [*needed, *component.components])
    bom.register_dependency(root, [*(packages[name] for name in packages if name == OURS), *others])
    return _save(bom, artefact)


def write_for_python_package(artefact: Path) -> Path:
    """Write what an sdist or a wheel of ours needs, beside it; return where.

    Nothing of that is in it.  What pip installs with it is therefore without versions, and has the
    property "cotun-trio:range"; what belongs to an extra is optional.
    """
    purl = PackageURL("pypi", None, OURS, version(), {"file_name": artefact.name})
    root = _root(artefact, ComponentType.LIBRARY, purl)
    project = read_project()
    needed = [_needed(text) for text in project["dependencies"]]
    extras = project["optional-dependencies"]
    texts = sorted({text for extra in lock.EXTRAS for text in extras[extra]})
    bom = _bom(root, [*needed, *(_needed(text, ComponentScope.OPTIONAL) for text in texts)])
    bom.register_dependency(root, needed)
    return _save(bom, artefact)


def debian_package(name: str, version: str, architecture: str, *, sha256: str) -> Component:
    """Return a package of Debian 12 as a component; `sha256` is that of its .deb.

    It has no licence: Debian's packages say that in prose only, in the file ``copyright``.
    """
    told = {"arch": architecture, "distro": "debian-12"}
    return Component(
        name=name,
        version=version,
        hashes=[_hash(sha256)],
        purl=PackageURL("deb", "debian", name, version, told),
        bom_ref=f"deb:{name}:{architecture}",
    )


def _root(artefact: Path, kind: ComponentType, purl: PackageURL) -> Component:
    """Return the artefact itself."""
    project = read_project()
    return Component(
        type=kind,
        name=OURS,
        version=project["version"],
        description=project["description"],
        supplier=OrganizationalEntity(name=project["authors"][0]["name"]),
        licenses=_licences(project["license"]),
        hashes=[_hash(reproducible.sha256(artefact))],
        properties=[Property(name="cotun-trio:file", value=artefact.name)],
        purl=purl,
        bom_ref=artefact.name,
    )


def _package(package: Carried) -> Component:
    """Return a package that an environment carries, with what its compiled parts are made of."""
    about = PathDistribution(package.folder).metadata
    reference = f"pypi:{package.name}"
    parts = {
        part.bom_ref.value: part
        for path in sorted(package.folder.glob("sboms/*.json"))
        for part in _parts(json.loads(path.read_text(encoding="utf-8")), reference)
    }
    return Component(
        name=package.name,
        version=package.version,
        description=about["Summary"],
        scope=ComponentScope.REQUIRED,
        supplier=_supplier(makers_of(about)),
        licenses=_licences(licence_of(about)),
        hashes=[_hash(package.digest)],
        purl=PackageURL("pypi", None, package.name, package.version),
        bom_ref=reference,
        components=parts.values(),
    )


def _parts(document: Mapping[str, Any], owner: str) -> Iterator[Component]:
    """Yield what a package's own bill of materials has; its references hold in that file only, and
    some have paths of the machine that built it."""
    for part in document.get("components", ()):
        purl = PackageURL.from_string(part["purl"])
        if str(dict(purl.qualifiers or {}).get("download_url", "")).startswith("file:"):
            purl = purl._replace(qualifiers={})
        licences = [found.get("expression") for found in part.get("licenses", ())]
        yield Component(
            name=part["name"],
            version=part.get("version"),
            supplier=_supplier(_names(part.get("author", ""))),
            licenses=_licences(licences[0] if licences else None),
            hashes=[
                _hash(found["content"])
                for found in part.get("hashes", ())
                if found["alg"] == HashAlgorithm.SHA_256
            ],
            purl=purl,
            bom_ref=f"{owner}/{purl.type}:{purl.name}@{purl.version}",
        )


def _needed(text: str, scope: ComponentScope = ComponentScope.REQUIRED) -> Component:
    """Return what a requirement asks for."""
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    return Component(
        name=name,
        scope=scope,
        purl=PackageURL("pypi", None, name),
        properties=[Property(name="cotun-trio:range", value=str(requirement.specifier))],
        bom_ref=f"pypi:{name}",
    )


def makers_of(about: PackageMetadata) -> str:
    """Return the names of those who made a Python package, as far as it says them."""
    for field in ("Author", "Author-email", "Maintainer", "Maintainer-email"):
        if names := _names(about[field] or ""):
            return names
    return ""


def _names(text: str) -> str:
    """Return a list of persons without their addresses."""
    return " ".join(re.sub(r"<[^<>]*>", "", text).replace('"', "").split()).replace(" ,", ",")


def _supplier(names: str) -> OrganizationalEntity | None:
    return OrganizationalEntity(name=names) if names else None


def licence_of(about: PackageMetadata) -> str | None:
    """Return the licence that a Python package says it has."""
    if said := about["License-Expression"]:
        return said
    if (said := about["License"]) and "\n" not in said:
        return said
    names = [
        name.removeprefix(TROVE)
        for name in about.get_all("Classifier") or ()
        if name.startswith(TROVE)
    ]
    return " OR ".join(LICENCES.get(name, name) for name in names) or None


def _licences(said: str | None) -> list[License]:
    """Return a licence: an identifier or an expression of them where it is one, or a name."""
    return [LicenseFactory().make_from_string(said)] if said else []


def _hash(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _bom(root: Component, components: Iterable[Component]) -> Bom:
    (digest,) = root.hashes
    tool = Component(type=ComponentType.APPLICATION, name=TOOL, version=metadata.version(TOOL))
    about = BomMetaData(
        component=root,
        supplier=root.supplier,
        timestamp=dt.datetime.fromtimestamp(reproducible.epoch(), dt.UTC),
        tools=ToolRepository(components=[tool]),
    )
    serial = uuid.uuid5(uuid.NAMESPACE_OID, f"{root.bom_ref.value} {digest.content}")
    return Bom(components=components, metadata=about, serial_number=serial)


def _save(bom: Bom, artefact: Path) -> Path:
    target = artefact.with_name(artefact.name + SUFFIX)
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", encoding="utf-8")
    return target
