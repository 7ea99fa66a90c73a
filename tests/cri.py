#!/usr/bin/python3
"""A small client of the Container Runtime Interface (CRI), which does for the tests what the kubelet does.

    cri.py SOCKET version
    cri.py SOCKET run NAME [--attempt N] [--memory BYTES] [--logs DIR] [--pid=host|container:NAME] -- CMD...
    cri.py SOCKET exec NAME CMD...
    cri.py SOCKET stop NAME SECONDS
    cri.py SOCKET id|ids|pod|status|reopen|remove NAME

Each container is in a pod of its own name, or in the pod of the container whose PID namespace it shares, and
each attempt to run it is a container. Messages are those of
k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, by field number; curl speaks HTTP/2.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile

# The service's versions, whose messages have the same field numbers; containerd before 1.6 has only the second.
VERSIONS = ["v1", "v1alpha2"]
# The status of a service that is not there. Its server resets the stream at once, which curl may see first.
UNIMPLEMENTED = ("12", None)
STREAM_ERROR = 92


def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def message(fields):
    """Encodes fields by number: int, str, dict of fields, list of these, or (str, str) pairs of a map."""
    out = b""
    for number, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(number << 3) + varint(item)
                continue
            if isinstance(item, tuple):
                item = {1: item[0], 2: item[1]}
            data = message(item) if isinstance(item, dict) else item.encode()
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def fields(data):
    """Decodes a message: a list of values for each field number, of which bytes may be messages."""
    out, index = {}, 0

    def number():
        nonlocal index
        value = shift = 0
        while True:
            byte = data[index]
            index += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while index < len(data):
        tag = number()
        if tag & 7 == 0:
            value = number()
        else:
            length = number()
            value, index = data[index : index + length], index + length
        out.setdefault(tag >> 3, []).append(value)
    return out


class Client:
    def __init__(self, socket):
        self.socket = socket
        self.version = None

    def call(self, method, request):
        """Calls a method of the first version of the service that the runtime has."""
        for version in [self.version] if self.version else VERSIONS:
            answer, status = self.request(f"/runtime.{version}.RuntimeService/{method}", request)
            if status.get("grpc-status") not in UNIMPLEMENTED:
                break
        if status.get("grpc-status") != "0":
            sys.exit(f"{method}: {status.get('grpc-message', status)}")
        self.version = version
        return fields(answer[5:])

    def request(self, path, request):
        """Returns the answer's frame, and its headers and trailers."""
        body = message(request)
        with tempfile.TemporaryDirectory() as directory:
            headers = os.path.join(directory, "headers")
            command = ["curl", "-sS", "--http2-prior-knowledge", "--unix-socket", self.socket]
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-D", headers]
            command += ["--data-binary", "@-", "http://localhost" + path]
            frame = b"\0" + len(body).to_bytes(4, "big") + body
            run = subprocess.run(command, input=frame, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if run.returncode not in (0, STREAM_ERROR):
                sys.exit(f"{path}: {run.stderr.decode().strip()}")
            with open(headers, encoding="utf-8") as file:
                lines = [line.strip().partition(": ") for line in file]
        return run.stdout, {key.lower(): value for key, _, value in lines}

    def containers(self, name):
        """Returns the IDs of the containers of a name with their pods, the last attempt first."""
        label = {2: [("io.kubernetes.container.name", name)]}
        found = self.call("ListContainers", {1: {4: label[2]}}).get(1, [])
        found = [fields(data) for data in found]
        attempt = lambda one: fields(one[3][0]).get(2, [0])[0]
        found.sort(key=attempt, reverse=True)
        return [(one[1][0].decode(), one[2][0].decode()) for one in found]

    def pod(self, name):
        """Returns the name of the pod that the containers of a name are in."""
        answer = self.call("ContainerStatus", {1: self.last(name)[0]})
        pairs = [fields(data) for data in fields(answer[1][0])[12]]
        return {pair[1][0]: pair[2][0] for pair in pairs}[b"io.kubernetes.pod.name"].decode()

    def sandboxes(self, name):
        label = [("io.kubernetes.pod.name", name)]
        found = self.call("ListPodSandbox", {1: {3: label}}).get(1, [])
        return [fields(data)[1][0].decode() for data in found]

    def last(self, name):
        found = self.containers(name)
        return found[0] if found else sys.exit(f"no container {name}")


def sandbox_config(pod, logs, pid):
    uid = f"uid-of-{pod}"
    # The network of the node: no CNI is needed.
    options = {1: 2, 2: pid, 3: 0}
    return {
        1: {1: pod, 2: uid, 3: "cit", 4: 0},
        3: f"{logs}/cit_{pod}_{uid}",
        6: [("io.kubernetes.pod.name", pod), ("io.kubernetes.pod.namespace", "cit"), ("io.kubernetes.pod.uid", uid)],
        8: {1: f"/cit-cri/pod{uid}", 2: {1: options}},
    }


def create(client, name, words):
    options = {"--attempt": "0", "--memory": "0", "--logs": "/var/log/pods", "--pid": "", "--pre-stop": ""}
    while words and words[0] != "--":
        key, equals, value = words.pop(0).partition("=")
        options[key] = value if equals else words.pop(0)
    command, pod = words[1:], name
    kind, _, target = options["--pid"].partition(":")
    namespace = {2: {"": 1, "host": 2, "container": 3}[kind]}
    if kind == "container":
        # Only a container of the same pod can be a target.
        pod = client.pod(target)
        namespace[4] = client.last(target)[0]
    config = sandbox_config(pod, options["--logs"], 2 if kind == "host" else 1)
    sandboxes = client.sandboxes(pod)
    if not sandboxes:
        sandboxes = [client.call("RunPodSandbox", {1: config})[1][0].decode()]
    annotations = [
        ("io.kubernetes.container.restartCount", options["--attempt"]),
        ("io.kubernetes.pod.terminationGracePeriod", "5"),
    ]
    if options["--pre-stop"]:
        annotations.append(("io.kubernetes.container.preStopHandler", options["--pre-stop"]))
    container = {
        1: {1: name, 2: int(options["--attempt"])},
        2: {1: "docker.io/library/bb:latest"},
        3: command,
        6: [{1: "PATH", 2: "/bin:/usr/bin"}],
        9: config[6] + [("io.kubernetes.container.name", name)],
        10: annotations,
        11: f"{name}/{options['--attempt']}.log",
        15: {1: {4: int(options["--memory"])}, 2: {3: {1: 2, 3: 0, **namespace}}},
    }
    os.makedirs(f"{config[3]}/{name}", exist_ok=True)
    request = {1: sandboxes[0], 2: container, 3: config}
    made = client.call("CreateContainer", request)[1][0].decode()
    client.call("StartContainer", {1: made})
    return made


def time_of(nanoseconds):
    """Returns a time as RFC 3339 has it, without the fraction."""
    return datetime.datetime.utcfromtimestamp(nanoseconds // 10**9).isoformat() + "Z"


def status(client, name):
    """Prints the state of the last attempt as JSON."""
    answer = client.call("ContainerStatus", {1: client.last(name)[0], 2: 1})
    found = fields(answer[1][0])
    states = ["created", "running", "exited", "unknown"]
    text = lambda number: found.get(number, [b""])[0].decode()
    signed = lambda value: value - (1 << 64) if value >> 63 else value
    info = {}
    for data in answer.get(2, []):
        pair = fields(data)
        if pair[1][0] == b"info":
            info = json.loads(pair[2][0])
    print(
        json.dumps(
            {
                "id": text(1),
                "attempt": fields(found[2][0]).get(2, [0])[0],
                "state": states[found.get(3, [0])[0]],
                "started": time_of(found.get(5, [0])[0]),
                "finished": time_of(found.get(6, [0])[0]),
                "status": signed(found.get(7, [0])[0]),
                "reason": text(10),
                "log": text(15),
                "pid": info.get("pid"),
            }
        )
    )


def remove(client, name):
    for container, _ in client.containers(name):
        client.call("RemoveContainer", {1: container})
    for sandbox in client.sandboxes(name):
        client.call("StopPodSandbox", {1: sandbox})
        client.call("RemovePodSandbox", {1: sandbox})


def main():
    client, verb, words = Client(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if verb == "version":
        print(client.call("Version", {1: "v1"})[3][0].decode())
    elif verb == "run":
        print(create(client, words[0], words[1:]))
    elif verb == "id":
        print(client.last(words[0])[0])
    elif verb == "pod":
        print(client.pod(words[0]))
    elif verb == "ids":
        print(*[container for container, _ in client.containers(words[0])], sep="\n")
    elif verb == "status":
        status(client, words[0])
    elif verb == "stop":
        client.call("StopContainer", {1: client.last(words[0])[0], 2: int(words[1])})
    elif verb == "reopen":
        # After the kubelet has renamed the log.
        client.call("ReopenContainerLog", {1: client.last(words[0])[0]})
    elif verb == "exec":
        answer = client.call("ExecSync", {1: client.last(words[0])[0], 2: words[1:]})
        sys.stdout.buffer.write(answer.get(1, [b""])[0])
    elif verb == "remove":
        remove(client, words[0])
    else:
        sys.exit(f"no verb {verb}")


main()
