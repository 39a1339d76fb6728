"""Does a server answer where the settings say?"""

import http.client
import json
from contextlib import closing

from app.doctor.findings import Finding, error, warning, well
from app.settings import Settings

ABOUT = "server"
SECONDS = 5.0
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # addresses that mean all of this machine's


def look(settings: Settings) -> Finding:
    """Asks it whether it is ready."""
    host = ANY.get(settings.host, settings.host)
    address = f"http://{settings.host}:{settings.port}"
    try:
        with closing(http.client.HTTPConnection(host, settings.port, timeout=SECONDS)) as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as problem:
        return warning(ABOUT, f"no server answers at {address}: {problem}", "`thaw up` starts one")
    if status == http.client.OK:
        return well(ABOUT, f"{address} is ready")
    return error(ABOUT, f"{address} is not ready: {_message(body)}", "mend what it says, and see its log")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "what answers there is no Thaw server"
