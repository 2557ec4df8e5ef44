//! `rejoin admin`: asks a relay that runs, over the socket in its folder.

mod carried;
mod erase;
mod revoke;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use rejoin_relay::admin::{
    self, Answer, Ask, ConnectionAnswer, DeviceAnswer, DocumentAnswer, LossAnswer,
    QuarantinedAnswer, SpaceAnswer,
};
use serde_json::json;

use self::carried::CarriedArguments;
use self::erase::EraseArguments;
use self::revoke::RevokeArguments;
use crate::backup;
use crate::clock::clock_of_ms;
use crate::layout::{Table, width};
use crate::output::{Output, Text, count};
use crate::place::PlaceArguments;
use crate::units::shown_bytes;

#[derive(Debug, Args)]
#[command(after_help = "\
The relay answers at a socket in its folder, which only the user who runs it can use.")]
pub(crate) struct AdminArguments {
    /// The relay's folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// List the devices that were ever here, how far each has come, and what waited there
    Devices,
    /// Say in a few sentences why a device is behind
    Why {
        /// The device's id, or its beginning
        device: String,
    },
    /// List the spaces, with what they hold
    Spaces,
    /// List the documents of the space (--space), the one changed last first
    Documents {
        /// Only those of this collection
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
        /// Only those changed last before this position
        #[arg(long, value_name = "POSITION")]
        before: Option<u64>,
        /// So many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: usize,
    },
    /// List the connections of now
    Connections,
    /// List damage that is not mended: documents that cannot be, and changes that are lost
    Quarantined,
    /// Erase documents of the space (--space) for good, here and at every replica that comes
    #[command(after_help = "\
Nothing of it is left in the relay's file or in a replica's, and its rows leave the targets of adapters. A \
device that was away and edited it keeps that edit aside. Backups of before still have it, and so has \
whatever took it out of Rejoin.")]
    Erase(EraseArguments),
    /// Give up what a document of the space (--space) lost to damage, as nobody will bring it back
    AcceptLoss {
        /// The document's id, as `quarantined` has it
        document: String,
    },
    /// End a connection, or those of a device; a replica comes back after a moment
    Kick {
        /// The connection's number, or the device's id
        who: String,
    },
    /// Shut out a user, a device or a token; their sessions end, and what they wrote waits with them
    #[command(after_help = "\
A user is shut out with the tokens that were made until now: have the login give no new ones. Edits that \
wait at a device stay there, and come when it is let in again with --lift.")]
    Revoke(RevokeArguments),
    /// List who is shut out
    Revoked,
    /// List changes that were taken from others than their authors, and let that be for a while
    #[command(after_help = "\
With tokens, a relay takes a change only from the person whose name it bears. After a restore, what a \
colleague sent before is still on the devices of others, who may carry it while this is open. Nobody has \
proved that what they carried is by who it says. A relay that starts again takes none.")]
    Carried(CarriedArguments),
    /// Fold all histories that have something to fold, or make the file shorter
    Compact {
        /// Only those of this space, and not of all
        #[arg(long, value_name = "NAME", conflicts_with = "file")]
        only: Option<String>,
        /// Close the gaps in the relay's file; everybody waits some seconds for each gigabyte
        #[arg(long)]
        file: bool,
    },
    /// Take a backup, as `rejoin backup` does
    Backup {
        /// Where to write it: a file that there is not yet, or `-` for standard output
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &AdminArguments,
    output: Output,
) -> Result<ExitCode> {
    let AdminArguments { data, command } = arguments;
    match command {
        AdminCommand::Devices => {
            let devices = devices(data)?;
            output.result(&json!({ "devices": devices }), || devices_table(&devices))?;
        }
        AdminCommand::Why { device } => why::run(data, device, output)?,
        AdminCommand::Spaces => {
            let spaces = spaces(data)?;
            output.result(&json!({ "spaces": spaces }), || spaces_table(&spaces))?;
        }
        AdminCommand::Documents { collection, before, limit } => {
            let (space, collection) = (place.space.clone(), collection.clone());
            let ask = Ask::Documents { space, collection, before: *before, limit: *limit };
            let Answer::Documents(documents) = admin::ask(data, &ask)? else { bail!(OTHER) };
            output.result(&json!({ "documents": documents }), || documents_table(&documents))?;
        }
        AdminCommand::Connections => {
            let connections = connections(data)?;
            let table = || connections_table(&connections);
            output.result(&json!({ "connections": connections }), table)?;
        }
        AdminCommand::Quarantined => {
            let answer = admin::ask(data, &Ask::Quarantined)?;
            let Answer::Quarantined(damage) = answer else { bail!(OTHER) };
            output.result(&damage, || quarantined(&damage))?;
        }
        AdminCommand::Erase(arguments) => erase::run(place, data, arguments, output).await?,
        AdminCommand::AcceptLoss { document } => {
            accept_loss(data, &place.space, document, output)?;
        }
        AdminCommand::Kick { who } => kick(data, who, output)?,
        AdminCommand::Revoke(arguments) => revoke::revoke(data, arguments, output)?,
        AdminCommand::Revoked => revoke::list(data, output)?,
        AdminCommand::Carried(arguments) => carried::run(data, arguments, output)?,
        AdminCommand::Compact { only, file } => compact(data, only.clone(), *file, output)?,
        AdminCommand::Backup { to } => return backup::take(&place.key, data, to, output),
    }
    Ok(ExitCode::SUCCESS)
}

fn devices(data: &Path) -> Result<Vec<DeviceAnswer>> {
    match admin::ask(data, &Ask::Devices)? {
        Answer::Devices(devices) => Ok(devices),
        _ => bail!(OTHER),
    }
}

fn spaces(data: &Path) -> Result<Vec<SpaceAnswer>> {
    match admin::ask(data, &Ask::Spaces)? {
        Answer::Spaces(spaces) => Ok(spaces),
        _ => bail!(OTHER),
    }
}

fn connections(data: &Path) -> Result<Vec<ConnectionAnswer>> {
    match admin::ask(data, &Ask::Connections)? {
        Answer::Connections(connections) => Ok(connections),
        _ => bail!(OTHER),
    }
}

fn kick(data: &Path, who: &str, output: Output) -> Result<()> {
    let (connection, device) = match who.parse() {
        Ok(connection) => (Some(connection), None),
        Err(_) => (None, Some(whole_id(data, who)?)),
    };
    let Answer::Done(kicked) = admin::ask(data, &Ask::Kick { connection, device })? else {
        bail!(OTHER)
    };
    if kicked == 0 {
        bail!("{who} is not connected; `rejoin admin connections` lists those that are");
    }
    output.result(&json!({ "ended": kicked }), || format!("{} ended", count(kicked, "connection")))
}

fn accept_loss(data: &Path, space: &str, document: &str, output: Output) -> Result<()> {
    let ask = Ask::AcceptLoss { space: space.to_owned(), document: document.to_owned() };
    let Answer::Done(accepted) = admin::ask(data, &ask)? else { bail!(OTHER) };
    if accepted == 0 {
        bail!(
            "the relay knows of nothing that {document} of {space} lost; `rejoin admin quarantined` \
             lists what is lost, with its space"
        );
    }
    output.result(&json!({ "accepted": document }), || {
        format!("{document}: what it lost is given up; should a device bring it, it is taken in")
    })
}

/// The id of the connected device that begins like this.
fn whole_id(data: &Path, begin: &str) -> Result<String> {
    let mut found: Vec<_> = connections(data)?.into_iter().filter_map(|it| it.device).collect();
    found.retain(|id| !begin.is_empty() && id.starts_with(begin));
    found.sort();
    found.dedup();
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => bail!(
            "no device whose id begins with {begin:?} is connected; `rejoin admin connections` lists \
             those that are"
        ),
        _ => bail!("several ids begin with {begin}; write more of it"),
    }
}

fn compact(data: &Path, space: Option<String>, file: bool, output: Output) -> Result<()> {
    let ask = if file { Ask::Shrink } else { Ask::Fold { space } };
    let Answer::Done(done) = admin::ask(data, &ask)? else { bail!(OTHER) };
    if file {
        return output.result(&json!({ "bytes_freed": done }), || {
            format!("the file is {} shorter", shown_bytes(done))
        });
    }
    output.result(&json!({ "documents": done }), || match done {
        0 => "there is nothing to fold".to_owned(),
        done => format!("from now on {} folded, one after the other", are(done, "document")),
    })
}

fn are(number: u64, noun: &str) -> String {
    format!("{} {}", count(number, noun), if number == 1 { "is" } else { "are" })
}

fn devices_table(devices: &[DeviceAnswer]) -> Text {
    if devices.is_empty() {
        return "no device was ever here".into();
    }
    let mut table =
        Table::new(["device", "user", "last here", "behind", "waited on arrival", "program"])
            .keeping(1);
    for device in devices {
        let seen = match device.connected {
            true => "now".to_owned(),
            false => clock_of_ms(device.seen_ms as i64),
        };
        let behind: u64 = device
            .spaces
            .iter()
            .map(|space| space.of - space.position.min(space.of) + space.older)
            .sum();
        table.row([
            device.device.clone(),
            user_of(device),
            seen,
            if device.spaces.is_empty() { "?".to_owned() } else { none_or(behind) },
            none_or(device.waited_on_arrival),
            device.app.clone().unwrap_or_default(),
        ]);
    }
    table.fit(width())
}

fn user_of(device: &DeviceAnswer) -> String {
    match (&device.user, &device.name) {
        (Some(user), Some(name)) => format!("{user} on {name}"),
        (Some(user), None) => user.clone(),
        _ => "-".to_owned(),
    }
}

fn none_or(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { number.to_string() }
}

fn spaces_table(spaces: &[SpaceAnswer]) -> Text {
    if spaces.is_empty() {
        return "no space holds anything".into();
    }
    let mut table = Table::new(["space", "documents", "changes", "size", "here", "collections"]);
    for space in spaces {
        let collections = space.collections.iter();
        let collections = collections.map(|(name, documents)| format!("{name} {documents}"));
        table.row([
            space.space.clone(),
            space.documents.to_string(),
            space.changes.to_string(),
            shown_bytes(space.bytes),
            space.connections.to_string(),
            collections.collect::<Vec<_>>().join(", "),
        ]);
    }
    let full = spaces.iter().filter_map(|space| space.full.as_deref()).map(Text::from);
    Text::lines([table.fit(width())].into_iter().chain(full))
}

fn documents_table(documents: &[DocumentAnswer]) -> Text {
    if documents.is_empty() {
        return "there are none".into();
    }
    let headings = ["document", "collection", "changes", "size", "pos."];
    let mut table = Table::new(headings).keeping(1);
    for document in documents {
        table.row([
            document.document.clone(),
            document.collection.clone(),
            document.changes.to_string(),
            match document.erased_ms {
                Some(_) => "erased".to_owned(),
                None => shown_bytes(document.bytes + document.snapshot_bytes),
            },
            document.position.to_string(),
        ]);
    }
    table.fit(width())
}

fn connections_table(connections: &[ConnectionAnswer]) -> Text {
    if connections.is_empty() {
        return "nobody is connected".into();
    }
    let mut table =
        Table::new(["no.", "who", "from", "for", "in", "out", "behind", "spaces"]).keeping(2);
    for connection in connections {
        let who = [&connection.user, &connection.peer, &connection.device];
        let who = who.into_iter().flatten().next().cloned();
        table.row([
            connection.connection.to_string(),
            who.unwrap_or_else(|| "-".to_owned()),
            connection.remote.clone(),
            format!("{} s", connection.seconds),
            shown_bytes(connection.bytes_in),
            shown_bytes(connection.bytes_out),
            none_or(connection.behind),
            connection.spaces.join(" "),
        ]);
    }
    table.fit(width())
}

fn quarantined(damage: &QuarantinedAnswer) -> String {
    let mut lines = Vec::new();
    for number in &damage.unmendable {
        lines.push(format!(
            "document no. {number} of the file cannot be mended; stop the relay, and run `rejoin \
             doctor --salvage` on its folder"
        ));
    }
    for loss in &damage.lost {
        let LossAnswer { space, document, changes, more, found_ms } = loss;
        let lost = match (*changes, *more) {
            (0, _) => "changes".to_owned(),
            (changes, false) => count(changes, "change"),
            (changes, true) => format!("{} and more", count(changes, "change")),
        };
        let since = found_ms.map(|at| format!(", found at {}", clock_of_ms(at as i64)));
        lines.push(format!(
            "{document} of {space} lost {lost}{}: let a device connect that had everything, or give \
             them up with `rejoin admin --space {space} accept-loss {document}`",
            since.unwrap_or_default()
        ));
    }
    for (document, changes) in &damage.held_back {
        let changes = count(*changes, "change");
        lines.push(format!("{document}: {changes} held back until a lost one comes again"));
    }
    if lines.is_empty() {
        lines.push("nothing is lost, and nothing is beyond mending".to_owned());
    }
    lines.join("\n")
}

const OTHER: &str = "the relay gives another answer than asked; start it again with this version";
