"""The reference of the site, made from the contract: a page for each file of protos/, with all that it says.

`pages()` gives Markdown with HTML in it. The links in its HTML are those of the built site: page.html#full.name.
"""

import html
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodOptions

from tools.generate import compile_contract

_FILE_PACKAGE, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 2, 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_SERVICE_METHOD = _ENUM_VALUE = 2
"""Numbers of fields in descriptor.proto: the path of a comment is made of them."""

_REASONS = "evbridge/v1/error_reason.proto"
_INDEXES = {
    "evbridge/v1": "evbridge's own services",
    "evbridge/partner": "The partners' own APIs",
    "evbridge/options": "Options of the contract",
}


@dataclass(frozen=True)
class _File:
    proto: FileDescriptorProto
    comments: Mapping[tuple[int, ...], str]

    @property
    def page(self) -> str:
        return f"reference/{self.proto.name.removeprefix('evbridge/').removesuffix('.proto')}"

    @property
    def title(self) -> str:
        return posixpath.basename(self.proto.name)

    def comment(self, *path: int) -> str:
        return self.comments.get(path, "")


@dataclass
class _Reference:
    files: list[_File]
    where: dict[str, str] = field(default_factory=dict)
    """Full name of a message, an enum or a reason -> page#anchor."""

    def __post_init__(self) -> None:
        for file in self.files:
            for name, *_ in _messages(file):
                self.where[name] = f"{file.page}.html#{name}"
            for name, *_ in _enums(file):
                self.where[name] = f"{file.page}.html#{name}"
            if file.proto.name == _REASONS:
                (enum,) = file.proto.enum_type
                self.where |= {value.name: f"{file.page}.html#{value.name}" for value in enum.value}
        reasons = sorted((name for name in self.where if name.isupper()), reverse=True)
        self._reason = re.compile(rf"\b({'|'.join(reasons)})\b")

    def link(self, file: _File, name: str, text: str) -> str:
        target = self.where.get(name)
        if target is None:
            return html.escape(text)
        return f'<a href="{posixpath.relpath(target, posixpath.dirname(file.page))}">{html.escape(text)}</a>'

    def prose(self, file: _File, comment: str) -> str:
        """The comment as HTML: paragraphs, lists, and examples where it is indented."""
        parts: list[str] = []
        for block in re.split(r"\n\s*\n", comment.rstrip()):
            if all(line.startswith("     ") for line in block.splitlines()):
                parts.append(f"<pre><code>{html.escape(_dedented(block))}</code></pre>")
            elif block.lstrip().startswith("- "):
                items = re.split(r"^ *- ", block, flags=re.MULTILINE)[1:]
                parts.append("<ul>" + "".join(f"<li>{self._inline(file, item)}</li>" for item in items) + "</ul>")
            elif block.strip():
                parts.append(f"<p>{self._inline(file, block)}</p>")
        return "".join(parts)

    def _inline(self, file: _File, text: str) -> str:
        text = html.escape(" ".join(text.split()), quote=False)
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
        if file.proto.name == _REASONS:
            return text
        return self._reason.sub(lambda found: self.link(file, found[1], found[1]), text)


def pages() -> dict[str, str]:
    """The Markdown of each page by its path: `reference/v1/location.md`."""
    reference = _Reference([_file(proto) for proto in compiled().file if proto.name.startswith("evbridge/")])
    made = {f"{file.page}.md": "\n".join(_page(reference, file)) for file in reference.files}
    return {"reference/index.md": "\n".join(_index(reference.files)), **made}


def compiled() -> FileDescriptorSet:
    with TemporaryDirectory() as folder:
        path = Path(folder, "contract.binpb")
        compile_contract("--include_source_info", f"--descriptor_set_out={path}")
        return FileDescriptorSet.FromString(path.read_bytes())


def _file(proto: FileDescriptorProto) -> _File:
    comments = {tuple(each.path): each.leading_comments for each in proto.source_code_info.location}
    return _File(proto, comments)


def _messages(file: _File) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Full name, descriptor and path of each message, a nested one behind the one that holds it."""

    def within(prefix: str, messages: Iterable[Any], number: int, path: tuple[int, ...]) -> Iterator[Any]:
        for at, message in enumerate(messages):
            if not message.options.map_entry:
                name = f"{prefix}.{message.name}"
                yield name, message, (*path, number, at)
                yield from within(name, message.nested_type, _MESSAGE_NESTED, (*path, number, at))

    return within(file.proto.package, file.proto.message_type, _FILE_MESSAGE, ())


def _enums(file: _File) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    for at, enum in enumerate(file.proto.enum_type):
        yield f"{file.proto.package}.{enum.name}", enum, (_FILE_ENUM, at)
    for name, message, path in _messages(file):
        for at, enum in enumerate(message.enum_type):
            yield f"{name}.{enum.name}", enum, (*path, _MESSAGE_ENUM, at)


def _page(reference: _Reference, file: _File) -> Iterator[str]:
    package = file.proto.package
    yield f"# {file.title}\n"
    yield f"<p>Package <code>{package}</code>.</p>\n"
    if about := file.comment(_FILE_PACKAGE):
        yield reference.prose(file, about) + "\n"
    for at, service in enumerate(file.proto.service):
        yield f"## {service.name} {{ #{package}.{service.name} }}\n"
        yield reference.prose(file, file.comment(_FILE_SERVICE, at)) + "\n"
        for number, method in enumerate(service.method):
            yield f"### {method.name} {{ #{package}.{service.name}.{method.name} }}\n"
            yield (
                _signature(reference, file, method)
                + reference.prose(file, file.comment(_FILE_SERVICE, at, _SERVICE_METHOD, number))
                + "\n"
            )
    for name, message, path in _messages(file):
        yield f"## {name.removeprefix(f'{package}.')} {{ #{name} }}\n"
        yield reference.prose(file, file.comment(*path)) + "\n"
        yield _listed(_field(reference, file, name, message, at, path) for at in range(len(message.field))) + "\n"
    for name, enum, path in _enums(file):
        yield f"## {name.removeprefix(f'{package}.')} {{ #{name} }}\n"
        yield reference.prose(file, file.comment(*path)) + "\n"
        rows = enumerate(enum.value)
        yield _listed(
            f'<dt id="{value.name}"><code>{value.name}</code> <small>{value.number}</small></dt>'
            f"<dd>{reference.prose(file, file.comment(*path, _ENUM_VALUE, at))}</dd>"
            for at, value in rows
        )


def _listed(rows: Iterable[str]) -> str:
    text = "".join(rows)
    return f"<dl>{text}</dl>" if text else "<p>It has no fields.</p>"


def _signature(reference: _Reference, file: _File, method: Any) -> str:
    taken, given = (_type_link(reference, file, name) for name in (method.input_type, method.output_type))
    taken = f"stream of {taken}" if method.client_streaming else taken
    given = f"stream of {given}" if method.server_streaming else given
    facts = [f"{taken} → {given}"]
    if role := method.options.Extensions[options.role]:
        facts.append(f"role <code>{options.Role.Name(role).removeprefix('ROLE_').lower()}</code>")
    rule = method.options.Extensions[annotations_pb2.http]
    if verb := rule.WhichOneof("pattern"):
        facts.append(f"<code>{verb.upper()} {html.escape(getattr(rule, verb))}</code>")
    if method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
        facts.append("only reads")
    elif method.options.idempotency_level == MethodOptions.IDEMPOTENT:
        facts.append("may be repeated")
    return f'<p class="signature">{" · ".join(facts)}</p>'


def _field(reference: _Reference, file: _File, name: str, message: Any, at: int, path: tuple[int, ...]) -> str:
    here = message.field[at]
    facts = [_type(reference, file, message, here)]
    if here.HasField("oneof_index") and not here.proto3_optional:
        facts.append(f"one of <code>{message.oneof_decl[here.oneof_index].name}</code>")
    behaviours = here.options.Extensions[field_behavior_pb2.field_behavior]
    facts += [field_behavior_pb2.FieldBehavior.Name(each).replace("_", " ").lower() for each in behaviours]
    facts += [word for word, option in _MARKS if here.options.Extensions[option]]
    if here.options.deprecated:
        facts.append("deprecated")
    about = reference.prose(file, file.comment(*path, _MESSAGE_FIELD, at))
    return (
        f'<dt id="{name}.{here.name}"><code>{here.name}</code> <small>{" · ".join(facts)} · {here.number}</small></dt>'
        f"<dd>{about}</dd>"
    )


_MARKS = (("secret", options.secret), ("personal data", options.personal_data))


def _type(reference: _Reference, file: _File, message: Any, here: FieldDescriptorProto) -> str:
    entries = {f".{file.proto.package}.{message.name}.{each.name}": each for each in message.nested_type}
    entry = entries.get(here.type_name)
    if entry is not None and entry.options.map_entry:
        key, value = (_type(reference, file, entry, each) for each in entry.field)
        return f"map of {key} to {value}"
    name = here.type_name and _type_link(reference, file, here.type_name)
    name = name or FieldDescriptorProto.Type.Name(here.type).removeprefix("TYPE_").lower()
    repeated = here.label == FieldDescriptorProto.LABEL_REPEATED
    return f"list of {name}" if repeated else f"optional {name}" if here.proto3_optional else name


def _type_link(reference: _Reference, file: _File, type_name: str) -> str:
    name = type_name.removeprefix(".")
    ours = name in reference.where
    return reference.link(file, name, name.removeprefix(f"{file.proto.package}.") if ours else name)


def _index(files: list[_File]) -> Iterator[str]:
    yield "# Reference\n"
    yield (
        "Every rpc, message, field, enum and reason of the contract, made from `protos/`. A server tells the same by "
        "reflection. [Errors](../errors.md) says what to do about each reason.\n"
    )
    for folder, title in _INDEXES.items():
        yield f"## {title}\n"
        yield "| file | services | messages |\n|---|---|---|"
        for file in files:
            if file.proto.name.startswith(f"{folder}/"):
                link = f"[{file.proto.name.removeprefix('evbridge/')}]({file.page.removeprefix('reference/')}.md)"
                services = ", ".join(service.name for service in file.proto.service)
                yield f"| {link} | {services} | {len(file.proto.message_type)} |"
        yield ""


def _dedented(block: str) -> str:
    return "\n".join(line[5:] for line in block.splitlines())
