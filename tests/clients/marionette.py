"""The remote control of Mozilla's programs: lengths and JSON over TCP (firefox-source-docs, Marionette protocol 3)."""

import base64
import json
import socket


class Failed(Exception):
    """The program answered with an error."""


class Marionette:
    def __init__(self, port, timeout):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        # Scripts have their own deadlines; this one only ends a program that has stopped answering.
        self._socket.settimeout(timeout)
        self._input = b""
        self._id = 0
        hello = self._receive()
        assert hello["marionetteProtocol"] == 3, hello
        self.ask("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {}}})
        self.ask("Marionette:SetContext", {"value": "chrome"})
        self.ask("WebDriver:SetTimeouts", {"script": int(timeout * 1000)})

    def ask(self, command, parameters=None):
        self._id += 1
        text = json.dumps([0, self._id, command, parameters or {}]).encode()
        self._socket.sendall(str(len(text)).encode() + b":" + text)
        kind, number, error, result = self._receive()
        assert (kind, number) == (1, self._id), (kind, number)
        if error:
            raise Failed(f"{error.get('error')}: {error.get('message')}\n{error.get('stacktrace')}")
        return result

    def run(self, script, *arguments):
        """The body of an async function in the program itself; what it returns."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            "(async (...arguments) => {" + script + "})(...[...arguments].slice(0, -1))"
            ".then(value => done([true, value ?? null]), e => done([false, `${e}\\n${e?.stack ?? ''}`]));"
        )
        answer = self.ask("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": list(arguments), "sandbox": None})
        is_done, value = answer["value"]
        if not is_done:
            raise Failed(value)
        return value

    def screenshot(self):
        """The whole window as PNG."""
        answer = self.ask("WebDriver:TakeScreenshot", {"full": True, "hash": False})
        return base64.b64decode(answer["value"])

    def _receive(self):
        while b":" not in self._input:
            self._more()
        length, rest = self._input.split(b":", 1)
        self._input = rest
        while len(self._input) < int(length):
            self._more()
        text, self._input = self._input[: int(length)], self._input[int(length) :]
        return json.loads(text)

    def _more(self):
        more = self._socket.recv(65536)
        if not more:
            raise Failed("the program has hung up")
        self._input += more
