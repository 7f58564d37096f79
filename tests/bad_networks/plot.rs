//! Plots of a meeting as SVG: panels one below the other over the same time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::meeting::{ClientId, LinkId, Meeting, Track};

const WIDTH: f64 = 960.0;
const PANEL_HEIGHT: f64 = 210.0;
/// Room left of a panel, above it, below it, and right of it for the names of the curves.
const MARGINS: (f64, f64, f64, f64) = (64.0, 26.0, 24.0, 170.0);
const COLOURS: [&str; 8] = [
    "#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00",
];

/// A curve: seconds and values, in order.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
    colour: &'static str,
    /// A value holds until the next one.
    steps: bool,
}

/// One diagram.
struct Panel {
    title: String,
    curves: Vec<Curve>,
}

/// A sheet of diagrams.
pub(crate) struct Plot {
    /// Of the meeting: figures that are medians come from several, each with a plot.
    seed: u64,
    name: &'static str,
    title: &'static str,
    seconds: f64,
    panels: Vec<Panel>,
}

impl Plot {
    /// A sheet over the whole time of a meeting; `name` is that of its file.
    pub(crate) fn new(meeting: &Meeting, name: &'static str, title: &'static str) -> Plot {
        Plot {
            seed: meeting.seed,
            name,
            title,
            seconds: meeting.elapsed().as_secs_f64(),
            panels: Vec::new(),
        }
    }

    /// Rates in kbit/s: the link's capacity, all that it carried, and named parts of that, each
    /// as bytes in tenths of a second.
    pub(crate) fn rates(
        mut self,
        meeting: &Meeting,
        link: LinkId,
        parts: &[(&str, &[u64])],
    ) -> Plot {
        let log = meeting.log(link);
        let capacity = log.capacity.iter().filter_map(|(at, rate)| {
            let rate = (*rate)? as f64 / 1e3;
            Some((at.as_secs_f64(), rate))
        });
        let mut curves = vec![
            Curve {
                name: "capacity".into(),
                points: capacity.collect(),
                colour: "#999999",
                steps: true,
            },
            Curve {
                name: "all".into(),
                points: per_half_second(&log.bytes),
                colour: "#333333",
                steps: false,
            },
        ];
        for (index, (name, bytes)) in parts.iter().enumerate() {
            curves.push(Curve {
                name: (*name).to_owned(),
                points: per_half_second(bytes),
                colour: COLOURS[index % COLOURS.len()],
                steps: false,
            });
        }
        self.panels.push(Panel {
            title: "rate, kbit/s".into(),
            curves,
        });
        self
    }

    /// Adds to the rates what the server took a subscriber's network to carry.
    pub(crate) fn estimate(mut self, meeting: &Meeting, client: ClientId) -> Plot {
        let estimates = meeting.estimates(client).iter();
        let curve = Curve {
            name: "estimate".into(),
            points: estimates
                .map(|(at, bps)| (at.as_secs_f64(), *bps as f64 / 1e3))
                .collect(),
            colour: "#bbaa00",
            steps: false,
        };
        if let Some(rates) = self.panels.first_mut() {
            rates.curves.push(curve);
        }
        self
    }

    /// The wait in front of a link, the longest in each tenth of a second, in ms.
    pub(crate) fn queueing(mut self, meeting: &Meeting, link: LinkId) -> Plot {
        let mut tenths: Vec<f64> = Vec::new();
        for (at, wait) in &meeting.log(link).queueing {
            let tenth = (at.as_millis() / 100) as usize;
            tenths.resize(tenths.len().max(tenth + 1), 0.0);
            tenths[tenth] = tenths[tenth].max(wait.as_secs_f64() * 1e3);
        }
        let points = tenths.iter().enumerate();
        self.panels.push(Panel {
            title: "queueing delay, ms".into(),
            curves: vec![Curve {
                name: "queue".into(),
                points: points.map(|(at, wait)| (at as f64 / 10.0, *wait)).collect(),
                colour: COLOURS[1],
                steps: false,
            }],
        });
        self
    }

    /// Which spatial layer of which track is shown, from 1; and the pictures a second.
    pub(crate) fn layers(mut self, meeting: &Meeting, shown: &[(&str, ClientId, Track)]) -> Plot {
        let mut layers = Vec::new();
        let mut frame_rates = Vec::new();
        for (index, (name, client, track)) in shown.iter().enumerate() {
            let shown = meeting.shown(*client, *track);
            // Apart by a little, so that curves do not hide each other.
            let apart = index as f64 * 0.04;
            let point = |(at, layer, _): &(Duration, u8, u8)| {
                (at.as_secs_f64(), f64::from(*layer) + 1.0 + apart)
            };
            let colour = COLOURS[index % COLOURS.len()];
            layers.push(Curve {
                name: (*name).to_owned(),
                points: shown.layers.iter().map(point).collect(),
                colour,
                steps: true,
            });
            let seconds = 0..self.seconds as u64;
            let rate = |second: u64| {
                let from = Duration::from_secs(second);
                let rate = shown.frame_rate(from, from + Duration::from_secs(1));
                (second as f64 + 0.5, rate)
            };
            frame_rates.push(Curve {
                name: (*name).to_owned(),
                points: seconds.map(rate).collect(),
                colour,
                steps: false,
            });
        }
        self.panels.push(Panel {
            title: "layer".into(),
            curves: layers,
        });
        self.panels.push(Panel {
            title: "pictures a second".into(),
            curves: frame_rates,
        });
        self
    }

    /// Writes the sheet into `target/plots`.
    pub(crate) fn write(self) {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/plots");
        std::fs::create_dir_all(&directory).expect("a directory for plots");
        let path = directory.join(format!("{}-seed-{}.svg", self.name, self.seed));
        std::fs::write(&path, self.svg()).expect("a file for the plot");
    }

    fn svg(&self) -> String {
        let height = PANEL_HEIGHT * self.panels.len() as f64 + 30.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{}\" y=\"18\" font-size=\"14\">{}</text>\n",
            MARGINS.0, self.title
        );
        for (index, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut out, 30.0 + PANEL_HEIGHT * index as f64, self.seconds);
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Panel {
    fn draw(&self, out: &mut String, top: f64, seconds: f64) {
        let (left, above, below, right) = MARGINS;
        let (width, height) = (WIDTH - left - right, PANEL_HEIGHT - above - below);
        let values = self.curves.iter().flat_map(|curve| &curve.points);
        let largest = values.map(|(_, value)| *value).fold(1.0, f64::max);
        let step = round_step(largest / 4.0);
        let limit = step * (largest / step).ceil();
        let x = |at: f64| left + width * at / seconds;
        let y = |value: f64| top + above + height * (1.0 - value / limit);
        let bottom = y(0.0);
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\">{}</text>",
            top + 18.0,
            self.title
        );
        let mut value = 0.0;
        while value <= limit * 1.001 {
            let at = y(value);
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}H{}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                left + width,
                left - 6.0,
                at + 4.0,
            );
            value += step;
        }
        let step = round_step(seconds / 10.0);
        let mut at = 0.0;
        while at <= seconds {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at}</text>",
                x(at),
                bottom + 15.0
            );
            at += step;
        }
        for (index, curve) in self.curves.iter().enumerate() {
            let _ = writeln!(
                out,
                "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\"/>\
                 <text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>",
                curve.path(x, y, seconds),
                curve.colour,
                left + width + 10.0,
                top + above + 12.0 + 14.0 * index as f64,
                curve.colour,
                curve.name,
            );
        }
    }
}

impl Curve {
    fn path(&self, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64, seconds: f64) -> String {
        let mut path = String::new();
        for (index, (at, value)) in self.points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            if self.steps && index > 0 {
                let _ = write!(path, "H{:.1}", x(*at));
            }
            let _ = write!(path, "{command}{:.1} {:.1}", x(*at), y(*value));
        }
        if self.steps && !self.points.is_empty() {
            let _ = write!(path, "H{:.1}", x(seconds));
        }
        path
    }
}

/// kbit/s over half a second each, at its middle.
fn per_half_second(tenths: &[u64]) -> Vec<(f64, f64)> {
    let halves = tenths.chunks(5).enumerate();
    let point = |(index, bytes): (usize, &[u64])| {
        let seconds = bytes.len() as f64 / 10.0;
        let rate = bytes.iter().sum::<u64>() as f64 * 8.0 / seconds / 1e3;
        (index as f64 / 2.0 + 0.25, rate)
    };
    halves.map(point).collect()
}

/// The least of 1, 2, 5 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}
