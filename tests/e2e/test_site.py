"""The documentation as `make docs` builds it: strictly, without the network, with links that lead somewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from evbridge.v1.error_reason_pb2 import ErrorReason
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools import reference, site
from tools.third_party import ROOT

_LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class _Page(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.loads, self.anchors = set[str](), set[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in _LOADS and value:
                self.loads.add(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.add(value)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Page]:
    """Its pages by their paths."""
    folder = tmp_path_factory.mktemp("site")
    site.main()
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        check=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    return {
        path.relative_to(folder).as_posix(): _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")
    }


def _astray(built: dict[str, _Page]) -> Iterator[str]:
    for page, content in built.items():
        for link in content.links:
            target = urlsplit(link)
            if target.scheme or page == "404.html":
                continue
            path = os.path.normpath(Path(page).parent / unquote(target.path)) if target.path else page
            path = "index.html" if path == "." else path
            if path not in built or (target.fragment and unquote(target.fragment) not in built[path].anchors):
                yield f"{page}: {link}"


def test_every_link_of_the_site_leads_somewhere(built: dict[str, _Page]) -> None:
    assert len(built) > 150
    assert not list(_astray(built))
    built = {**built, "broken.html": _Page('<a href="tour.html#nowhere">x</a><a href="none.html">y</a>')}
    assert len(list(_astray(built))) == 2


def test_a_page_loads_nothing_from_elsewhere(built: dict[str, _Page]) -> None:
    loads = {load for page in built.values() for load in page.loads}
    assert any("search" in load or "bundle" in load for load in loads)
    assert not [load for load in loads if urlsplit(load).scheme not in ("", "data") or load.startswith("//")]


def test_the_reference_has_all_that_the_contract_has(built: dict[str, _Page]) -> None:
    anchors = {anchor for page, content in built.items() if page.startswith("reference/") for anchor in content.anchors}
    compiled: FileDescriptorSet = reference.compiled()
    wanted = set(ErrorReason.keys())
    for file in compiled.file:
        if file.name.startswith("evbridge/"):
            for service in file.service:
                wanted |= {f"{file.package}.{service.name}.{method.name}" for method in service.method}
            for message in file.message_type:
                wanted.add(f"{file.package}.{message.name}")
                wanted |= {f"{file.package}.{message.name}.{field.name}" for field in message.field}
            for enum in file.enum_type:
                wanted |= {value.name for value in enum.value}
    assert len(wanted) > 3000
    assert not wanted - anchors


def test_the_reference_tells_what_a_comment_says() -> None:
    page = reference.pages()["reference/v1/party.md"]
    assert re.search(r"CreateParty \{ #\S+ \}\n\n<p class=\"signature\">.*role <code>admin</code>", page)
    assert '<a href="error_reason.html#RESOURCE_EXISTS">' in page


def test_pictures_are_drawn_and_files_without_a_page_are_named_by_their_path() -> None:
    pages = site.pages()
    assert "![The life of a delivery](data:image/svg+xml" in pages["promises.md"]
    assert "```mermaid" not in "".join(pages.values())
    assert "[docs/tour.md](tour.md)" in pages["index.md"]
    assert "`service/app.py`" in pages["partner-in-a-file.md"]
