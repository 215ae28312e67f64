"""Make the pictures of README's section on views, from the sample: a contact sheet and a table.

``python scripts/readme_pictures.py`` writes them to scripts/pictures; it needs h5fs[bench]. The
sheet is what h5fs shows, at half the size and compressed; the table are the first lines of the
``.csv``, drawn as a terminal shows them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "pictures"
SHEET, TABLE = "/acquisition/channel_488/stack.png", "/tables/cells.csv"
SHADES = 32  # more of them show noise alone
LINES, FONT_PIXELS, MARGIN = 9, 15, 14
PAPER, INK = (24, 27, 33), (214, 220, 228)


def h5fs(*words: str) -> bytes:
    """Run h5fs and return what it printed."""
    return subprocess.run([sys.executable, "-m", "h5fs", *words], check=True, stdout=-1).stdout


def draw_sheet(sample: Path) -> Image.Image:
    """Return the contact sheet of the sample's stack."""
    shown = sample.with_suffix(".png")
    h5fs("cp", f"{sample}:{SHEET}", str(shown))
    sheet = Image.open(shown).convert("RGBA").convert("L")
    sheet = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)
    return sheet.quantize(SHADES, dither=Image.Dither.NONE)


def draw_table(sample: Path) -> Image.Image:
    """Return the first lines of the sample's table of cells."""
    text = b"\n".join(h5fs("cat", f"{sample}:{TABLE}").splitlines()[:LINES]).decode()
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans Mono"), FONT_PIXELS)
    command = f"$ head -n {LINES} mnt{TABLE}\n"
    right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), command + text, font)[
        2:
    ]
    table = Image.new("RGB", (int(right) + 2 * MARGIN, int(bottom) + 2 * MARGIN), PAPER)
    ImageDraw.Draw(table).text((MARGIN, MARGIN), command + text, INK, font)
    return table.quantize(16)


def main() -> None:
    """Write both pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder, "experiment.h5")
        subprocess.run([sys.executable, str(HERE / "sample.py"), str(sample)], check=True)
        for name, draw in (("sheet", draw_sheet), ("table", draw_table)):
            path = FOLDER / f"{name}.png"
            draw(sample).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
