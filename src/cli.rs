//! The command line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use rand::RngExt;
use rand::distr::Alphanumeric;

use crate::config::Config;

/// A video-conferencing server. Without a configuration it starts in development mode.
#[derive(Debug, Parser)]
#[command(name = "moim", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file (YAML)
    #[arg(long, global = true, env = "MOIM_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// The configuration itself instead of a file
    #[arg(
        long,
        global = true,
        env = "LIVEKIT_CONFIG",
        conflicts_with = "config",
        hide_env_values = true
    )]
    config_body: Option<String>,
    /// API keys as `KEY: SECRET`, one a line
    #[arg(long, global = true, env = "LIVEKIT_KEYS", hide_env_values = true)]
    keys: Option<String>,
    /// Development mode: loopback, API key devkey, tokens for anybody
    #[arg(long)]
    dev: bool,
    /// Address to listen on; may be given several times
    #[arg(long)]
    bind: Vec<IpAddr>,
    /// Address to announce for media
    #[arg(long, env = "NODE_IP")]
    node_ip: Option<IpAddr>,
    /// UDP port of the first media shard
    #[arg(long, env = "UDP_PORT")]
    udp_port: Option<u16>,
    /// Media shards; one a core when not given
    #[arg(long)]
    shards: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Access tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// API keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Prints a token with which a participant joins a room
    Create(TokenOptions),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Prints a new API key and secret
    Generate,
}

#[derive(Debug, Args)]
struct TokenOptions {
    /// Room
    #[arg(long)]
    room: String,
    /// Identity, unique in the room
    #[arg(long)]
    identity: String,
    /// Name to be shown
    #[arg(long, default_value = "")]
    name: String,
    /// Metadata of the participant
    #[arg(long, default_value = "")]
    metadata: String,
    /// Attribute as NAME=VALUE; may be given several times
    #[arg(long)]
    attribute: Vec<String>,
    /// How long it is valid: a number with s, m, h or d
    #[arg(long, default_value = "6h", value_parser = parse_duration)]
    valid_for: u64,
    /// May publish
    #[arg(long, action = clap::ArgAction::Set)]
    can_publish: Option<bool>,
    /// May subscribe
    #[arg(long, action = clap::ArgAction::Set)]
    can_subscribe: Option<bool>,
    /// May send data
    #[arg(long, action = clap::ArgAction::Set)]
    can_publish_data: Option<bool>,
    /// Sources that may be published: camera, microphone, screen_share, screen_share_audio
    #[arg(long, value_delimiter = ',')]
    source: Vec<String>,
    /// Is not seen by the others
    #[arg(long)]
    hidden: bool,
    /// May administer the room
    #[arg(long)]
    admin: bool,
}

fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number with s, m, h or d, such as 6h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// With a text for the person at the terminal.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            None => serve(self.options),
            Some(Command::Token {
                command: TokenCommand::Create(token),
            }) => create_token(&self.options, &token),
            Some(Command::Keys {
                command: KeysCommand::Generate,
            }) => {
                print_line(&format!("API{}: {}", random(13), random(43)));
                Ok(())
            }
        }
    }
}

fn random(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len)
        .map(|_| char::from(rng.sample(Alphanumeric)))
        .collect()
}

#[allow(clippy::print_stdout)]
fn print_line(line: &str) {
    println!("{line}");
}

fn read_config(options: &Options) -> anyhow::Result<(Config, Vec<String>)> {
    let (mut config, ignored) = match (&options.config, &options.config_body) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Config::parse(&text, &path.display().to_string())?
        }
        (None, Some(body)) => Config::parse(body, "--config-body")?,
        (None, None) => (Config::default(), Vec::new()),
    };
    let given = options.config.is_some() || options.config_body.is_some();
    if let Some(keys) = &options.keys {
        config.add_keys(keys)?;
    }
    if options.dev || (!given && options.keys.is_none()) {
        config = config.into_development();
    }
    if !options.bind.is_empty() {
        config.bind_addresses.clone_from(&options.bind);
    }
    config.rtc.node_ip = options.node_ip.or(config.rtc.node_ip);
    config.rtc.udp_port = options.udp_port.unwrap_or(config.rtc.udp_port);
    config.rtc.shards = options.shards.unwrap_or(config.rtc.shards);
    Ok((config, ignored))
}

fn serve(options: Options) -> anyhow::Result<()> {
    let (config, ignored) = read_config(&options)?;
    start_logging(&config)?;
    if !ignored.is_empty() {
        tracing::info!(keys = %ignored.join(", "), "configuration keys that have no meaning here");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(crate::server::run(config))
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let level = &config.logging.level;
    // The protocol libraries' own chatter is for those who ask for it by name. SCTP's calls the
    // ABORT with which a client leaves (RFC 9260, section 9.1) an error.
    let quiet = if level.contains(['=', ',']) {
        level.clone()
    } else {
        format!("{level},rtc=warn,rtc_dtls=error,rtc_sctp=off,rtc_ice=error")
    };
    let filter =
        EnvFilter::try_new(std::env::var("RUST_LOG").unwrap_or(quiet)).with_context(|| {
            format!("`logging.level` is `{level}`; it must be error, warn, info, debug or trace")
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if config.logging.json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

fn create_token(options: &Options, token: &TokenOptions) -> anyhow::Result<()> {
    let (config, _) = read_config(options)?;
    let pairs = config
        .keys
        .iter()
        .map(|(key, secret)| (key.clone(), secret.0.clone()));
    let keys: ApiKeys = pairs.collect();
    if keys.is_empty() {
        bail!("no API key: give --keys 'KEY: SECRET' or --config FILE");
    }
    let mut attributes = HashMap::new();
    for attribute in &token.attribute {
        let (name, value) = attribute
            .split_once('=')
            .with_context(|| format!("--attribute is `{attribute}`; it must be NAME=VALUE"))?;
        attributes.insert(name.to_owned(), value.to_owned());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: token.identity.clone(),
        name: token.name.clone(),
        metadata: token.metadata.clone(),
        attributes,
        video: Some(VideoGrant {
            room_join: true,
            room_admin: token.admin,
            room: token.room.clone(),
            can_publish: token.can_publish,
            can_subscribe: token.can_subscribe,
            can_publish_data: token.can_publish_data,
            can_publish_sources: token.source.clone(),
            hidden: token.hidden,
            ..Default::default()
        }),
        ..Default::default()
    };
    let ttl = Duration::from_secs(token.valid_for);
    print_line(&TokenIssuer::new(keys).issue(None, &claims, now, ttl)?);
    Ok(())
}
