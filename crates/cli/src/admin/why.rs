//! Why a device is behind, in sentences.

use std::path::Path;

use anyhow::{Result, bail};
use rejoin_relay::admin::{ConnectionAnswer, DeviceAnswer, DeviceSpace, SpaceAnswer};
use serde_json::json;

use super::{connections, devices, spaces, user_of};
use crate::clock::clock_of_ms;
use crate::output::{Output, count};
use crate::units::shown_bytes;

pub(super) fn run(data: &Path, wanted: &str, output: Output) -> Result<()> {
    let mut found = devices(data)?;
    found.retain(|device| device.device.starts_with(wanted));
    let device = match found.as_slice() {
        [device] => device,
        [] => bail!(
            "no device whose id begins with {wanted} was ever here; `rejoin admin devices` lists \
             those that were, and `rejoin whoami` at the device tells its id"
        ),
        _ => bail!("several ids begin with {wanted}; write more of it"),
    };
    let connection =
        connections(data)?.into_iter().find(|it| it.device.as_ref() == Some(&device.device));
    let mut why = sentences(device, connection.as_ref());
    // Of a device that never came far nobody knows the spaces.
    let is_its = |space: &SpaceAnswer| {
        device.spaces.is_empty() || device.spaces.iter().any(|it| it.space == space.space)
    };
    let full = spaces(data)?.into_iter().filter(is_its).filter_map(|space| space.full);
    why.extend(full.map(|full| format!("Of its edits some may have to wait: {full}.")));
    output.result(&json!({ "device": device, "connection": connection, "why": why }), || {
        why.join(" ")
    })
}

fn sentences(device: &DeviceAnswer, connection: Option<&ConnectionAnswer>) -> Vec<String> {
    let mut said = vec![format!("This is {}.", who(device))];
    match connection {
        Some(connection) => said.push(format!(
            "It is connected from {}, for {} seconds.",
            connection.remote, connection.seconds
        )),
        None => said.push(format!(
            "It is not connected, and was last here at {}: until it comes back nothing reaches it, \
             and nothing of it is known.",
            clock_of_ms(device.seen_ms as i64)
        )),
    }
    if device.spaces.is_empty() {
        said.push(match connection {
            Some(_) => {
                "How far it has come is not known yet: it holds nothing, or documents without a \
                        mark of this store, which it compares."
                    .to_owned()
            }
            None => "How far it has come is not known.".to_owned(),
        });
    }
    said.extend(device.spaces.iter().map(|space| of_space(space, connection)));
    if let Some(connection) = connection.filter(|it| it.unread_bytes > 0) {
        said.push(format!(
            "{} wait until it reads: its line is slow, or its program is busy.",
            shown_bytes(connection.unread_bytes as u64)
        ));
    }
    if device.waited_on_arrival > 0 {
        let edits = count(device.waited_on_arrival, "edit");
        said.push(match connection {
            Some(it) => format!(
                "{edits} waited there when it came; {} arrived since.",
                count(it.changes, "change")
            ),
            None => format!("{edits} waited there when it came last."),
        });
    }
    said
}

fn who(device: &DeviceAnswer) -> String {
    let user = user_of(device);
    let app = device.app.as_deref().unwrap_or("a program that does not say which");
    match user.as_str() {
        "-" => format!("a device without a user, with {app}"),
        user => format!("the device of {user}, with {app}"),
    }
}

fn of_space(space: &DeviceSpace, connection: Option<&ConnectionAnswer>) -> String {
    let DeviceSpace { space: name, position, of, older, sent } = space;
    let behind = of.saturating_sub(*position);
    let verb = if *sent { "was sent" } else { "has" };
    let mut text = match behind {
        0 => format!("It {verb} everything new of {name}"),
        behind => format!("Of {name} it {verb} all but the last {}", count(behind, "change")),
    };
    if *older > 0 {
        text.push_str(&format!(", but {older} older changes are still to come"));
    }
    if *sent && connection.is_none() {
        text.push_str("; whether that arrived, it says when it comes back");
    }
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(connected: bool, position: u64, older: u64, waiting: u64) -> DeviceAnswer {
        let sent = !connected;
        let space = DeviceSpace { space: "main".to_owned(), position, of: 100, older, sent };
        DeviceAnswer {
            device: "3f".to_owned(),
            user: Some("ana".to_owned()),
            name: None,
            app: Some("rejoin 1".to_owned()),
            first_ms: 0,
            seen_ms: 1_800_000_000_000,
            connected,
            waited_on_arrival: waiting,
            spaces: vec![space],
        }
    }

    #[test]
    fn it_says_what_is_known_and_no_more() {
        let away = sentences(&device(false, 88, 0, 3), None).join(" ");
        assert!(away.contains("not connected, and was last here"), "{away}");
        assert!(
            away.contains("was sent all but the last 12 changes; whether that arrived"),
            "{away}"
        );
        assert!(away.contains("3 edits waited there when it came last"), "{away}");
        let here = sentences(&device(true, 100, 40, 0), None).join(" ");
        assert!(here.contains("has everything new of main, but 40 older"), "{here}");
    }
}
