"""The table of contents: builds the app from its parts, in the order in which a request meets them.

`create_app(settings)` is what tests and the command line use; `app.main:app` is made from the
environment when a server asks for it, so that importing this module does nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.dependencies.limits import rate_limit
from app.middleware.access_log import AccessLog
from app.middleware.head import HeadMiddleware
from app.middleware.limits import InputLimits
from app.middleware.problems import ErrorBoundary, install_exception_handlers
from app.middleware.request_context import RequestContext
from app.middleware.security_headers import SecurityHeaders
from app.middleware.versions import VersionNegotiation
from app.observability.logging import configure_logging
from app.resources import open_resources
from app.routers import auth, console, docs, events, health, items, users, ws
from app.routers.dispatch import install_prefix_dispatch
from app.routers.versioning import add_routes
from app.schemas import auth as auth_schemas
from app.schemas import items as item_schemas
from app.schemas.versions import CamelCase
from app.settings import Settings
from app.version import VERSION
