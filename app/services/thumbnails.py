"""Small pictures of images: upright, without what the camera noted, from what is no bomb."""

import io
from typing import IO

SIDE = 320  # pixels at most, in width and in height
MAX_PIXELS = 50_000_000  # what the largest cameras take; a bomb has billions
MAX_DECODED_PIXELS = 16_000_000  # 64 MB; a JPEG is decoded small, so that large ones are fine
SOURCES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
MEDIA_TYPE = "image/webp"
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_QUALITY = 80


class NotAPicture(Exception):
    """The content cannot be made smaller; a sentence says why."""


def make(source: IO[bytes]) -> bytes:
    """Return the thumbnail of an image: of its first frame, if it has many. Takes its time.

    Raises:
        NotAPicture: it is damaged, of another format, or has too many pixels.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(source, formats=_FORMATS) as image:
            _require_at_most(MAX_PIXELS, *image.size)  # from its head: nothing is decoded yet
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            _require_at_most(MAX_DECODED_PIXELS, *image.size)
            image.thumbnail((SIDE, SIDE))
            upright = ImageOps.exif_transpose(image)
            plain = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        # A new picture: what the old one carries beside its pixels stays behind.
        clean = Image.new(plain.mode, plain.size)
        clean.paste(plain)
        result = io.BytesIO()
        clean.save(result, "WEBP", quality=_QUALITY)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise NotAPicture("It is damaged, or no image") from error
    return result.getvalue()


def _require_at_most(pixels: int, width: int, height: int) -> None:
    if width * height > pixels:
        raise NotAPicture(f"{width} × {height} are too many pixels")
