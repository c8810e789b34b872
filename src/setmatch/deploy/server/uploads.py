"""Take the image file out of a request: its whole body, or the one file of a form."""

from typing import TYPE_CHECKING

from setmatch.deploy.server.limits import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

_FIELDS = 8  # of a form, before it is refused unread
_FIELD_BYTES = 4096
_ADVICE = "send one file, as in curl -F image=@photo.jpg, and options in the address"


async def image_file(request: "Request") -> bytes:
    """Return the bytes of the image file in a request.

    Whatever its type says, a body that is not a form is the file itself. Raises Refusal for a form
    that is malformed, or has anything but one file; HTTPException for some that are malformed.
    """
    content: bytes = await request.body()
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        return content
    from python_multipart.exceptions import FormParserError

    try:
        return await _only_file(request)
    except FormParserError:  # newer versions of starlette raise HTTPException instead
        raise Refusal(400, "invalid multipart data") from None


async def _only_file(request: "Request") -> bytes:
    limits = {"max_files": 1, "max_fields": _FIELDS, "max_part_size": _FIELD_BYTES}
    async with request.form(**limits) as form:
        fields = [name for name, value in form.multi_items() if isinstance(value, str)]
        files = [value for _, value in form.multi_items() if not isinstance(value, str)]
        if fields:
            name = fields[0][:60]
            raise Refusal(422, f"the form has {name!r}, which is not a file: {_ADVICE}")
        if not files:
            raise Refusal(422, f"the form has no image: {_ADVICE}")
        return await files[0].read()
