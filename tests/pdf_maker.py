"""PDFs with known text, made for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Placed = tuple[float, float, float, str]
"""x and y in points, type size, text."""


def make_pdf(path: Path, *pages: list[Placed]) -> Path:
    """A PDF with the given lines in Helvetica, in the given order."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        text = "".join(f"BT /F1 {size} Tf {x} {y} Td ({line}) Tj ET\n" for x, y, size, line in page)
        objects.append(f"<< /Length {len(text)} >>\nstream\n{text}endstream")
        content = len(objects)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {content} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    body, offsets = b"%PDF-1.4\n", []
    for number, content_ in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content_}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"trailer << /Root 1 0 R /Size {len(objects) + 1} >>\nstartxref\n{len(body)}\n%%EOF"
    path.write_bytes(body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode())
    return path


def block(x: float, y: float, lines: Sequence[str], size: float = 10) -> list[Placed]:
    """Lines one below the other."""
    return [(x, y - 12 * n, size, line) for n, line in enumerate(lines)]
