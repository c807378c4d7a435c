"""The page's server: a read-only JSON API, a stream of server-sent events, and the page's files.

docs/dashboard-openapi.yaml describes every answer; a test holds it against this application.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

import orjson
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from libskylark.clock import SystemClock, Ticks
from libskylark.constellation import Constellation, read_constellation
from libskylark.dashboard.collector import Collector
from libskylark.dashboard.findings import Findings
from libskylark.dashboard.news import News, sent_gently
from libskylark.dashboard.pictures import Pictures
from libskylark.dashboard.processes import Processes
from libskylark.dashboard.view import View
from libskylark.errors import LabError
from libskylark.lab.dashboard import MOST_VIEWERS, DashboardConfig
from libskylark.lab.link_server import LabLinks
from libskylark.lab.record import node_stores
from libskylark.metrics import new_registry
from libskylark.problem import CONTENT_TYPE as PROBLEM_TYPE
from libskylark.problem import problem
from libskylark.services.queries import answer_metrics, answer_problems

#: Nothing but what this server has: no script in the page itself, no style, no frame, nothing from elsewhere.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RETRY_S: Final = 5


def create_app(environment: Mapping[str, str] | None = None) -> Flask:
    """The application, with the collector running beside it in this process from now on.

    Raises SettingError without a configuration, DocumentError for a constellation that cannot be read.
    """
    config = DashboardConfig.read(os.environ if environment is None else environment)
    constellation, clock, news = read_constellation(config.constellation), SystemClock(), News()
    stores = node_stores(constellation)
    findings = Findings(constellation, stores)
    view = View(config, constellation, findings, news, clock)
    links = LabLinks(config.links_url) if config.links_url else None
    news.start()
    Collector(constellation, Ticks(config.tick_s), stores, view, findings, clock, links).start()
    _end_streams_at_sigterm(news.close)
    return build_app(config, constellation, view, news)


def build_app(
    config: DashboardConfig, constellation: Constellation, view: View, news: News, most_viewers: int = MOST_VIEWERS
) -> Flask:
    """The application around a view and its news, which somebody else brings."""
    app = Flask("dashboard", root_path=os.path.dirname(__file__), static_folder=None)
    # Pages of elsewhere that a browser shows may give their own host name this address: they are not answered.
    app.config.update(TRUSTED_HOSTS=list(config.hosts), PROVIDE_AUTOMATIC_OPTIONS=False)
    answer_problems(app)
    _add_page(app)
    _add_queries(app, view, Processes(config.processes))
    _add_frames(app, view, Pictures(constellation))
    _add_stream(app, news, threading.BoundedSemaphore(most_viewers), most_viewers)
    return app


def _add_page(app: Flask) -> None:
    @app.after_request
    def guard(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.get("/")
    def page() -> ResponseReturnValue:
        return app.send_static_file("index.html")

    # By ourselves: the rule that Flask makes before it is configured answers OPTIONS.
    app.static_folder = "static"
    app.add_url_rule("/static/<path:filename>", "static", app.send_static_file)

    @app.get("/ready")
    def ready() -> ResponseReturnValue:
        return _json({"status": "ready"})

    answer_metrics(app, new_registry())


def _add_queries(app: Flask, view: View, processes: Processes) -> None:
    @app.get("/api/constellation")
    def constellation() -> ResponseReturnValue:
        return _json(view.snapshot())

    @app.get("/api/nodes/<name>")
    def node(name: str) -> ResponseReturnValue:
        found = view.node(name)
        if found is None:
            return _problem(404, f"the constellation has no node {name!r}")
        return _json({**found, "processes": processes.of(name)})

    @app.get("/api/chains")
    def chains() -> ResponseReturnValue:
        return _json({"chains": view.chains()})

    @app.get("/api/chains/<path:chain>")
    def chain(chain: str) -> ResponseReturnValue:
        found = view.journey(chain)
        if found is None:
            return _problem(404, f"chain {chain!r} is none of the last ones; `skylark trace` reads the whole journals")
        return _json(found)


def _add_frames(app: Flask, view: View, pictures: Pictures) -> None:
    @app.get("/api/frames/<path:chain>/image")
    def image(chain: str) -> ResponseReturnValue:
        frame = view.frame(chain)
        if frame is None:
            return _problem(404, f"chain {chain!r} has none of the last frames")
        try:
            png = pictures.png(frame)
        except LabError as error:
            return _problem(404, str(error))
        return Response(png, content_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def _add_stream(app: Flask, news: News, places: threading.BoundedSemaphore, most_viewers: int) -> None:
    @app.get("/api/events")
    def events() -> ResponseReturnValue:
        if request.method == "HEAD":  # takes no place: nobody would tell when it is given back
            return Response(content_type="text/event-stream")
        if not places.acquire(blocking=False):
            answer = _problem(503, f"{most_viewers} viewers are listening already, no more are served; try again later")
            answer.headers["Retry-After"] = str(_RETRY_S)
            return answer
        after = request.headers.get("Last-Event-ID") or request.args.get("after")
        connection = request.environ.get("gunicorn.socket")
        response = Response(sent_gently(news.feed(after), connection), content_type="text/event-stream")
        response.call_on_close(places.release)
        return response


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), content_type="application/json")


def _problem(status: int, detail: str) -> Response:
    return Response(problem(status, detail), status, content_type=PROBLEM_TYPE)


def _end_streams_at_sigterm(close: Callable[[], None]) -> None:
    """A stopping server waits for what is under way: streams, which never end by themselves, end at once then."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        close()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)
