"""Hooks for schemathesis: most generated addresses name stored objects, so that requests get past 404; DICOM payloads are bytes.

Loaded through SCHEMATHESIS_HOOKS; TOMOS_STORED holds the UIDs as JSON. What is replaced depends on the generated value alone, so that
a seed repeats its run.
"""
import json
import os
import zlib

import schemathesis

STORED = json.loads(os.environ["TOMOS_STORED"])
NAMES = {"study": "study", "series": "series", "instance": "instance", "studyUID": "study", "seriesUID": "series", "objectUID": "instance", "volumeinputreference": "instance"}


def stored(values):
    if not isinstance(values, dict):
        return values
    out = dict(values)
    for name in values:
        if name in NAMES and zlib.crc32(repr(values[name]).encode()) % 16:
            out[name] = STORED[NAMES[name]]
        if name == "frames" and zlib.crc32(repr(values[name]).encode()) % 2:
            out[name] = "1"
        if name == "element" and zlib.crc32(repr(values[name]).encode()) % 2:
            out[name] = "7FE00010"
    return out


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    return stored(path_parameters)


@schemathesis.hook
def map_query(context, query):
    return stored(query)


def parts(value, type):
    """Metadata and bulk data as a multipart with the boundary `b`."""
    metadata = value.get("metadata")
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    body = f"--b\r\nContent-Type: {type}\r\n\r\n{text}\r\n".encode("utf-8", "replace")
    for number, bulk in enumerate(value["bulk"] if isinstance(value.get("bulk"), list) else []):
        body += f"--b\r\nContent-Type: application/octet-stream\r\nContent-Location: p{number}\r\n\r\n".encode() + (bulk if isinstance(bulk, bytes) else str(bulk).encode("utf-8", "replace")) + b"\r\n"
    return body + b"--b--\r\n"


@schemathesis.serializer("application/dicom", "multipart/related")
def binary(context, value):
    if isinstance(value, dict):
        type = "application/dicom+xml" if isinstance(value.get("metadata"), str) else "application/dicom+json"
        return parts(value, type)
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.hook
def before_call(context, case, kwargs):
    # Multiparts get their boundary; without this they would go without a media type at all.
    if (case.media_type or "").startswith("multipart/related"):
        type = ("application/dicom+xml" if isinstance(case.body.get("metadata"), str) else "application/dicom+json") if isinstance(case.body, dict) else "application/dicom"
        case.headers["Content-Type"] = f'multipart/related; type="{type}"; boundary=b'
