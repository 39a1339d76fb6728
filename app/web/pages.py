"""The pages: one document for all, whose modules ask the API for what they show."""

from functools import cache
from string import Template

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.conditional import matches
from app.errors import NotFound
from app.web.assets import PLOTLY, Asset, our_files, our_version, plotly, plotly_version

router = APIRouter(include_in_schema=False)

PAGES = (
    "/",
    "/new",
    "/jobs/{job}",
    "/jobs/{job}/report",
    "/jobs/{job}/try",
    "/datasets",
    "/datasets/{name:path}",
    "/experiments",
    "/experiments/{experiment}",
)
DOCUMENT = "index.html"
FOR_GOOD = "public, max-age=31536000, immutable"
# Pictures that need a key are fetched and shown as blobs; a photograph to try is shown before it is sent.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Plotly sets styles; scripts stay those of the server
        "img-src 'self' blob: data:",
        *(f"{kind} 'none'" for kind in ("object-src", "base-uri", "form-action", "frame-ancestors")),
    ]
)


@cache
def _document() -> str:
    values = {"assets": f"/assets/{our_version()}", "plotly": f"/assets/plotly/{plotly_version()}/{PLOTLY}"}
    return Template(our_files()[DOCUMENT].content.decode()).substitute(values)


async def page(request: Request) -> Response:
    """The document. It holds nothing of anybody: what it shows, the API gives to whoever may see it."""
    etag = f'"{our_version()}-{plotly_version()}"'
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": etag}
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(_document(), media_type="text/html", headers=headers)


for path in PAGES:
    router.add_api_route(path, page, methods=["GET", "HEAD"], response_class=Response)


@router.get("/assets/plotly/{version}/" + PLOTLY)
async def charts(version: str, request: Request) -> Response:
    """Plotly's bundle; whoever asks under an older version gets today's, and does not keep it."""
    return _sent(request, await run_in_threadpool(plotly), kept=version == plotly_version())


@router.get("/assets/{version}/{name}")
async def asset(version: str, name: str, request: Request) -> Response:
    """One of our files.

    Raises:
        NotFound: there is none of that name.
    """
    found = our_files().get(name)
    if found is None or name == DOCUMENT:
        raise NotFound(f"there is no file {name[:100]!r} of the page")
    return _sent(request, found, kept=version == our_version())


def _sent(request: Request, found: Asset, *, kept: bool) -> Response:
    etag = f'"{found.digest}"'
    headers = {"ETag": etag, "Vary": "Accept-Encoding", "Cache-Control": FOR_GOOD if kept else "no-cache"}
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
