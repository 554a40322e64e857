"""The page: static files, which only talk to this server."""

from pathlib import Path

from fastapi import APIRouter, Response

router = APIRouter()
FOLDER = Path(__file__).parent / "static"
MEDIA = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "lib.js": "text/javascript",
    "views.js": "text/javascript",
    "form.js": "text/javascript",
    "training.js": "text/javascript",
    "style.css": "text/css",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: data:; frame-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


@router.get("/", include_in_schema=False)
async def index() -> Response:
    """The page."""
    return served("index.html")


@router.get("/page/{name}", include_in_schema=False)
async def part(name: str) -> Response:
    """Its script or style."""
    return served(name) if name in MEDIA else Response(status_code=404)


def served(name: str) -> Response:
    """A file of the page."""
    return Response((FOLDER / name).read_bytes(), media_type=f"{MEDIA[name]}; charset=utf-8", headers=HEADERS)
