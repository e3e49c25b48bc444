"""Access: kubeconfig files in all their forms. No cluster is needed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest
import yaml

from twister2.spec.errors import MissingToolError, ResourceError
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.kubeconfig import IN_CLUSTER, find_access


def document(user=None, **cluster):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://k8s.example:6443/base", **cluster}}],
        "users": [{"name": "u", "user": user or {"token": "secret-token"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
            {"name": "broken", "context": {"cluster": "gone", "user": "u"}},
        ],
        "current-context": "one",
    }


@pytest.fixture
def access(tmp_path):
    def make(content, environ=None, **options):
        path = tmp_path / "config"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return find_access(
            KubernetesConfig(**{"kubeconfig": str(path), **options}), {"HOME": "/nowhere", **(environ or {})}
        )

    return make


def test_server_namespace_and_token(access):
    found = access(document())
    assert (found.server, found.path, found.namespace) == ("https://k8s.example:6443/base", "/base", "team-a")
    assert found.headers() == {"Authorization": "Bearer secret-token"}
    assert not found.in_cluster


def test_another_context_and_namespace(access):
    assert access(document(), context="two").namespace == "default"
    assert access(document(), context="two", namespace="mine").namespace == "mine"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (document(), {"context": "three"}, ("no context 'three'", "broken, one, two")),
        (document(), {"context": "broken"}, ("makes no sense", "gone")),
        ({**document(), "current-context": ""}, {}, ("no current context",)),
        ("a: [", {}, ("makes no sense",)),
        ("", {}, ("makes no sense", "empty")),
        (document(**{"certificate-authority": "not-there.crt"}), {}, ("certificate authority", "not-there.crt")),
        (document(**{"certificate-authority-data": "%%%"}), {}, ("certificate authority",)),
    ],
)
def test_what_makes_no_sense_is_told(access, content, options, words):
    with pytest.raises(ResourceError) as caught:
        access(content, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_no_kubeconfig_at_all(tmp_path):
    with pytest.raises(ResourceError, match=r"rm\.k8s\.kubeconfig"):
        find_access(KubernetesConfig(), {"HOME": str(tmp_path)})


def test_several_files_of_which_the_first_wins(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump({"users": [{"name": "u", "user": {"token": "mine"}}]}))
    second.write_text(yaml.safe_dump(document()))
    found = find_access(KubernetesConfig(), {"HOME": "/nowhere", "KUBECONFIG": f"{first}:{tmp_path}/absent:{second}"})
    assert found.headers() == {"Authorization": "Bearer mine"}


def test_a_token_in_a_file_beside_it(access, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    assert access(document({"tokenFile": "token"})).headers() == {"Authorization": "Bearer from-file"}
    with pytest.raises(ResourceError, match="token cannot be read"):
        access(document({"tokenFile": "absent"})).headers()


def test_name_and_password(access):
    expected = base64.b64encode(b"me:pass").decode()
    assert access(document({"username": "me", "password": "pass"})).headers() == {"Authorization": f"Basic {expected}"}


def exec_user(command, *args, **more):
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": list(args), **more}}


COUNTING = """
import json, os, sys
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
path = sys.argv[1]
number = len(open(path).read()) if os.path.exists(path) else 0
open(path, "a").write("x")
until = sys.argv[2] if len(sys.argv) > 2 else None
status = {"token": f"{os.environ['WHO']}-{number}", "expirationTimestamp": until}
print(json.dumps({"apiVersion": asked["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


def test_a_token_from_a_command_is_kept_until_it_expires_or_is_refused(access, tmp_path):
    environment = [{"name": "WHO", "value": "me"}]
    fresh = access(document(exec_user(sys.executable, "-c", COUNTING, str(tmp_path / "n"), env=environment)))
    assert [fresh.headers()["Authorization"] for _ in range(2)] == ["Bearer me-0"] * 2
    assert fresh.renew()
    assert fresh.headers() == {"Authorization": "Bearer me-1"}
    past = exec_user(sys.executable, "-c", COUNTING, str(tmp_path / "m"), "2020-01-01T00:00:00Z", env=environment)
    stale = access(document(past))
    assert [stale.headers()["Authorization"] for _ in range(2)] == ["Bearer me-0", "Bearer me-1"]


@pytest.mark.parametrize(
    ("user", "error", "words"),
    [
        (exec_user("no-such-login-tool", installHint="get it there"), MissingToolError, "get it there"),
        (exec_user(sys.executable, "-c", "import sys; sys.exit('log in first')"), ResourceError, "log in first"),
        (exec_user(sys.executable, "-c", "print('{}')"), ResourceError, "gave no credentials"),
        ({"auth-provider": {"name": "gcp"}}, ResourceError, "auth-provider"),
    ],
)
def test_a_command_that_gives_nothing(access, user, error, words):
    with pytest.raises(error, match=words):
        access(document(user)).headers()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=me -keyout key -out crt"
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificates of this test")
    return (folder / "crt").read_bytes(), (folder / "key").read_bytes()


def test_a_client_certificate_as_data_as_files_and_from_a_command(access, tmp_path, pair):
    crt, key = pair
    ca = {"certificate-authority-data": base64.b64encode(crt).decode()}
    data = {
        f"client-{name}-data": base64.b64encode(value).decode()
        for name, value in zip(("certificate", "key"), pair, strict=True)
    }
    assert access(document(data, **ca)).tls().get_ca_certs()
    (tmp_path / "crt").write_bytes(crt)
    (tmp_path / "key").write_bytes(key)
    assert access(document({"client-certificate": "crt", "client-key": "key"}, **ca)).tls()
    status = {"clientCertificateData": crt.decode(), "clientKeyData": key.decode()}
    (tmp_path / "answer").write_text(json.dumps({"status": status}))
    assert access(document(exec_user("cat", str(tmp_path / "answer")), **ca)).tls()
    with pytest.raises(ResourceError, match="certificate or key"):
        access(document({"client-certificate": "crt", "client-key": "absent"})).tls()


def test_a_server_without_check_only_where_it_is_said(access):
    assert access(document()).tls().check_hostname
    assert not access(document(**{"insecure-skip-tls-verify": True})).tls().check_hostname


def test_a_pods_own_access(tmp_path, monkeypatch):
    import twister2_rm_k8s.kubeconfig as module

    for name, text in (("ca.crt", ""), ("namespace", "team-b"), ("token", "pod-token")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "POD", tmp_path)
    environ = {"HOME": "/nowhere", "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = find_access(KubernetesConfig(), environ)
    assert (found.server, found.namespace, found.in_cluster) == ("https://[fd00::1]:443", "team-b", True)
    assert found.headers() == {"Authorization": "Bearer pod-token"}
    # the submitter's kubeconfig, which the options of a job still name, is not there
    assert find_access(KubernetesConfig(kubeconfig="/nowhere/config"), {**environ, IN_CLUSTER: "1"}).in_cluster
