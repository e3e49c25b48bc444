"""What becomes of a server that fails in the middle, and of logs that do not end. No cluster is needed."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import Allocation, JobHandle, LogChunk, ResourceGroup, RmContext
from twister2_rm_k8s import cluster, logs, names, rbac
from twister2_rm_k8s.api import Api, RefusedError
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.ending import Ending
from twister2_rm_k8s.kubeconfig import Access, Server
from twister2_rm_k8s.manager import KubernetesManager
from twister2_testkit.processes import wait_until

HANDLE = JobHandle("k8s", "job-1", "uid", {"namespace": "demo"})
PODS = "/api/v1/namespaces/demo/pods"


@pytest.fixture
def answering():
    """Gives an API client of a server that gives every connection these bytes, and closes it."""
    listening = []

    def start(data):
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def serve():
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(1 << 16)
                    sock.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        return Api(Access(Server(url=f"http://127.0.0.1:{server.getsockname()[1]}"), {}), 10.0)

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"items": [', "does not answer"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n<html>log in</html>  ", "no API server of Kubernetes"),
    ],
)
def test_an_answer_that_breaks_off_or_is_none_is_an_error_in_words(answering, data, words):
    api = answering(data)
    with pytest.raises(ResourceError, match=words) as caught:
        api.items("/api/v1/namespaces/demo/pods")
    assert caught.value.remedy
    api.close()


class Streams:
    """An API whose pods' logs are these: a text, an error, or None for a stream that falls silent after a line."""

    def __init__(self, **texts):
        self.texts, self.let_go = texts, threading.Event()

    def another(self):
        return self

    def stream(self, path, query, *, timeout_s=None):
        text = self.texts[path.split("/")[-2]]
        if isinstance(text, Exception):
            raise text
        yield (text or "begins\n").encode()
        if text is None:
            self.let_go.wait(60)


def followed(api, *pods):
    return [
        *logs.Follower(api, "demo").follow(
            lambda: ([(logs.Source(name), slot) for slot, name in enumerate(pods)], True)
        )
    ]


@pytest.mark.timeout(30)
def test_the_log_of_a_pod_whose_node_has_died_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(logs, "LAST_S", 0.5)
    api = Streams(dead=None, alive="all of it\n")
    found = {chunk.slot: chunk.text for chunk in followed(api, "dead", "alive")}
    api.let_go.set()
    assert found == {0: "begins\n", 1: "all of it\n"}


@pytest.mark.timeout(30)
def test_logs_that_may_not_be_read_say_so():
    (chunk,) = followed(Streams(secret=RefusedError(403, "Forbidden", "pods is forbidden")), "secret")
    assert chunk == LogChunk(0, "manager", "the log of pod secret cannot be read: pods is forbidden (Forbidden)\n")


@pytest.mark.timeout(30)
def test_a_log_that_breaks_off_is_read_on():
    """The API server is away for a moment between two looks."""
    lines = [f"line {n}\n" for n in range(6)]
    breaks = [2, 0, 4]

    class Breaking(Streams):
        def stream(self, path, query, *, timeout_s=None):
            text, at = "".join(lines).encode(), breaks.pop(0) if breaks else len(lines)
            for start in range(0, at * 7, 5):  # in other pieces than lines
                yield text[start : min(start + 5, at * 7)]
            if at < len(lines):
                raise ResourceError("the API server does not answer", why="gone", remedy="wait")

    assert "".join(chunk.text for chunk in followed(Breaking(), "pod")) == "".join(lines)


def manager(api):
    made = KubernetesManager(KubernetesConfig(image="x", namespace="demo"), RmContext("/nonexistent", 5.0))
    api.access = Access(Server(url="http://127.0.0.1:1", namespace="demo"), {})
    made._cluster._api = api
    return made


def pod(name, made):
    return {
        "metadata": {"name": name, "labels": {}, "creationTimestamp": made},
        "status": {"containerStatuses": [{"state": {"running": {}}}]},
    }


def test_a_dead_node_does_not_keep_the_other_pods_logs_away():
    api = Streams(dead=RefusedError(500, "InternalError", "dial tcp: no route to host"), alive="said\n")
    api.items = lambda path, **query: [pod("dead", "1"), pod("alive", "2")] if path.endswith("pods") else []
    api.close = lambda: None
    texts = [chunk.text for chunk in manager(api).logs(HANDLE)]
    assert texts == ["the log of pod dead cannot be read: dial tcp: no route to host (InternalError)\n", "said\n"]


class Store:
    """Config maps by their paths, and what was deleted."""

    def __init__(self):
        self.objects, self.deleted = {}, []

    def create(self, path, body):
        name = f"{path}/{body['metadata']['name']}"
        if name in self.objects:
            raise RefusedError(409, "AlreadyExists", f"{name} already exists")
        self.objects[name] = {**body, "metadata": {**body["metadata"], "uid": name}}
        return self.objects[name]

    def get(self, path, **query):
        return self.objects.get(path)

    def items(self, path, **query):
        return [body for name, body in self.objects.items() if name.rpartition("/")[0] == path]

    def patch(self, path, body):
        self.deleted.append(path)

    def delete(self, path, **query):
        self.deleted.append(path)
        for name in [name for name in self.objects if name.startswith(path)]:
            del self.objects[name]

    def close(self):
        pass


class Pods(Store):
    """A running Job of ``n`` pods, which end when they are looked at again ``looks`` times."""

    def __init__(self, n, looks=0, refused=None):
        super().__init__()
        self.looks, self.refused, self.given = looks, refused, {}
        self.objects["/apis/batch/v1/namespaces/demo/jobs/t2-1"] = {"metadata": {"name": "t2-1"}}
        for number in range(n):
            self.objects[f"{PODS}/p{number}"] = {
                "metadata": {"name": f"p{number}", "uid": f"{number}", "labels": {names.OWNER: "t2-1"}},
                "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]},
            }

    def items(self, path, **query):
        if path == PODS and self.given:
            self.looks -= 1
            for name in [name for name in self.given if self.looks < 0]:
                self.objects.pop(name, None)
        return super().items(path, **query)

    def delete(self, path, *, grace_s=None, **query):
        self.deleted.append(path)
        if not path.startswith(PODS):
            del self.objects[path]
            return
        if path == PODS:
            assert query["labelSelector"].endswith(f",{names.OWNER}=t2-1")
            if self.refused:
                raise self.refused
        for name in [name for name in self.objects if name.startswith(path)]:
            self.given[name] = grace_s
            self.objects[name]["metadata"]["deletionGracePeriodSeconds"] = grace_s


@pytest.mark.timeout(60)
def test_a_kill_tells_all_pods_by_one_request():
    store = Pods(300, looks=3)
    manager(store).kill(HANDLE, 0.5)
    assert not [name for name in store.objects if name.startswith(PODS)]
    assert [name for name in store.deleted if name.startswith(PODS)] == [PODS]
    assert set(store.given.values()) == {1}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("slots", "requests"), [(range(4), [PODS]), ((1, 3), [f"{PODS}/p1", f"{PODS}/p3"])])
def test_slots_that_are_all_of_a_job_are_told_by_one_request(slots, requests):
    store = Pods(4, looks=3)
    ((_, job),) = ((name, body) for name, body in store.objects.items() if "/jobs/" in name)
    job["metadata"] |= {"labels": {names.ROLE: names.WORKER}, "annotations": {names.SLOTS: "0-3"}}
    for number in range(4):
        metadata = store.objects[f"{PODS}/p{number}"]["metadata"]
        metadata["labels"] |= {names.ROLE: names.WORKER, names.INDEX: str(number)}
        metadata["annotations"] = {names.INDEX: str(number)}
    manager(store).stop_attempt(HANDLE, slots, 0.5)
    assert store.deleted == requests
    assert {name for name in store.objects if name.startswith(PODS)} == {
        f"{PODS}/p{number}" for number in range(4) if number not in slots
    }


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "refused",
    [RefusedError(403, "Forbidden", "may not"), ResourceError("no answer", why="", remedy="")],
    ids=["not allowed", "too late"],
)
def test_pods_that_cannot_be_told_together_are_told_one_by_one(refused):
    store = Pods(3, looks=2, refused=refused)
    manager(store).kill(HANDLE, 2.0)
    told = [name for name in store.deleted if name.startswith(PODS)]
    assert sorted(told) == [PODS, *(f"{PODS}/p{number}" for number in range(3))]


@pytest.mark.timeout(60)
def test_pods_that_have_longer_are_told_again():
    """Their Job's end has given them the time that their template says."""
    store = Pods(2, looks=2)
    store.objects[f"{PODS}/p0"]["metadata"]["deletionGracePeriodSeconds"] = 10
    store.objects[f"{PODS}/p1"]["metadata"]["deletionGracePeriodSeconds"] = store.given[f"{PODS}/p1"] = 1
    Ending(manager(store)._cluster, timeout_s=30.0).end_pods(HANDLE, 0.0, lambda _: True)
    assert store.deleted == [f"{PODS}/p0"]


@pytest.mark.timeout(60)
def test_the_time_that_requests_take_is_not_that_of_pods(monkeypatch):
    store = Pods(2, looks=1)
    delete = store.delete

    def slowly(path, **query):
        time.sleep(0.6)
        delete(path, **query)

    monkeypatch.setattr(store, "delete", slowly)
    Ending(manager(store)._cluster, timeout_s=0.0).end_pods(HANDLE, 0.0, lambda _: True)
    assert len(store.deleted) == 2


@pytest.mark.timeout(60)
def test_pods_that_are_gone_when_the_time_is_over_have_ended(monkeypatch):
    """The last look may be late."""
    store = Pods(1)
    items = store.items

    def slowly(path, **query):
        if store.given:
            time.sleep(1.2)
        return items(path, **query)

    monkeypatch.setattr(store, "items", slowly)
    Ending(manager(store)._cluster, timeout_s=0.0).end_pods(HANDLE, 0.0, lambda _: True, quiet=2)
    assert store.deleted == [f"{PODS}/p0"]


@pytest.mark.timeout(60)
def test_publishing_does_not_wait_for_hundreds_of_pods_but_all_are_told(monkeypatch):
    store, told = Pods(300), {}

    def patch(path, body):
        if path.startswith(PODS):
            time.sleep(0.01)
            told.setdefault(path, []).append(body["metadata"]["annotations"][names.TOLD])
        return {"metadata": {"resourceVersion": "7"}}

    monkeypatch.setattr(store, "patch", patch)
    made = manager(store)
    monkeypatch.setattr(store, "another", lambda: store, raising=False)
    made.publish(HANDLE, b"new")
    assert len([marks for marks in list(told.values()) if marks[0] == "7.0"]) < 300
    wait_until(lambda: len(told) == 300, 50.0, lambda: f"{len(told)} are told")
    made.close()


def test_the_same_job_twice_is_refused_and_the_first_goes_on():
    store = Store()
    groups = (ResourceGroup("worker", 2),)
    job = Allocation("job-1", "x", groups, ("python3",), (), {}, b"t", b"", "/nonexistent")
    first = manager(store)
    first.submit(job)
    before = dict(store.objects)
    with pytest.raises(SubmissionRefusedError, match="already exists"):
        manager(store).submit(job)
    assert store.objects == before
    assert not store.deleted


def test_a_request_that_is_sent_again_because_its_answer_was_lost_finds_its_own_object(monkeypatch):
    """Each request reaches the server twice, as on a connection that breaks after the first time."""
    store = Store()
    create = store.create

    def twice(path, body):
        create(path, body)
        return create(path, body)

    monkeypatch.setattr(store, "create", twice)
    groups = (ResourceGroup("worker", 2),)
    job = Allocation("job-1", "x", groups, ("python3",), (), {}, b"t", b"", "/nonexistent")
    made = manager(store)
    handle = made.submit(job)
    jobs = {name for name in store.objects if "/jobs/" in name}
    assert len(jobs) == 1
    made.start_attempt(handle, 2, [1])
    assert len({name for name in store.objects if "/jobs/" in name} - jobs) == 1, "workers were started twice"
    with pytest.raises(SubmissionRefusedError, match="already exists"):
        manager(store).submit(job)
    assert not store.deleted


def test_a_submission_that_is_refused_half_way_leaves_nothing(monkeypatch):
    store = Store()
    create = store.create

    def no_jobs(path, body):
        if path.endswith("/jobs"):
            raise RefusedError(403, "Forbidden", "jobs.batch is forbidden: User cannot")
        return create(path, body)

    monkeypatch.setattr(store, "create", no_jobs)
    groups = (ResourceGroup("worker", 2),)
    job = Allocation("job-1", "x", groups, ("python3",), (), {}, b"t", b"", "/nonexistent")
    with pytest.raises(SubmissionRefusedError, match="forbidden"):
        manager(store).submit(job)
    assert store.objects == {}
    assert names.object_name("job-1") in "".join(store.deleted)


def test_a_look_asks_for_the_events_of_an_object_once(monkeypatch):
    """Whether a Job's pods can never be made and why they wait are two questions of one look."""
    asked = []

    class Told:
        def items(self, where, **query):
            asked.append(query)
            return [{"lastTimestamp": "2"}, {"lastTimestamp": "1"}]

    monkeypatch.setattr(cluster, "CACHE_S", 600.0)
    looked_at = cluster.Cluster(KubernetesConfig(), 1.0)
    looked_at._api = Told()
    for _ in range(2):
        assert [event["lastTimestamp"] for event in looked_at.events(HANDLE, "Job", "t2-x-0")] == ["1", "2"]
    assert len(asked) == 1
    looked_at.forget()
    looked_at.events(HANDLE, "Job", "t2-x-0")
    assert len(asked) == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n<html>log in</html>  "],
)
def test_rights_that_a_proxy_lets_nobody_ask_for_are_not_known(answering, data):
    assert rbac.lacking(answering(data), "demo", "twister2", rbac.BEGINS_WITH) is None
