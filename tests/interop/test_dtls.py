"""DTLS as other clients do it (RFC 6347, RFC 5764)."""

import datetime

import pytest
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

import session_description as sdp


async def publishes(meeting, prepare):
    """A microphone over a publisher connection that `prepare` has changed before its offer."""
    bob = await meeting.join("bob")
    alice = await meeting.join("alice")
    prepare(alice.publisher)
    track = await alice.announce("mic")
    await alice.offer([sdp.data(), sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[1])], connected=False)
    return alice, bob, track


@pytest.mark.parametrize("name", ["SRTP_AEAD_AES_256_GCM", "SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80"])
async def test_each_srtp_profile_alone_will_do(meeting, name):
    profiles = [p for p in SRTP_PROFILES if p.openssl_profile.decode() == name]
    assert profiles

    def prepare(peer):
        peer.dtls._srtp_profiles = profiles

    alice, bob, track = await publishes(meeting, prepare)
    await meeting.until(lambda: alice.publisher.connected, "the connection")
    alice.play("audio", 1, "1")
    await bob.receives(track.sid)


def with_certificate(peer, certificate):
    peer.dtls._RTCDtlsTransport__local_certificate = certificate


def rsa_certificate():
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "WebRTC")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    return RTCCertificate(key=key, cert=made.sign(key, hashes.SHA256()))


async def test_an_rsa_certificate_will_do(meeting):
    def prepare(peer):
        peer.certificate = rsa_certificate()
        with_certificate(peer, peer.certificate)

    alice, bob, track = await publishes(meeting, prepare)
    await meeting.until(lambda: alice.publisher.connected, "the connection")
    alice.play("audio", 1, "1")
    await bob.receives(track.sid)


async def test_a_certificate_other_than_the_announced_one_is_not_let_in(meeting):
    def prepare(peer):
        with_certificate(peer, RTCCertificate.generateCertificate())

    alice, bob, track = await publishes(meeting, prepare)
    alice.play("audio", 1, "1")
    # Another microphone, let in later, is heard; the first one was not before it.
    carol = await meeting.join("carol")
    other = await carol.publish()
    await bob.receives(other.sid, 50)
    assert not bob.received(track.sid) and not alice.publisher.messages
