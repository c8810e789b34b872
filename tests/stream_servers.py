"""Servers of video streams on the loopback: plain TCP, and RTSP and HTTP as cameras speak them."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TS_PACKET = 188
_IN_ONE = 7  # transport packets in a packet of RTP
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 33\r\na=control:track\r\n"
)


@contextmanager
def tcp_server(clip: Path, before_end: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Send a transport stream to one client; yields the address."""

    def serve(client: socket.socket) -> None:
        client.sendall(clip.read_bytes())
        before_end()

    with _server(serve) as port:
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def mjpeg_server(images: Sequence[bytes], ending: bytes = b"") -> Iterator[str]:
    """Send JPEG images to one client by HTTP, then `ending`, and close the connection."""

    def serve(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n"
        )
        for image in images:
            head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image)
            client.sendall(head + image + b"\r\n")
        client.sendall(ending)

    with _server(serve) as port:
        yield f"http://ann:secret@127.0.0.1:{port}/camera"


@contextmanager
def rtsp_server(clip: Path, udp_alone: bool = False) -> Iterator[str]:
    """Play a transport stream to one client, in packets of RTP inside the connection or by UDP."""

    def serve(client: socket.socket) -> None:
        file = client.makefile("rb")
        to_port = 0
        while True:
            lines = []
            while (line := file.readline().decode().strip()) or not lines:
                lines.append(line)
                if len(lines) > 50:
                    return
            method = lines[0].split()[0] if lines[0] else ""
            sequence = next((e for e in lines if e.lower().startswith("cseq")), "CSeq: 0")
            response = f"RTSP/1.0 200 OK\r\n{sequence}\r\n"
            if method == "DESCRIBE":
                response += (
                    f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}"
                )
            elif method == "SETUP" and udp_alone:
                ports = re.search(r"client_port=(\d+)-\d+", "".join(lines))
                if ports is None:
                    response = f"RTSP/1.0 461 Unsupported Transport\r\n{sequence}\r\n\r\n"
                else:
                    to_port = int(ports[1])
                    response += f"Session: 1\r\nTransport: RTP/AVP;unicast;{ports[0]}\r\n\r\n"
            elif method == "SETUP":
                response += "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
            else:
                response += "Session: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
            client.sendall(response.encode())
            if method == "PLAY":
                if udp_alone:
                    _send_by_udp(to_port, clip.read_bytes())
                else:
                    _send_rtp(client, clip.read_bytes())
                return

    with _server(serve) as port:
        yield f"rtsp://ann:secret@127.0.0.1:{port}/clip"


def _send_rtp(client: socket.socket, data: bytes) -> None:
    for packet in _rtp_packets(data):
        client.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)


def _send_by_udp(port: int, data: bytes) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sending:
        for packet in _rtp_packets(data):
            sending.sendto(packet, ("127.0.0.1", port))


def _rtp_packets(data: bytes) -> Iterator[bytes]:
    step = _TS_PACKET * _IN_ONE
    for number, start in enumerate(range(0, len(data), step)):
        header = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, number * 900, 1)
        yield header + data[start : start + step]


@contextmanager
def _server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one client in a thread; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            client, _ = listening.accept()
            with client:
                serve(client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(60)
