//! The page of a run: its table and plots, in one file.

use std::fmt::Write as _;

use crate::receive::Histogram;
use crate::subscriber::SubscriberRow;

/// Where a plot begins and how large it is.
const LEFT: f64 = 50.0;
const WIDTH: f64 = 720.0;
const TOP: f64 = 20.0;
const HEIGHT: f64 = 240.0;
/// Of the lines of a plot, in their order.
const COLOURS: [&str; 3] = ["#0f766e", "#b45309", "#be123c"];

/// The page of a scenario.
pub(crate) fn page(
    name: &str,
    table: &str,
    latency: &Histogram,
    subscribers: &[SubscriberRow],
) -> String {
    format!(
        "<!doctype html><meta charset='utf-8'><title>moim-load {name}</title>\
         <style>body{{font:15px sans-serif;max-width:820px;margin:2em auto}}\
         pre{{background:#f4f4f4;padding:1em;overflow-x:auto}}</style>\
         <h1>{name}</h1><pre>{table}</pre>\
         <h2>Forward latency: share of packets below</h2>{}\
         <h2>Forward latency of each subscriber, ms, the smallest first:
         <span style='color:{}'>p50</span>, <span style='color:{}'>p99</span>,
         <span style='color:{}'>largest</span></h2>{}\
         <h2>Bitrate of each subscriber, kbit/s, the smallest first</h2>{}",
        cumulative(latency),
        COLOURS[0],
        COLOURS[1],
        COLOURS[2],
        of_each(subscribers, |row| {
            let times = &row.latency_ms;
            vec![times.p50, times.p99, times.max]
        }),
        of_each(subscribers, |row| vec![row.bits_per_second / 1_000.0]),
    )
}

/// Which share of what was measured is below how much, on a logarithmic axis.
fn cumulative(latency: &Histogram) -> String {
    let points = latency.points();
    let total: u64 = points.iter().map(|(_, count)| count).sum();
    let widest = points
        .last()
        .map_or(1.0, |(micros, _)| (*micros as f64).max(2.0))
        .log10();
    let mut sum = 0;
    let points = points.iter().map(|(micros, count)| {
        sum += count;
        let x = (*micros as f64).max(1.0).log10() / widest;
        (x, sum as f64 / total.max(1) as f64)
    });
    let line = line(points, COLOURS[0]);
    let mut axis = String::new();
    for power in 0..=widest as u32 {
        let x = LEFT + WIDTH * f64::from(power) / widest;
        let label = 10f64.powi(power as i32) / 1_000.0;
        let _ = write!(
            axis,
            "<line x1='{x:.0}' y1='{TOP}' x2='{x:.0}' y2='{}' stroke='#ddd'/>\
             <text x='{x:.0}' y='{}' font-size='12' text-anchor='middle'>{label} ms</text>",
            TOP + HEIGHT,
            TOP + HEIGHT + 20.0
        );
    }
    plot(&format!("{axis}{line}"))
}

/// Values of each subscriber, those of the smallest first.
fn of_each(subscribers: &[SubscriberRow], values: impl Fn(&SubscriberRow) -> Vec<f64>) -> String {
    let received = subscribers.iter().filter(|row| row.counts.received > 0);
    let all: Vec<Vec<f64>> = received.map(values).collect();
    let count = all.first().map_or(0, Vec::len);
    let largest = all
        .iter()
        .flatten()
        .fold(f64::MIN_POSITIVE, |a, b| a.max(*b));
    let mut inside = String::new();
    for share in [0.0, 0.5, 1.0] {
        let y = TOP + HEIGHT * (1.0 - share);
        let _ = write!(
            inside,
            "<line x1='{LEFT}' y1='{y:.0}' x2='{}' y2='{y:.0}' stroke='#ddd'/>\
             <text x='{}' y='{:.0}' font-size='12' text-anchor='end'>{:.1}</text>",
            LEFT + WIDTH,
            LEFT - 5.0,
            y + 4.0,
            largest * share
        );
    }
    for (index, colour) in (0..count).zip(COLOURS) {
        let mut sorted: Vec<f64> = all.iter().map(|values| values[index]).collect();
        sorted.sort_by(f64::total_cmp);
        let last = (sorted.len() - 1).max(1) as f64;
        let points = sorted
            .iter()
            .enumerate()
            .map(|(place, value)| (place as f64 / last, value / largest));
        inside.push_str(&line(points, colour));
    }
    plot(&inside)
}

/// A line through points of a unit square.
fn line(points: impl Iterator<Item = (f64, f64)>, colour: &str) -> String {
    let points: Vec<String> = points
        .map(|(x, y)| format!("{:.1},{:.1}", LEFT + WIDTH * x, TOP + HEIGHT * (1.0 - y)))
        .collect();
    format!(
        "<polyline fill='none' stroke='{colour}' stroke-width='2' points='{}'/>",
        points.join(" ")
    )
}

fn plot(inside: &str) -> String {
    format!("<svg viewBox='0 0 800 290' role='img'>{inside}</svg>")
}
