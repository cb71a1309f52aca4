"""From -f to documents: a file, a directory, `-` for standard input, an https URL; YAML or JSON, several documents in one.

Each Document remembers where it and each of its fields stand, so that an error can say file and line. Mistakes that YAML hides
are refused here: duplicate keys, tabs, anchors that expand without end. What a field means is checked in `checks.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import BadInput, CommandError

MAX_BYTES = 8 * 2**20
REDIRECTS = 5
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass
class Document:
    """One object of a file. `lines`: path (`spec.replicas`) -> line, from 1."""

    object: dict[str, Any]
    source: str
    line: int
    lines: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        return str(self.object.get("kind", ""))

    @property
    def name(self) -> str:
        return str((self.object.get("metadata") or {}).get("name", ""))

    @property
    def namespace(self) -> str:
        return str((self.object.get("metadata") or {}).get("namespace") or "")

    def where(self, path: str = "") -> str:
        """`file:line` of a field, or of the nearest field above it that is written down."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return f"{self.source}:{self.lines.get(path, self.line)}"


def load(sources: Iterable[str], stdin: Any = None) -> list[Document]:
    """All documents of all sources, in order. Raises BadInput with every fault of a file that does not parse."""
    documents: list[Document] = []
    for source in sources:
        for name, text in _read(source, stdin):
            documents.extend(parse(text, name))
    if not documents:
        raise BadInput([f"nothing to apply: {', '.join(sources)} holds no object"], "kubeup init writes a first cluster.yaml")
    return documents


def parse(text: str, source: str) -> list[Document]:
    """The documents of one text. A `kind: List` is taken apart."""
    documents: list[Document] = []
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
                continue
            documents.extend(_documents(node, source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise BadInput([f"{where}: {_plain(error)}"]) from error
    except yaml.YAMLError as error:
        raise BadInput([f"{source}: not YAML: {error}"]) from error
    except RecursionError:
        raise BadInput([f"{source}: nested too deeply to be a manifest"]) from None
    return documents


def _documents(node: yaml.Node, source: str) -> Iterator[Document]:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise BadInput([f"{source}:{line}: an object must be a mapping with apiVersion, kind and metadata"])
    loader = _Constructor()
    value = loader.build(node)
    if str(value.get("kind", "")) == "List" and isinstance(value.get("items"), list):
        items = next(v for k, v in node.value if k.value == "items")
        for item in items.value:
            yield from _documents(item, source)
        return
    yield Document(value, source, line, _lines(node))


def _lines(node: yaml.Node, path: str = "") -> dict[str, int]:
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            lines[inner] = key.start_mark.line + 1
            lines.update(_lines(value, inner))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[f"{path}[{i}]"] = value.start_mark.line + 1
            lines.update(_lines(value, f"{path}[{i}]"))
    return lines


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as Kubernetes reads it, without timestamps (`2024-01-01` stays text) and without merge keys' surprises."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Constructor(yaml.constructor.SafeConstructor):
    """Builds plain values and refuses a key that stands twice."""

    def build(self, node: yaml.Node) -> dict[str, Any]:
        value: dict[str, Any] = self.construct_object(node, deep=True)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                problem = f'the key "{key.value}" stands twice in one mapping (first in line {seen[key.value]}); keep one'
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _plain(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or str(error)).replace("\n", " ")
    if "'\\t'" in problem:
        return "a tab: YAML is indented with spaces"
    return f"not YAML: {problem}" if "stands twice" not in problem and "plain text" not in problem else problem


def _read(source: str, stdin: Any) -> Iterator[tuple[str, str]]:
    """(name, text) of what one -f names."""
    if source == "-":
        yield "stdin", _decode((stdin or sys.stdin.buffer).read(MAX_BYTES + 1), "stdin")
    elif source.startswith("https://"):
        yield source, _decode(_fetch(source), source)
    elif source.startswith("http://"):
        raise BadInput(
            [f"{source}: refused, because plain http can be changed on its way"], "use https, or download and check it"
        )
    else:
        yield from _read_path(Path(source))


def _read_path(path: Path) -> Iterator[tuple[str, str]]:
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not files:
                raise BadInput([f"{path}: no {', '.join(SUFFIXES)} file in this directory"])
            for file in files:
                yield from _read_path(file)
        else:
            with path.open("rb") as file_:
                yield str(path), _decode(file_.read(MAX_BYTES + 1), str(path))
    except FileNotFoundError:
        raise BadInput([f"{path}: no such file or directory"]) from None
    except PermissionError:
        raise BadInput([f"{path}: you may not read it"]) from None


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise BadInput([f"{name}: larger than {MAX_BYTES // 2**20} MiB"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput([f"{name}: not UTF-8 text (byte {error.start})"]) from None


def _fetch(url: str) -> bytes:
    """Over https only, also where it is led to. Whom to trust and proxies come from the environment (SSL_CERT_FILE)."""
    import httpx

    try:
        with httpx.Client(timeout=30) as client:
            request = client.build_request("GET", url)
            for _ in range(REDIRECTS):
                if request.url.scheme != "https":
                    raise BadInput([f"{url}: led to {request.url}, which is not https"])
                answer = client.send(request, stream=True)
                try:
                    if answer.next_request is None:
                        return _body(answer.raise_for_status().iter_bytes())
                    request = answer.next_request
                finally:
                    answer.close()
        raise BadInput([f"{url}: led on more than {REDIRECTS} times"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandError(f"{url}: {error}", "check the address, or download the file and give its path") from error


def _body(chunks: Iterable[bytes]) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > MAX_BYTES:
            break
    return data
