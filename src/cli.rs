//! The command line.

mod kept;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use rand::RngExt;
use rand::distr::Alphanumeric;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Config;
use crate::reload::{Reload, SetLogLevel};
use crate::room::Now;

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
    #[arg(long, global = true)]
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
    /// The audit log of the store
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Prints the usage of the months, the latest first, as JSON
    Usage {
        /// For each room instead of all rooms together
        #[arg(long)]
        by_room: bool,
        /// As comma-separated values
        #[arg(long)]
        csv: bool,
    },
    /// Deletes a person's names from the audit log and the usage
    Forget {
        /// The identity
        #[arg(long)]
        identity: String,
    },
    /// Copies the store to a new file, also while the server runs
    Backup {
        /// The file, which must not exist
        to: PathBuf,
    },
    /// Puts a copy in the store's place, while the server does not run
    Restore {
        /// The copy
        from: PathBuf,
    },
    /// The configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Checks that no entry was changed, taken out or put in
    Verify,
    /// Prints the entries, a JSON object a line
    Export,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads the configuration and says what is wrong with it
    Check,
    /// Prints every key as it is in use, secrets masked
    Show,
    /// Prints a file with every key and its default
    Sample,
    /// Prints the documentation of every key
    #[command(hide = true)]
    Docs,
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

impl Options {
    /// Where the store is.
    fn store(&self) -> anyhow::Result<PathBuf> {
        let (config, _) = read_config(self)?;
        if config.store.path.is_empty() {
            bail!("nothing is kept: `store.path` is empty");
        }
        Ok(config.store.path.into())
    }
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
            Some(Command::Audit { command }) => kept::audit(&self.options.store()?, &command),
            Some(Command::Usage { by_room, csv }) => {
                kept::usage(&self.options.store()?, by_room, csv)
            }
            Some(Command::Forget { identity }) => kept::forget(&self.options.store()?, &identity),
            Some(Command::Backup { to }) => kept::backup(&self.options.store()?, &to),
            Some(Command::Restore { from }) => kept::restore(&self.options.store()?, &from),
            Some(Command::Config { command }) => config_command(&self.options, &command),
        }
    }
}

fn random(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len)
        .map(|_| char::from(rng.sample(Alphanumeric)))
        .collect()
}

/// Prints for the person at the terminal, or for a program that may have closed its end.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn config_command(options: &Options, command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check => {
            let (mut config, ignored) = read_config(options)?;
            if config.keys.is_empty() {
                bail!("`keys` is empty: give at least one `API_KEY: SECRET`");
            }
            if let Some(weak) = config.set_weak_keys_aside().into_iter().next() {
                return Err(weak.into());
            }
            if !ignored.is_empty() {
                print_line(&format!("without meaning here: {}", ignored.join(", ")));
            }
            print_line("the configuration is good");
        }
        ConfigCommand::Show => print_line(read_config(options)?.0.show().trim_end()),
        ConfigCommand::Sample => print_line(Config::sample().trim_end()),
        ConfigCommand::Docs => print_line(Config::documentation().trim_end()),
    }
    Ok(())
}

fn read_config(options: &Options) -> anyhow::Result<(Config, Vec<&'static str>)> {
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
    if !config.key_file.is_empty() {
        let path = config.key_file.clone();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path} (`key_file`)"))?;
        config.add_keys(&text, &path)?;
    }
    if let Some(keys) = &options.keys {
        config.add_keys(keys, "--keys or LIVEKIT_KEYS")?;
    }
    if options.dev || (!given && options.keys.is_none()) {
        config = config.into_development();
    }
    if !options.bind.is_empty() {
        config.bind_addresses.clone_from(&options.bind);
    }
    if let Some(ip) = options.node_ip {
        config.rtc.node_ip = ip.into();
    }
    if let Some(port) = options.udp_port {
        config.rtc.udp_port = port.into();
    }
    config.rtc.shards = options.shards.unwrap_or(config.rtc.shards);
    Ok((config, ignored))
}

fn serve(options: Options) -> anyhow::Result<()> {
    let (config, ignored) = read_config(&options)?;
    let set_log_level = start_logging(&config)?;
    if !ignored.is_empty() {
        tracing::info!(keys = %ignored.join(", "), "configuration keys that have no meaning here");
    }
    let reload = Reload {
        read: Box::new(move || Ok(read_config(&options)?.0)),
        set_log_level,
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(crate::server::run(config, reload))
}

/// What the log has, by the configuration or `RUST_LOG`.
fn log_filter(config: &Config) -> anyhow::Result<EnvFilter> {
    let level = &config.logging.level;
    // The protocol libraries' own chatter is for those who ask for it by name. SCTP's calls the
    // ABORT with which a client leaves (RFC 9260, section 9.1) an error.
    let quiet = if level.contains(['=', ',']) {
        level.clone()
    } else {
        format!("{level},rtc=warn,rtc_dtls=error,rtc_sctp=off,rtc_ice=error")
    };
    EnvFilter::try_new(std::env::var("RUST_LOG").unwrap_or(quiet)).with_context(|| {
        format!("`logging.level` is `{level}`; it must be error, warn, info, debug or trace")
    })
}

/// Starts the log. Gives what sets another level.
fn start_logging(config: &Config) -> anyhow::Result<SetLogLevel> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(log_filter(config)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if config.logging.json {
        registry.with(lines.json()).init();
    } else {
        registry.with(lines).init();
    }
    Ok(Box::new(move |config| {
        handle.reload(log_filter(config)?)?;
        Ok(())
    }))
}

fn create_token(options: &Options, token: &TokenOptions) -> anyhow::Result<()> {
    let (config, _) = read_config(options)?;
    let keys: ApiKeys = config.key_pairs().collect();
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
    let now = Now::read().unix_s();
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
