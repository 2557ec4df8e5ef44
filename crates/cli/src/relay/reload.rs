//! Reads `relay.toml` again when the process is sent SIGHUP, as `systemctl reload` does.

use rejoin_relay::Limits;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use toml::Value;
use tracing::{error, info, warn};

use super::settings::{Settings, is_read_again};
use super::{RelayArguments, in_effect};

/// Tells the relay of limits that changed in its file, for as long as it is polled. A file that is
/// not right changes nothing, and the log says what is wrong with it.
///
/// `settings` are those that the relay was started with.
pub(super) async fn follow(
    arguments: RelayArguments,
    mut settings: Settings,
    limits: watch::Sender<Limits>,
) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return warn!(%error, "SIGHUP will not have the settings read again"),
    };
    let started_with = settings.values();
    while hangup.recv().await.is_some() {
        match in_effect(&arguments) {
            Ok(mut settings) => {
                limits.send_replace(Limits::of(&settings.config));
                let others = of_another_start(&started_with, &settings.values());
                info!("the settings were read again");
                if !others.is_empty() {
                    let settings = others.join(", ");
                    warn!(settings, "these take effect when the relay is started again");
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                error!(error, "the settings stay as they are");
            }
        }
    }
}

/// The settings that are others now, and count only at a start.
fn of_another_start(before: &[(String, Value)], now: &[(String, Value)]) -> Vec<String> {
    let only_in = |some: &[(String, Value)], others: &[(String, Value)]| -> Vec<String> {
        let only = some.iter().filter(|setting| !others.contains(setting));
        only.map(|(path, _)| path.clone()).collect()
    };
    let mut paths = only_in(before, now);
    paths.extend(only_in(now, before));
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| !is_read_again(path));
    paths
}
