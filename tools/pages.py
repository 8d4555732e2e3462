"""For MkDocs: pages that are not in `docs`, notebooks as pages, and links that lead out of `docs`.

A link to a file of the repository leads to its page, if it has one, and else to a copy of the file. What is not there is a warning,
which `mkdocs build --strict` refuses.
"""

from __future__ import annotations

import base64
import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # files of the repository that are pages too
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "pipelines/samples/README.md": "samples.md",
    "benchmarks/README.md": "benchmarks.md",
}
NOTEBOOKS = "examples/notebooks"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.pages")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in `docs`."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for notebook in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        text, pictures = rendered(json.loads(notebook.read_text(encoding="utf-8")), notebook.stem)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead out of `docs` lead to a page or a copy of the file."""
    made, name = {page: source for source, page in PAGES.items()}, page.file.src_uri
    is_notebook = name.startswith("notebooks/")
    origin = f"{NOTEBOOKS}/{posixpath.basename(name)}" if is_notebook else made.get(name, f"docs/{name}")

    def led(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:|/", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        goal = PAGES.get(path)
        if goal is None and path.startswith("docs/"):
            goal = path.removeprefix("docs/")
        elif goal is None and path.startswith(NOTEBOOKS):
            goal = f"notebooks/{posixpath.basename(path).removesuffix('.ipynb')}.md"
        goal = goal or _copied(path, config, files)
        if goal is None:
            log.warning("%s: the link %s leads to no file of the repository", origin, target)
            return found[0]
        return f"{label}({posixpath.relpath(goal, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```$|^    .*?$)", markdown, flags=re.DOTALL | re.MULTILINE)  # not in code
    return "".join(part if i % 2 else LINK.sub(led, part) for i, part in enumerate(parts))


def _copied(path: str, config: MkDocsConfig, files: Files) -> str | None:
    """Return where a copy of a file of the repository is in the site, or None if there is no such file."""
    if not (ROOT / path).is_file():
        return None
    goal = f"files/{path}"
    if files.get_file_from_path(goal) is None:
        files.append(File.generated(config, goal, abs_src_path=str(ROOT / path)))
    return goal


def rendered(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name; nothing is executed."""
    parts, pictures = [f"*This page is the notebook [{name}.ipynb]({name}.ipynb).*"], {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
                continue
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}_{len(pictures)}.png"
                pictures[picture] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![figure {len(pictures)}]({picture})")
            elif "text/plain" in data:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    title = next((part for part in parts[1:] if part.startswith("# ")), f"# {name}")
    rest = [part for part in parts if part is not title]
    return "\n\n".join([title, *rest]) + "\n", pictures
