//! What a run came to: as a table, as JSON, as a page.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::floor::Floor;
use crate::full_client::Findings;
use crate::outcome::Outcome;
use crate::page::page;
use crate::process::Usage;
use crate::receive::{Counts, Times};
use crate::scenario::Plan;
use crate::subscriber::{SubscriberRow, worst};

/// Clock ticks a second in `/proc`, whatever the kernel's own.
const TICKS: f64 = 100.0;

/// A run that is over.
pub(crate) struct Run<'a> {
    pub(crate) plan: Plan,
    /// For how long it was measured.
    pub(crate) time: Duration,
    /// How long all joins took.
    pub(crate) joined: Duration,
    /// Participants that came and went meanwhile.
    pub(crate) guests: usize,
    pub(crate) usage: Option<Usage>,
    /// Resident bytes of the server before anybody joined.
    pub(crate) resident_at_rest: u64,
    /// Of the server, or why that is not known.
    pub(crate) system_calls_a_second: Option<Result<u64, String>>,
    pub(crate) floor: Floor,
    pub(crate) full_clients: Findings,
    pub(crate) outcome: &'a Outcome,
}

/// What the server's process used.
#[derive(Debug, Serialize)]
struct Server {
    usage: Usage,
    /// Clock ticks are coarse: 10 ms each.
    user_seconds: f64,
    system_seconds: f64,
    cpu_ns_per_packet: f64,
    /// By how much that is more than the tight floor in runs of six.
    times_tight_floor: f64,
    /// By how much that is more than the floor in the same shape.
    times_floor_in_shape: Option<f64>,
    /// Of one core, in percent.
    cores_percent: f64,
    /// Resident bytes of the whole process.
    resident_bytes_per_participant: u64,
    /// The same without what the server took before anybody joined.
    joined_bytes_per_participant: u64,
    context_switches_per_second: f64,
    /// `None` when the kernel does not tell.
    system_calls_per_second: Option<u64>,
    system_calls_unknown_because: Option<String>,
}

impl Server {
    fn new(run: &Run<'_>, usage: Usage) -> Server {
        let seconds = run.time.as_secs_f64();
        let cpu_ns_per_packet = usage.cpu_ns as f64 / run.outcome.counts.received.max(1) as f64;
        let times = |floor: u64| cpu_ns_per_packet / floor.max(1) as f64;
        let (system_calls, system_calls_unknown_because) = match &run.system_calls_a_second {
            Some(Ok(count)) => (Some(*count), None),
            Some(Err(reason)) => (None, Some(reason.clone())),
            None => (None, None),
        };
        let participants = run.plan.participants.max(1) as u64;
        Server {
            usage,
            user_seconds: usage.user_ticks as f64 / TICKS,
            system_seconds: usage.system_ticks as f64 / TICKS,
            cpu_ns_per_packet,
            times_tight_floor: times(run.floor.tight_run_ns),
            times_floor_in_shape: run.floor.in_shape.as_ref().map(|(_, cost)| times(*cost)),
            cores_percent: usage.cpu_ns as f64 / seconds / 1e7,
            resident_bytes_per_participant: usage.resident / participants,
            joined_bytes_per_participant: usage.resident.saturating_sub(run.resident_at_rest)
                / participants,
            context_switches_per_second: usage.switches as f64 / seconds,
            system_calls_per_second: system_calls,
            system_calls_unknown_because,
        }
    }

    fn rows(&self, packets_per_second: f64, mut row: impl FnMut(&str, String)) {
        row(
            "server CPU a forwarded packet",
            format!(
                "{:.0} ns ({:.1} % of a core)",
                self.cpu_ns_per_packet, self.cores_percent
            ),
        );
        row(
            "server user / system",
            format!("{:.2} / {:.2} s", self.user_seconds, self.system_seconds),
        );
        let in_shape = self.times_floor_in_shape;
        row(
            "server / floor",
            match in_shape {
                Some(times) => format!(
                    "{times:.2} in the same shape, {:.2} tight in runs of 6",
                    self.times_tight_floor
                ),
                None => "nothing was forwarded".to_owned(),
            },
        );
        row(
            "server memory a participant",
            format!(
                "{} KiB; {} KiB without what it takes at rest",
                self.resident_bytes_per_participant / 1_024,
                self.joined_bytes_per_participant / 1_024
            ),
        );
        row(
            "server context switches",
            format!("{:.0} a second", self.context_switches_per_second),
        );
        let unknown = self.system_calls_unknown_because.as_deref();
        row(
            "server system calls",
            match self.system_calls_per_second {
                Some(calls) => format!(
                    "{calls} a second, {:.2} a forwarded packet",
                    calls as f64 / packets_per_second.max(1.0)
                ),
                None => format!("not available: {}", unknown.unwrap_or("not asked for")),
            },
        );
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    plan: Plan,
    seconds: f64,
    joined_in_seconds: f64,
    guests: usize,
    connections: usize,
    open: usize,
    with_data: usize,
    data_open: usize,
    streams: usize,
    sent: u64,
    expected: u64,
    counts: Counts,
    packets_per_second: f64,
    bits_per_second: f64,
    latency_ms: Times,
    connected_ms: Times,
    first_media_ms: Times,
    server: Option<Server>,
    floor: Floor,
    full_clients: Findings,
    /// RTCP packets that participants sent about what they received.
    reports: u64,
    tester_busy_percent: f64,
    tester_longest_turn_ms: f64,
    subscribers: Vec<SubscriberRow>,
}

impl Report {
    pub(crate) fn new(run: Run<'_>) -> Report {
        let seconds = run.time.as_secs_f64();
        let outcome = run.outcome;
        let received = outcome.counts.received;
        let server = run.usage.map(|usage| Server::new(&run, usage));
        Report {
            plan: run.plan,
            seconds,
            joined_in_seconds: run.joined.as_secs_f64(),
            guests: run.guests,
            connections: outcome.connections,
            open: outcome.open,
            with_data: outcome.with_data,
            data_open: outcome.data_open,
            streams: outcome.streams,
            sent: outcome.sent,
            expected: outcome.counts.expected(),
            counts: outcome.counts,
            packets_per_second: received as f64 / seconds,
            bits_per_second: 8.0 * outcome.counts.bytes as f64 / seconds,
            latency_ms: Times::of(&outcome.latency),
            connected_ms: Times::of(&outcome.connected),
            first_media_ms: Times::of(&outcome.first_media),
            server,
            floor: run.floor,
            full_clients: run.full_clients,
            reports: outcome.feedback,
            tester_busy_percent: 100.0 * outcome.busy,
            tester_longest_turn_ms: outcome.longest_turn as f64 / 1_000.0,
            subscribers: (outcome.subscribers.iter())
                .map(|subscriber| SubscriberRow::new(subscriber, seconds))
                .collect(),
        }
    }

    /// For people at a terminal.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<34} {value}");
        };
        self.connection_rows(&mut row);
        self.media_rows(&mut row);
        if let Some(server) = &self.server {
            server.rows(self.packets_per_second, &mut row);
        }
        self.full_client_rows(&mut row);
        self.floor_rows(&mut row);
        row(
            "tester",
            format!(
                "{:.0} % busy, longest turn {:.1} ms{}",
                self.tester_busy_percent,
                self.tester_longest_turn_ms,
                if self.tester_busy_percent > 90.0 || self.tester_longest_turn_ms > 20.0 {
                    ": IT WAS THE LIMIT, so the figures are not the server's"
                } else {
                    ""
                }
            ),
        );
        out
    }

    fn connection_rows(&self, mut row: impl FnMut(&str, String)) {
        let plan = &self.plan;
        row(
            "scenario",
            format!(
                "{}: {} in {} rooms",
                plan.name, plan.participants, plan.rooms
            ),
        );
        row(
            "joins",
            format!("{} in {:.2} s", plan.participants, self.joined_in_seconds),
        );
        if self.guests > 0 {
            row("came and went meanwhile", self.guests.to_string());
        }
        row(
            "connections open",
            format!("{} of {}", self.open, self.connections),
        );
        row(
            "of them with data channels",
            format!("{} of {}", self.data_open, self.with_data),
        );
        row("received streams", self.streams.to_string());
    }

    fn media_rows(&self, mut row: impl FnMut(&str, String)) {
        let times = |t: &Times| {
            format!(
                "{:.2} / {:.2} / {:.2} / {:.2} ms",
                t.p50, t.p99, t.p999, t.max
            )
        };
        row(
            "packets sent / expected / received",
            format!(
                "{} / {} / {} in {:.1} s",
                self.sent, self.expected, self.counts.received, self.seconds
            ),
        );
        row(
            "lost / duplicated / out of order",
            format!(
                "{} / {} / {}",
                self.counts.lost, self.counts.duplicated, self.counts.out_of_order
            ),
        );
        row(
            "forwarded",
            format!(
                "{:.0} packets/s, {:.1} Mbit/s",
                self.packets_per_second,
                self.bits_per_second / 1e6
            ),
        );
        row(
            "of them probes; reports sent",
            format!("{}; {}", self.counts.probes, self.reports),
        );
        row("latency p50/p99/p99.9/max", times(&self.latency_ms));
        if let Some(worst) = worst(&self.subscribers) {
            row("worst of any subscriber", worst);
        }
        row("join to connected", times(&self.connected_ms));
        row("join to first media", times(&self.first_media_ms));
    }

    fn full_client_rows(&self, mut row: impl FnMut(&str, String)) {
        let full = &self.full_clients;
        if full.clients == 0 {
            return;
        }
        row(
            "full clients",
            format!(
                "{} of {} receive, {} tracks, {} packets",
                full.receiving, full.clients, full.tracks, full.counts.received
            ),
        );
        row(
            "they miss / cannot read / reorder",
            format!(
                "{} / {} / {} packets; {} sender reports came",
                full.counts.lost, full.unreadable, full.backwards, full.sender_reports
            ),
        );
    }

    fn floor_rows(&self, mut row: impl FnMut(&str, String)) {
        let floor = &self.floor;
        if let Some((shape, cost)) = &floor.in_shape {
            row(
                "floor in the same shape",
                format!(
                    "{cost} ns: {} destinations, {:.1} x {:.0} bytes in {:.1} sends each {:.1} ms",
                    shape.destinations,
                    shape.packets,
                    shape.bytes,
                    shape.runs,
                    shape.interval.as_secs_f64() * 1_000.0
                ),
            );
        }
        row(
            "floor, tight",
            format!(
                "{} ns alone, {} ns in runs of 6",
                floor.tight_alone_ns, floor.tight_run_ns
            ),
        );
    }

    /// A page that stands alone: the table and plots.
    pub(crate) fn html(&self, outcome: &Outcome) -> String {
        page(
            self.plan.name,
            &self.table(),
            &outcome.latency,
            &self.subscribers,
        )
    }
}
