"""SDP as text: read it apart, and write m-lines exactly as a test wants them (RFC 8866, RFC 8829)."""

OPUS = (
    "a=rtpmap:111 opus/48000/2",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=rtcp-fb:111 nack",
    "a=rtcp-fb:111 transport-cc",
)
VIDEO_FEEDBACK = ("nack", "nack pli", "ccm fir")
EXTENSIONS = {
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
    "rid": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "level": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
}
# The ids of the header extensions that published media has unless a test says otherwise.
MID, LEVEL, RID = 4, 1, 10


def video(payload_type, codec, fmtp=None):
    """The attributes of a video format."""
    lines = [f"a=rtpmap:{payload_type} {codec}/90000"]
    lines += [f"a=fmtp:{payload_type} {fmtp}"] if fmtp else []
    return lines + [f"a=rtcp-fb:{payload_type} {kind}" for kind in VIDEO_FEEDBACK]


def h264(profile="42e01f", payload_type=102):
    """The attributes of H.264 with a profile-level-id (RFC 6184)."""
    fmtp = "level-asymmetry-allowed=1;packetization-mode=1"
    return video(payload_type, "H264", f"{fmtp};profile-level-id={profile}" if profile else fmtp)


VP8 = video(96, "VP8")
VP9 = video(98, "VP9", "profile-id=0")


def split(sdp):
    """The lines of the session and those of each m-line."""
    session, sections = [], []
    for line in filter(None, sdp.replace("\r\n", "\n").split("\n")):
        if line.startswith("m="):
            sections.append([line])
        else:
            (sections[-1] if sections else session).append(line)
    return session, sections


def values(lines, name):
    """The values of every attribute of a name."""
    return [line.split(":", 1)[1] for line in lines if line.startswith(f"a={name}:")]


def value(lines, name):
    """The value of the first attribute of a name; None without one."""
    return next(iter(values(lines, name)), None)


def kind(lines):
    return lines[0][2:].split(" ")[0]


def port(lines):
    return lines[0].split(" ")[1]


def rejected(lines):
    return port(lines) == "0" and "a=bundle-only" not in lines


def direction(lines):
    return next((d for d in ("sendonly", "recvonly", "inactive") if f"a={d}" in lines), "sendrecv")


def rtpmaps(lines):
    """Payload type to codec."""
    return dict(each.split(" ", 1) for each in values(lines, "rtpmap"))


def fmtp(lines, payload_type):
    """The parameters of a payload type; the empty text without them."""
    found = (each.split(" ", 1) for each in values(lines, "fmtp"))
    return next((text for number, text in found if number == str(payload_type)), "")


def media(kind, mid, formats, direction="sendonly", msid=None, ssrcs=(), extensions=None, extra=(), payload_types=None, port=9):
    """A media m-line without the transport's attributes."""
    if payload_types is None:
        payload_types = [line.split(":")[1].split(" ")[0] for line in formats if line.startswith("a=rtpmap:")]
    if extensions is None:
        extensions = {MID: "mid", **({LEVEL: "level"} if kind == "audio" else {RID: "rid"})}
    return [
        f"m={kind} {port} UDP/TLS/RTP/SAVPF {' '.join(payload_types)}",
        "c=IN IP4 0.0.0.0",
        *([f"a=mid:{mid}"] if mid is not None else []),
        f"a={direction}",
        "a=rtcp-mux",
        *([f"a=msid:{msid}"] if msid else []),
        *formats,
        *(f"a=extmap:{number} {EXTENSIONS[name]}" for number, name in extensions.items()),
        *extra,
        *(f"a=ssrc:{ssrc} cname:c" for ssrc in ssrcs),
    ]


def data(mid="data"):
    """The m-line of the data channels."""
    return [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ]


def answer(offered, accepts=lambda codec, parameters: True):
    """The m-lines of a subscriber's answer that takes the formats which `accepts` holds for."""
    answered = []
    for lines in offered:
        name, _, protocol, *payload_types = lines[0][2:].split(" ")
        mid = value(lines, "mid")
        if name == "application":
            answered.append(data(mid))
            continue
        codecs = rtpmaps(lines)
        taken = [p for p in payload_types if p in codecs and accepts(codecs[p], fmtp(lines, p))]
        taken = [p for p in taken if not codecs[p].startswith("rtx/") or fmtp(lines, p).removeprefix("apt=") in taken]
        if rejected(lines) or not taken:
            rejection = f"m={name} 0 {protocol} {payload_types[0]}"
            answered.append([rejection, "c=IN IP4 0.0.0.0", f"a=mid:{mid}", "a=inactive"])
            continue
        sent = {"sendonly": "recvonly", "sendrecv": "recvonly"}.get(direction(lines), "inactive")
        chosen = [f"m={name} 9 {protocol} {' '.join(taken)}", "c=IN IP4 0.0.0.0", f"a=mid:{mid}", f"a={sent}", "a=rtcp-mux"]
        for attribute in ("rtpmap", "fmtp", "rtcp-fb"):
            chosen += [f"a={attribute}:{each}" for each in values(lines, attribute) if each.split(" ")[0] in taken]
        answered.append(chosen + [f"a=extmap:{each}" for each in values(lines, "extmap")])
    return answered
