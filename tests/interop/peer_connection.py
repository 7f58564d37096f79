"""One side of a peer connection, of aiortc's ICE, DTLS, SRTP and SCTP, with all SDP and RTP in the test's hands."""

import asyncio
import contextlib
import random
import struct

import aioice.ice
from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpTransport,
)
from aiortc.rtcsctptransport import RTCSctpCapabilities
from aiortc.sdp import candidate_from_sdp

import session_description as sdp
from packets import Packet, reports

# Tests stay on the loopback interface.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class PeerConnection:
    """Connects to whoever wrote the description it is started with."""

    def __init__(self, changed):
        self.changed = changed
        self.gatherer = RTCIceGatherer(iceServers=[])
        self.ice = RTCIceTransport(self.gatherer)
        self.certificate = RTCCertificate.generateCertificate()
        self.dtls = RTCDtlsTransport(self.ice, [self.certificate])
        self.dtls._set_role("client")
        self.dtls._handle_rtp_data = self._on_rtp
        self.dtls._handle_rtcp_data = self._on_rtcp
        self.sctp = RTCSctpTransport(self.dtls)
        self.sctp.on("datachannel", self._on_channel)
        self.channels = {}
        self.messages = []
        self.packets = []
        self.reports = []
        self.connected = False
        self.session_id = random.getrandbits(50)
        self.version = 0
        self.task = None

    async def _on_rtp(self, data, arrival_time_ms):
        self.packets.append(Packet.parse(data))
        self.changed()

    async def _on_rtcp(self, data):
        self.reports += reports(data)
        self.changed()

    def _on_channel(self, channel):
        self.channels[channel.label] = channel
        channel.on("message", lambda data: (self.messages.append((channel.label, data)), self.changed()))
        channel.on("open", self.changed)
        self.changed()

    def open_channels(self):
        """Opens LiveKit's two data channels."""
        for label, ordered, retransmits in (("_reliable", True, None), ("_lossy", False, 0)):
            if label not in self.channels:
                parameters = RTCDataChannelParameters(label=label, ordered=ordered, maxRetransmits=retransmits)
                self._on_channel(RTCDataChannel(self.sctp, parameters))

    def transport_lines(self, setup):
        """The attributes of ICE and DTLS."""
        local = self.gatherer.getLocalParameters()
        fingerprint = next(f for f in self.certificate.getFingerprints() if f.algorithm == "sha-256")
        return [
            f"a=ice-ufrag:{local.usernameFragment}",
            f"a=ice-pwd:{local.password}",
            f"a=fingerprint:sha-256 {fingerprint.value}",
            f"a=setup:{setup}",
        ]

    def describe(self, sections, setup="actpass", session=(), group=None, end="\r\n", transport_in_session=False):
        """A description of these m-lines."""
        self.version += 1
        mids = [sdp.value(s, "mid") for s in sections if not sdp.rejected(s)]
        lines = ["v=0", f"o=- {self.session_id} {self.version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        lines.append(f"a=group:BUNDLE {' '.join(filter(None, mids))}" if group is None else group)
        lines += ["a=msid-semantic: WMS *", *session]
        transport = self.transport_lines(setup)
        lines += transport if transport_in_session else []
        for section in sections:
            lines += section + ([] if transport_in_session else transport)
        return end.join(filter(None, lines)) + end

    async def start(self, description, candidates):
        """Connects, once; later descriptions of the same transport change nothing."""
        if self.task:
            return
        session, sections = sdp.split(description)
        lines = next(s for s in sections if not sdp.rejected(s)) + session
        self.ice._connection.ice_controlling = True
        for candidate in [c for s in [session, *sections] for c in sdp.values(s, "candidate")] + candidates:
            await self.add_candidate(candidate)
        algorithm, fingerprint = sdp.value(lines, "fingerprint").split(" ", 1)
        if sdp.value(lines, "setup") == "active":
            self.dtls._set_role("server")
        remote = RTCIceParameters(sdp.value(lines, "ice-ufrag"), sdp.value(lines, "ice-pwd"), "a=ice-lite" in session)
        self.task = asyncio.create_task(
            self._run(remote, RTCDtlsFingerprint(algorithm=algorithm.lower(), value=fingerprint.upper()))
        )

    async def _run(self, remote, fingerprint):
        await self.ice.start(remote)
        await self.dtls.start(RTCDtlsParameters(fingerprints=[fingerprint]))
        self.connected = self.dtls.state == "connected"
        self.changed()
        if self.connected:
            await self.sctp.start(RTCSctpCapabilities(maxMessageSize=262_144), 5_000)

    async def add_candidate(self, candidate):
        parsed = candidate_from_sdp(candidate.removeprefix("candidate:"))
        if parsed.protocol.lower() == "udp" and parsed.ip in ("127.0.0.1", "::1"):
            parsed.component = 1
            await self.ice.addRemoteCandidate(parsed)

    async def send(self, packet):
        await self.dtls._send_rtp(packet)

    def nacked(self):
        """The sequence numbers asked for by NACKs (RFC 4585, 6.2.1)."""
        numbers = set()
        for report in self.reports:
            if (report.kind, report.format) == (205, 1):
                for start in range(8, len(report.body), 4):
                    first, mask = struct.unpack("!HH", report.body[start : start + 4])
                    numbers |= {first} | {first + 1 + bit & 0xFFFF for bit in range(16) if mask >> bit & 1}
        return numbers

    async def close(self):
        for stop in (self.sctp.stop, self.dtls.stop, self.ice.stop):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(stop(), 1)
        if self.task:
            self.task.cancel()
