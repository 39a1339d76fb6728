"""What a request's body may be."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.images import MOST_IMAGES, TOGETHER

MOST_BYTES = 200_000  # the setting of the house


def test_a_body_without_a_type_is_an_image(thaw, http, pictures):
    request = http.build_request("POST", f"/v1/jobs/{thaw.jobs['classes']}/predict", content=pictures[0])
    request.headers.pop("Content-Type", None)
    assert http.send(request).status_code == 200


def chunks(content):
    """A body of which nothing says how long it is."""
    for first in range(0, len(content), 50_000):
        yield content[first : first + 50_000]


def test_a_body_that_is_too_long_is_refused_with_the_limit(predict, pictures, fails):
    big = bytes(MOST_BYTES + 1)
    fails(predict(big), 413, "too_large", "200,000 bytes")
    fails(predict(chunks(big)), 413, "too_large", "200,000 bytes")
    fails(predict(bytes(MOST_BYTES)), 422, "image_invalid")
    error = fails(predict(pictures[0], big), 413, "too_large", "1.png", "200,000 bytes")
    assert error["param"] == "images.1"
    most = [bytes(MOST_BYTES)] * TOGETHER
    fails(predict(*most), 413, "too_large", "together", "800,000 bytes")
    assert predict(pictures[0]).status_code == 200


def test_a_form_of_images_that_nothing_says_the_length_of_is_refused_at_the_limit(thaw, http, fails):
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n%s\r\n' % bytes(
        150_000
    )
    address = f"/v1/jobs/{thaw.jobs['classes']}/predict"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = http.post(address, content=chunks(part * 6 + b"--b--\r\n"), headers=headers)
    fails(response, 413, "too_large", "800,000 bytes")


def test_a_request_has_at_most_64_images(predict, pictures, fails):
    assert len(predict(*[pictures[0]] * MOST_IMAGES).json()["data"]) == 64
    assert fails(predict(*[pictures[0]] * (MOST_IMAGES + 1)), 422, "too_many", "64")["param"] == "images"


def form(*parts, end=b"--b--\r\n"):
    return b"".join(b"--b\r\n%s\r\n" % part for part in parts) + end


FILE = b'Content-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
FORM = "multipart/form-data; boundary=b"
BODIES = {
    "nothing": ("image/png", b"", 422, "missing"),
    "a form without parts": (FORM, b"--b--\r\n", 422, "missing"),
    "a form without an end": (FORM, form(FILE + b"image", end=b""), 400, "not_a_form"),
    "a form that is none": (FORM, b"hello", 400, "not_a_form"),
    "an empty form": (FORM, b"", 400, "not_a_form"),
    "a form without a boundary": ("multipart/form-data", form(FILE + b"image"), 400, "not_a_form"),
    "a field": (FORM, form(b'Content-Disposition: form-data; name="top"\r\n\r\n3'), 422, "unknown_field"),
    "a part without a name": (FORM, form(b"X: y\r\n\r\n3"), 422, "unknown_field"),
    "a long header": (FORM, form(b"X: " + b"y" * 5000 + b"\r\n\r\n3"), 400, "not_a_form"),
    "text": ("text/plain", b"hello", 415, "unsupported_media_type"),
    "JSON": ("application/json", b"{}", 415, "unsupported_media_type"),
    "a mixed body": ("multipart/mixed; boundary=b", form(FILE), 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_without_images_is_refused(thaw, http, name, fails):
    kind, body, status, code = BODIES[name]
    address = f"/v1/jobs/{thaw.jobs['classes']}/predict"
    fails(http.post(address, content=body, headers={"Content-Type": kind}), status, code)


def test_a_part_called_images_needs_no_file_name(thaw, http, pictures):
    body = form(b'Content-Disposition: form-data; name="images"\r\n\r\n' + pictures[0])
    address = f"/v1/jobs/{thaw.jobs['classes']}/predict"
    (item,) = http.post(address, content=body, headers={"Content-Type": FORM}).json()["data"]
    assert item["file"] is None


PARTS = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\r\n",
        b"\r\n\r\n",
        b"--",
        b"\n",
        FILE,
        b'Content-Disposition: form-data; name="',
        b";",
        b"filename*=utf-8''%ff; filename=\"\xff\x00\"",
        b"Content-Type: image/png\r\n",
        b"\x89PNG\r\n",
        b"\x00\xff",
    ]
)
KINDS = st.one_of(
    st.sampled_from(
        [FORM, "multipart/form-data; boundary=", 'multipart/form-data; boundary="b"', "image/png", ""]
    )
    | st.sampled_from(
        ["multipart/form-data; boundary*=utf-8''b", "application/octet-stream", "; boundary=b"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip),
)
CONTENTS = st.one_of(st.lists(PARTS, max_size=12).map(b"".join), st.binary(max_size=300))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=KINDS, content=CONTENTS, top=st.one_of(st.none(), st.text(max_size=5)))
def test_no_body_breaks_the_server(thaw, http, kind, content, top):
    params = {} if top is None else {"top": top}
    address = f"/v1/jobs/{thaw.jobs['classes']}/predict"
    response = http.post(address, content=content, headers={"Content-Type": kind}, params=params)
    assert response.status_code in (200, 400, 413, 415, 422), response.text


def test_a_client_that_hangs_up_in_its_body_leaves_no_error_behind(thaw, predict, pictures):
    class Torn(Exception):
        pass

    def torn():
        yield pictures[0][:40]
        raise Torn

    with pytest.raises(Torn):
        predict(torn())
    assert predict(pictures[0]).status_code == 200
    assert "ClientDisconnect" not in thaw.log("server")
