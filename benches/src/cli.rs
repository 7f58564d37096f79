//! The command line, and the course of a run: join, settle, measure, leave, report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Parser;
use moim_client_transport::Identity;
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::clip::Clip;
use crate::driver::{Driver, Order};
use crate::floor::Floor;
use crate::full_client::{Findings, FullClient};
use crate::outcome::Outcome;
use crate::process::Usage;
use crate::progress::Progress;
use crate::report::{Report, Run};
use crate::scenario::{Plan, Scenario};
use crate::session::{Session, Shared};
use crate::shape::Shape;
use crate::subscriber::identity;
use crate::system_calls::SystemCalls;

/// Drives meetings against a server that speaks LiveKit's client protocol.
#[derive(Debug, Parser)]
#[command(name = "moim-load", version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    /// The server
    #[arg(long, global = true, default_value = "ws://127.0.0.1:7880")]
    url: String,
    /// API key
    #[arg(long, global = true, default_value = "devkey")]
    api_key: String,
    /// API secret
    #[arg(
        long,
        global = true,
        default_value = "secret",
        env = "LIVEKIT_API_SECRET",
        hide_env_values = true
    )]
    api_secret: String,
    /// Seconds that are measured
    #[arg(long, global = true, default_value_t = 10)]
    duration: u64,
    /// Seconds between the last join and the measurement
    #[arg(long, global = true, default_value_t = 3)]
    settle: u64,
    /// The server's process on this machine, to count what it uses
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Never sleep on the media thread: the server then does not pay for waking it
    #[arg(long, global = true)]
    spin: bool,
    /// Receivers take no part in estimating the bandwidth to them
    #[arg(long, global = true)]
    no_feedback: bool,
    /// What cameras show: a directory with VP8 in q.ivf, h.ivf and f.ivf, the layers from the lowest
    /// up; latency is not measured then. Without it packets have the sizes of such pictures alone
    #[arg(long, global = true)]
    clip: Option<PathBuf>,
    /// Publishers send only the layers that the server asks for
    #[arg(long, global = true)]
    dynacast: bool,
    /// Rooms have this name and a number
    #[arg(long, global = true, default_value = "load")]
    room: String,
    /// Complete clients that watch too and check what arrives; their packets are not counted
    #[arg(long, global = true, default_value_t = 0)]
    full_clients: usize,
    /// Write the figures here as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, global = true)]
    html: Option<PathBuf>,
}

/// Runs the program with the arguments of this process.
///
/// # Errors
/// When the server refuses somebody, or something of this machine is not to be had.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(cli))
}

async fn measure(cli: Cli) -> anyhow::Result<()> {
    let plan = cli.scenario.plan();
    let identity = Identity::new()?;
    let (orders, inbox) = channel();
    let shared = Arc::new(Shared {
        url: cli.url.trim_end_matches('/').to_owned(),
        orders: orders.clone(),
        fingerprint: identity.fingerprint(),
        feedback: !cli.no_feedback,
        dynacast: cli.dynacast,
        clip: cli
            .clip
            .as_deref()
            .map(Clip::open)
            .transpose()?
            .map(Arc::new),
    });
    let epoch = Instant::now();
    let watched = Arc::new(Progress::default());
    let driver = Driver::new(identity, cli.spin, epoch, watched.clone())?;
    let media = std::thread::Builder::new()
        .name("media".into())
        .spawn(move || driver.run(&inbox))?;

    let at_rest = cli.pid.map(Usage::of).transpose()?;
    let (leave, left) = watch::channel(false);
    let began = Instant::now();
    let mut crowd = join_all(&cli, &plan, &shared, &left).await?;
    let joined = began.elapsed();
    let count = plan.participants;
    progress(&format!(
        "{count} participants joined in {:.2} s",
        joined.as_secs_f64()
    ));
    let watchers = join_full_clients(&cli, &plan, epoch, &left).await?;
    tokio::time::sleep(Duration::from_secs(cli.settle)).await;

    let calls = match cli.pid {
        Some(pid) => Some(system_calls_a_second(pid).await),
        None => None,
    };
    let before = cli.pid.map(Usage::of).transpose()?;
    send(&orders, Order::Reset)?;
    let started = Instant::now();
    let churned = play(&cli, &plan, &shared, &left, &mut crowd, &watched).await?;
    let usage = match (cli.pid, before) {
        (Some(pid), Some(before)) => Some(Usage::of(pid)?.since(&before)),
        _ => None,
    };
    let time = started.elapsed();
    send(&orders, Order::Finish)?;
    let outcome = media
        .join()
        .map_err(|_| anyhow::anyhow!("the media thread panicked"))??;
    let _ = leave.send(true);
    let mut full_clients = Findings::default();
    for findings in watchers.join_all().await {
        full_clients.add(&findings?);
    }
    while crowd.join_next().await.is_some() {}

    progress("measuring the floor");
    let floor = Floor::measure(Shape::of(&outcome.bursts, outcome.receivers, time), cli.pid)?;
    let report = Report::new(Run {
        plan,
        time,
        joined,
        guests: churned,
        usage,
        resident_at_rest: at_rest.map_or(0, |usage| usage.resident),
        system_calls_a_second: calls.map(|calls| calls.map_err(|error| format!("{error:#}"))),
        floor,
        full_clients,
        outcome: &outcome,
    });
    publish(&cli, &report, &outcome)
}

/// Counted before anything else is measured: counting makes each call of every process dearer.
async fn system_calls_a_second(pid: u32) -> anyhow::Result<u64> {
    let calls = SystemCalls::watch(pid)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    calls.count()
}

fn publish(cli: &Cli, report: &Report, outcome: &Outcome) -> anyhow::Result<()> {
    println!("{}", report.table());
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(report)?;
        std::fs::write(path, text).with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(path) = &cli.html {
        let page = report.html(outcome);
        std::fs::write(path, page).with_context(|| format!("--html {}", path.display()))?;
    }
    Ok(())
}

/// Lets all participants join, some at a time; they then run by themselves.
async fn join_all(
    cli: &Cli,
    plan: &Plan,
    shared: &Arc<Shared>,
    left: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut crowd = JoinSet::new();
    let gate = Arc::new(Semaphore::new(plan.joining));
    let (joined, mut joins) = mpsc::unbounded_channel();
    for index in 0..plan.participants {
        let (room, role) = plan.role(index);
        let token = token(cli, room, identity(index))?;
        let (shared, left, gate, joined) =
            (shared.clone(), left.clone(), gate.clone(), joined.clone());
        crowd.spawn(async move {
            let permit = gate.acquire().await?;
            let session = Session::join(shared, role, &token).await;
            drop(permit);
            let _ = joined.send(session.is_ok());
            session?.run(left).await
        });
    }
    for count in 1..=plan.participants {
        if joins.recv().await != Some(true) {
            while let Some(ended) = crowd.join_next().await {
                ended?.context("a participant could not join")?;
            }
            bail!("a participant could not join");
        }
        if count.is_multiple_of(100) {
            progress(&format!("{count} of {} joined", plan.participants));
        }
    }
    Ok(crowd)
}

/// Lets the complete clients join, spread over the rooms; they then run by themselves.
async fn join_full_clients(
    cli: &Cli,
    plan: &Plan,
    epoch: Instant,
    left: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<anyhow::Result<Findings>>> {
    let mut clients = JoinSet::new();
    for index in 0..cli.full_clients {
        let token = token(cli, index % plan.rooms, format!("full-{index}"))?;
        let url = cli.url.trim_end_matches('/');
        let client = FullClient::join(url, &token, epoch).await?;
        clients.spawn(client.run(left.clone()));
    }
    Ok(clients)
}

/// Lets the time of the measurement pass; with churn, participants come and go meanwhile.
/// Says how many.
async fn play(
    cli: &Cli,
    plan: &Plan,
    shared: &Arc<Shared>,
    left: &watch::Receiver<bool>,
    crowd: &mut JoinSet<anyhow::Result<()>>,
    watched: &Progress,
) -> anyhow::Result<usize> {
    let end = tokio::time::Instant::now() + Duration::from_secs(cli.duration);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut guests = 0;
    let began = Instant::now();
    let second = Duration::from_secs(1);
    let mut line = tokio::time::interval_at(tokio::time::Instant::now() + second, second);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return Ok(guests),
            _ = line.tick() => progress(&watched.line(began)),
            Some(ended) = crowd.join_next() => ended?.context("a participant was lost")?,
            _ = pace.tick(), if plan.churn => {
                let index = plan.participants + guests;
                guests += 1;
                let (room, role) = plan.role(index);
                let token = token(cli, room, identity(index))?;
                let (shared, all_left) = (shared.clone(), left.clone());
                crowd.spawn(async move {
                    let (leave, left) = watch::channel(false);
                    let session = Session::join(shared, role, &token).await?;
                    let stay = tokio::spawn(session.run(left));
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    drop(all_left);
                    let _ = leave.send(true);
                    stay.await?
                });
            }
        }
    }
}

fn token(cli: &Cli, room: usize, name: String) -> anyhow::Result<String> {
    let keys: ApiKeys = [(cli.api_key.clone(), cli.api_secret.clone())]
        .into_iter()
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: name,
        video: Some(VideoGrant {
            room_join: true,
            room: format!("{}-{room}", cli.room),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    let ttl = Duration::from_secs(6 * 3_600);
    Ok(TokenIssuer::new(keys).issue(None, &claims, now, ttl)?)
}

fn send(orders: &Sender<Order>, order: Order) -> anyhow::Result<()> {
    orders
        .send(order)
        .ok()
        .context("the media thread has ended")
}

fn progress(text: &str) {
    eprintln!("{text}");
}
