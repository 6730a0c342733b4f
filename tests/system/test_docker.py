"""The shipped Dockerfile and Compose file, unmodified, on a real Docker engine."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.factories import Tokens, create_item, expect, new_user
from tests.faults.conftest import loading
from tests.system.compose import (
    DRAINED_WITHIN,
    PROJECT,
    Stack,
    compose_stack,
    inspect,
    is_healthy,
    until,
)
from tests.system.docker_engine import (
    GRAFANA,
    ROOT,
    CommandFailed,
    EngineMissing,
    docker,
    engine,
    has_image,
    make_images,
)

pytestmark = pytest.mark.system

LONG_LIVED = ("postgres", "redis", "api", "worker", "nginx")
OURS = ("api", "worker", "migrate")
HEALTHY_WITHIN = 60.0  # seconds, of a busy machine
PAUSE = 0.1  # seconds between a client's requests, below the limit that is shipped


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything but the monitoring, up and healthy."""
    try:
        with engine():
            make_images()
            with compose_stack(tmp_path_factory.mktemp("shipped"), LONG_LIVED) as stack:
                yield stack
    except EngineMissing as error:
        pytest.skip(str(error))


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx."""
    async with stack.client() as client:
        yield client


async def job_of(client: httpx.AsyncClient, owner: Tokens) -> str:
    """Import an item and return the URL of the job that does it."""
    answer = await client.post(
        "/api/v1/items/import",
        content=b'{"name":"Imported","price":1}\n',
        headers=owner.headers | {"Content-Type": "application/x-ndjson"},
    )
    return f"/api/v1/jobs/{expect(answer, 202)['id']}"


async def answers(client: httpx.AsyncClient, path: str, *, status: int, within: float) -> Any:
    """Ask until a path answers with a status, and return the answer."""
    async with asyncio.timeout(within):
        while (answer := await client.get(path)).status_code != status:
            await asyncio.sleep(0.2)
    return answer


def test_everything_is_healthy_once_compose_has_waited(stack: Stack) -> None:
    for service in LONG_LIVED:
        for container in stack.containers(service):
            assert is_healthy(container), container
    assert len(stack.containers("api")) == 2
    migrate = inspect(stack.container("migrate"))
    assert (migrate["State"]["ExitCode"], migrate["RestartCount"]) == (0, 0)


def test_one_image_serves_every_role(stack: Stack) -> None:
    images = {inspect(each)["Image"] for role in OURS for each in stack.containers(role)}
    assert len(images) == 1
    config = inspect(images.pop())["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.title"] == "Kingpost"
    assert {role: inspect(stack.container(role))["Config"]["Cmd"][0] for role in OURS} == {
        "api": "gunicorn",
        "worker": "kingpost",
        "migrate": "kingpost",
    }


@pytest.mark.parametrize("service", ["api", "worker"])
def test_ours_run_as_nobody_on_a_root_that_cannot_be_written(stack: Stack, service: str) -> None:
    assert stack.execute(service, "id", "--user") == "10001"
    assert stack.execute(service, "id", "--group") == "10001"
    for place in ("/x", "/opt/kingpost/app/x", "/etc/x", "/home/x"):
        with pytest.raises(CommandFailed, match="Read-only file system"):
            stack.execute(service, "touch", place)
    stack.execute(service, "touch", "/var/lib/kingpost/written", "/tmp/written")
    status = stack.execute(service, "cat", "/proc/self/status")
    assert re.search(r"^CapEff:\s0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)


def test_what_has_not_changed_is_left_running(stack: Stack) -> None:
    before = [stack.containers(service) for service in LONG_LIVED]
    ids = [inspect(each)["Id"] for names in before for each in names]
    stack.build()
    stack.up(*LONG_LIVED)
    assert [inspect(each)["Id"] for names in before for each in names] == ids


def test_doctor_finds_no_error_inside(stack: Stack) -> None:
    report = stack.compose("run", "--rm", "--no-deps", "-T", "api", "kingpost", "doctor")
    assert "\nok       migrations" in report
    assert not re.search(r"^(error|failed)", report, re.MULTILINE)


async def test_a_client_registers_creates_and_reads_by_tls(
    stack: Stack, client: httpx.AsyncClient
) -> None:
    owner = await new_user(client)
    item = await create_item(client, owner)
    assert expect(await client.get(f"/api/v1/items/{item['id']}"), 200)["name"] == item["name"]
    async with httpx.AsyncClient() as plain:
        moved = await plain.get(f"http://localhost:{stack.http_port}/api/v1/items")
    assert moved.status_code == 308


async def test_the_address_of_a_client_is_the_one_that_nginx_saw(
    stack: Stack, client: httpx.AsyncClient
) -> None:
    owner = await new_user(client)
    sessions = expect(await client.get("/api/v1/auth/sessions", headers=owner.headers), 200)
    networks = inspect(stack.container("nginx"))["NetworkSettings"]["Networks"]
    addresses = {each["IPAddress"] for each in networks.values()}
    assert sessions["items"][0]["address"] not in addresses
    upstreams = set(re.findall(r'"upstream":"([\d.]+):8000"', stack.compose("logs", "nginx")))
    assert upstreams <= {stack.address(each) for each in stack.containers("api")}


async def test_jobs_wait_for_the_worker_and_it_runs_them(
    stack: Stack, client: httpx.AsyncClient
) -> None:
    stack.compose("stop", "worker")
    assert inspect(stack.container("worker"))["State"]["ExitCode"] == 0
    owner = await new_user(client)
    url = await job_of(client, owner)
    await asyncio.sleep(2)  # long enough for a server that ran jobs itself
    job = expect(await client.get(url, headers=owner.headers), 200)
    assert job["status"] == "queued"
    stack.up("worker")
    async with asyncio.timeout(30):
        while job["status"] in ("queued", "running"):
            await asyncio.sleep(0.2)
            job = expect(await client.get(url, headers=owner.headers), 200)
    assert (job["status"], job["result"]["accepted"]) == ("succeeded", 1)


async def test_a_request_in_flight_outlives_docker_stop(stack: Stack) -> None:
    name = stack.containers("api")[0]
    base = f"http://{stack.address(name)}:8000"
    told_to_end = asyncio.Event()
    async with httpx.AsyncClient(base_url=base, timeout=DRAINED_WITHIN) as direct:
        owner = await new_user(direct)

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"name": "Half", '
            await told_to_end.wait()
            yield b'"price": 1}'

        headers = owner.headers | {"Content-Type": "application/json"}
        async with loading(stack, "/api/v1/items", pause=PAUSE) as load:
            request = asyncio.create_task(
                direct.post("/api/v1/items", content=slowly(), headers=headers)
            )
            await asyncio.sleep(0.5)
            stop = asyncio.create_task(asyncio.to_thread(docker, "stop", name))  # its own grace
            async with httpx.AsyncClient(base_url=base) as balancer:
                draining = await answers(balancer, "/health/ready", status=503, within=5)
            assert draining.json()["status"] == "draining"
            told_to_end.set()
            expect(await request, 201)
            await stop
    state = inspect(name)["State"]
    docker("start", name)
    until(lambda: is_healthy(name), within=HEALTHY_WITHIN, what=f"{name} is healthy again")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    assert set(load.statuses) == {200}
    assert load.cut_off == 0


@pytest.mark.parametrize(("fault", "mending"), [("pause", "unpause"), ("stop", "start")])
async def test_redis_away_only_degrades(
    stack: Stack, client: httpx.AsyncClient, fault: str, mending: str
) -> None:
    owner = await new_user(client)
    async with loading(stack, "/api/v1/items", pause=PAUSE) as load:
        stack.compose(fault, "redis")
        item = await create_item(client, owner)
        expect(await client.get(f"/api/v1/items/{item['id']}"), 200)
        await asyncio.sleep(3)
        readiness = expect(await client.get("/health/ready"), 200)
        assert readiness["status"] == "degraded"
        stack.compose(mending, "redis")
        async with asyncio.timeout(30):
            while (await client.get("/health/ready")).json()["status"] != "ok":
                await asyncio.sleep(0.2)
    assert set(load.statuses) == {200}
    assert load.cut_off == 0


async def test_a_paused_instance_holds_up_few_and_the_other_serves(stack: Stack) -> None:
    name = stack.containers("api")[0]
    docker("pause", name)
    async with stack.client() as client:
        try:
            held_up = set[asyncio.Task[httpx.Response]]()
            for _ in range(40):
                request = asyncio.create_task(client.get("/api/v1/items", timeout=60))
                held_up |= (await asyncio.wait({request}, timeout=1.5))[1]
                if request.done():
                    expect(request.result(), 200)
        finally:
            docker("unpause", name)
        for request in held_up:
            expect(await request, 200)
    assert len(held_up) <= 4
    async with loading(stack, "/api/v1/items", pause=PAUSE) as load:
        await asyncio.sleep(1)
    assert set(load.statuses) == {200}


async def test_postgresql_cut_off_the_network_is_503_and_heals_by_itself(
    stack: Stack, client: httpx.AsyncClient
) -> None:
    owner = await new_user(client)
    network, name = f"{PROJECT}_inside", stack.container("postgres")
    docker("network", "disconnect", network, name)
    try:
        # What was just asked of it waits for the driver's deadline, which is a statement's.
        answer = await answers(client, "/api/v1/items", status=503, within=60)
        assert answer.json()["error_code"] == "DATABASE_UNAVAILABLE"
        assert answer.headers["retry-after"]
        expect(await client.get("/health/live"), 200)
    finally:
        docker("network", "connect", "--alias", "postgres", network, name)
    await answers(client, "/api/v1/items", status=200, within=60)
    await create_item(client, owner)


async def test_prometheus_scrapes_every_instance_and_knows_the_alertmanager(stack: Stack) -> None:
    stack.up("prometheus", "alertmanager")
    async with httpx.AsyncClient(
        base_url=f"http://{stack.address(stack.container('prometheus'))}:9090/api/v1"
    ) as client:
        async with asyncio.timeout(90):
            while True:
                answer = await client.get("/query", params={"query": "up"})
                up = [
                    (each["metric"]["job"], each["value"][1])
                    for each in answer.json()["data"]["result"]
                ]
                if len(up) == 3 and all(value == "1" for _, value in up):
                    break
                await asyncio.sleep(1)
        assert sorted(job for job, _ in up) == ["kingpost-api", "kingpost-api", "kingpost-worker"]
        groups = (await client.get("/rules")).json()["data"]["groups"]
        managers = (await client.get("/alertmanagers")).json()["data"]["activeAlertmanagers"]
    shipped = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())["groups"]
    assert {group["name"]: len(group["rules"]) for group in groups} == {
        group["name"]: len(group["rules"]) for group in shipped
    }
    assert [each["url"] for each in managers] == ["http://alertmanager:9093/api/v2/alerts"]
    stack.execute("prometheus", "wget", "-q", "-O", "-", "http://alertmanager:9093/-/ready")


async def test_grafana_shows_the_dashboards(stack: Stack) -> None:
    if not has_image(GRAFANA):
        pytest.skip(f"no registry gives {GRAFANA}, and Debian has no Grafana to make it of")
    stack.up("grafana")
    password = (stack.folder / "docker/secrets/grafana_password").read_text().strip()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.grafana_port}") as client:
        answer = await client.get("/api/search", auth=("admin", password))
    shipped = list((ROOT / "docker/grafana/dashboards").glob("*.json"))
    assert len([each for each in answer.json() if each["type"] == "dash-db"]) == len(shipped)


async def test_development_reloads_what_was_changed_in_the_checkout(stack: Stack) -> None:
    files = ("--file", "docker-compose.yml", "--file", "docker/development.yml")
    stack.compose(*files, "up", "--wait", "--no-build", "api")
    changed = stack.folder / "app/clock.py"
    changed.write_text(changed.read_text() + "\nCHANGED = True\n")
    until(
        lambda: "'app/clock.py'. Reloading" in stack.compose("logs", "api"),
        within=30,
        what="the reloader has seen the change",
    )
    url = f"http://localhost:{stack.development_port}"
    patient = httpx.AsyncHTTPTransport(retries=6)  # it listens again in a moment
    async with httpx.AsyncClient(base_url=url, transport=patient, timeout=60) as client:
        expect(await client.get("/api/v1/items"), 200)
