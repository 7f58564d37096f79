//! RTCP of one moment in an order of its own.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

/// The interceptor nearest to the wire: it hands on what leaves at once sorted by the streams it
/// speaks of.
///
/// rtc-interceptor 0.21.1 keeps the streams it makes NACKs and reports for in a `HashMap` with a
/// random state and walks it, so the same run sends them in another order each time; which packet
/// is repeated first, and which report a link loses, would hang on that.
#[derive(Default)]
pub(super) struct ReportOrder {
    incoming: VecDeque<TaggedPacket>,
    outgoing: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for ReportOrder {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.incoming.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.incoming.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let of = streams(&packet);
        let place = self.outgoing.partition_point(|other| streams(other) <= of);
        self.outgoing.insert(place, packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outgoing.pop_front()
    }
}

impl Interceptor for ReportOrder {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// The SSRCs a packet's reports are about. Media stays in front, in its own order.
fn streams(packet: &TaggedPacket) -> Vec<u32> {
    let Packet::Rtcp(reports) = &packet.message.packet else {
        return Vec::new();
    };
    reports
        .iter()
        .flat_map(|report| report.destination_ssrc())
        .collect()
}
