//! A changed configuration, taken over while the server runs.

use anyhow::Context;
use moim_signaling::Connections;
use moim_signaling::token::ApiKeys;

use crate::config::Config;

/// Reads the configuration again, as the command line says where it is.
pub type ReadConfig = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;
/// Sets another level of the log.
pub type SetLogLevel = Box<dyn Fn(&Config) -> anyhow::Result<()> + Send + Sync>;

/// What is done on SIGHUP.
pub struct Reload {
    /// Reads the configuration again.
    pub read: ReadConfig,
    /// Sets another level of the log.
    pub set_log_level: SetLogLevel,
}

impl Reload {
    /// Takes over what can be changed, each time that SIGHUP comes. Never ends.
    pub(crate) async fn run(
        &self,
        mut hangups: Hangups,
        mut config: Config,
        keys: &ApiKeys,
        connections: &Connections,
    ) {
        loop {
            hangups.next().await;
            match self.take_over(&config, keys, connections) {
                Ok(changed) => config = changed,
                Err(error) => {
                    tracing::error!("the configuration stays as it is: {error:#}");
                }
            }
        }
    }

    fn take_over(
        &self,
        before: &Config,
        keys: &ApiKeys,
        connections: &Connections,
    ) -> anyhow::Result<Config> {
        let mut after = (self.read)()?;
        for weak in after.set_weak_keys_aside() {
            tracing::error!("{weak}");
        }
        // Nobody could join any more: a mistake rather than a wish.
        if after.keys.is_empty() {
            anyhow::bail!("`keys` has no key that can be used");
        }
        let changes = before.changes(&after);
        (self.set_log_level)(&after).context("the level of the log")?;
        keys.replace(after.key_pairs());
        connections.set_limits(after.limit.connections());
        let named = |reload: bool| {
            let names = changes.iter().filter(|(_, can)| *can == reload);
            names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        };
        tracing::info!(changed = %named(true), "the configuration was read again");
        let waiting = named(false);
        if !waiting.is_empty() {
            tracing::warn!(keys = %waiting, "changes that wait for the next start");
        }
        // Keys that wait for the next start keep their former values.
        Ok(Config {
            keys: after.keys,
            key_file: after.key_file,
            limit: crate::config::LimitConfig {
                num_rooms: before.limit.num_rooms,
                ..after.limit
            },
            logging: crate::config::LoggingConfig {
                json: before.logging.json,
                ..after.logging
            },
            ..before.clone()
        })
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

/// SIGHUPs; on systems without it none ever comes.
pub(crate) struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    /// From now on SIGHUP no longer ends the process.
    pub(crate) fn new() -> Hangups {
        Hangups {
            #[cfg(unix)]
            signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
