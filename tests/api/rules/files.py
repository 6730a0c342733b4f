"""Who may do what with files: they follow their item."""

from tests.api.rules import EVERYONE, OWN_PRIVATE, PRIVATE, Form, Rules

UPLOAD = "POST /items/{item_id}/files"

rules = Rules(
    operations={
        UPLOAD: OWN_PRIVATE,
        "GET /items/{item_id}/files": PRIVATE,
        "POST /items/{item_id}/files/presign": OWN_PRIVATE,
        "POST /items/{item_id}/files/confirm": OWN_PRIVATE,
        "GET /files/{file_id}": PRIVATE,
        "GET /files/{file_id}/thumbnail": PRIVATE,
        "DELETE /files/{file_id}": OWN_PRIVATE,
        "POST /files/{file_id}/url": OWN_PRIVATE,
        # Its signed address is the right: without one it is 422 for everybody.
        "PUT /files/{file_id}/content": EVERYONE,
    },
    bodies={
        UPLOAD: Form({"file": ("a.txt", b"a")}),
        "POST /items/{item_id}/files/presign": {
            "name": "a.txt",
            "content_type": "text/plain",
            "size": 1,
            "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        },
        "POST /items/{item_id}/files/confirm": {"id": 1},
        "POST /files/{file_id}/url": {},
    },
    made_by={"file_id": UPLOAD},
    # Its picture is made in the background: held by tests/api/test_files_thumbnails.py.
    uncalled=frozenset({"GET /files/{file_id}/thumbnail"}),
)
