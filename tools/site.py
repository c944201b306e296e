"""Lays the pages of the documentation out in .deps/pages, for MkDocs to build the site of: `python -m tools.site`.

The pages are read in the repository, too, so their links are those of the repository. On the site README.md is the
first page, files of protos/ are their pages in the reference, and what has no page is named by its path. Mermaid's
diagrams become SVG here: a reader's browser loads and runs nothing for them.
"""

import base64
import json
import posixpath
import re
import shutil
from collections.abc import Collection

import mmdr

from tools import reference
from tools.third_party import ROOT

DOCS = ROOT / "docs"
PAGES = ROOT / ".deps" / "pages"

_BESIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""What stands outside docs/ -> the page that is made of it."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_STYLE = {
    "theme": "neutral",
    "flowchart": {"rankSpacing": 25, "nodeSpacing": 30, "wrappingWidth": 220},
    "fontFamily": "Arial, Helvetica, sans-serif",
    "themeVariables": {
        "fontFamily": "Arial, Helvetica, sans-serif",
        "edgeLabelBackground": "#ffffff",
        "fontSize": "15px",
    },
}


def pages() -> dict[str, str]:
    """The Markdown of every page of the site, by its path there."""
    written = {path.relative_to(ROOT).as_posix(): path for path in [*map(ROOT.joinpath, _BESIDE), *DOCS.rglob("*.md")]}
    made = reference.pages()
    there = {page_of(source) for source in written} | made.keys()
    return made | {
        page_of(source): _moved(path.read_text(encoding="utf-8"), source, there) for source, path in written.items()
    }


def page_of(source: str) -> str:
    """The page that is made of this file or folder of the repository, if one is."""
    if source == "protos/evbridge/v1":
        return "reference/index.md"
    if source.startswith("protos/evbridge/"):
        return source.replace("protos/evbridge", "reference", 1).removesuffix(".proto") + ".md"
    return _BESIDE.get(source) or source.removeprefix("docs/")


def _moved(text: str, source: str, there: Collection[str]) -> str:
    """The text as it stands at the place of its page, with its diagrams drawn."""
    folder = posixpath.dirname(page_of(source)) or "."

    def linked(found: re.Match[str]) -> str:
        name, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found[0]
        path, sharp, heading = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if (page := page_of(file)) in there:
            return f"[{name}]({posixpath.relpath(page, folder)}{sharp}{heading})"
        return f"`{file}`" if name.strip("`") in file else f"{name} (`{file}`)"

    parts, end = [], 0
    for block in _BLOCK.finditer(text):
        parts.append(_LINK.sub(linked, text[end : block.start()]))
        parts.append(_picture(block[2]) if block[1] == "mermaid" else block[0])
        end = block.end()
    return "".join((*parts, _LINK.sub(linked, text[end:])))


def _picture(source: str) -> str:
    """An image that holds the diagram itself. Its title, which is read to the blind, is the line `accTitle: ...`."""
    svg: str = mmdr.render(f"%%{{init: {json.dumps(_STYLE)}}}%%\n{source}").svg()
    width = re.findall(r'viewBox="\S+ \S+ (\d+)', svg)[0]
    svg = svg.replace('width="100%"', f'width="{width}"', 1)
    (title,) = re.findall(r"^ *accTitle: (.*)$", source, re.MULTILINE)
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    for page, text in pages().items():
        path = PAGES / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(DOCS / "site.css", PAGES)


if __name__ == "__main__":
    main()
