//! `rejoin admin revoke` and `revoked`: who is shut out.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use rejoin_relay::admin::{self, Answer, Ask, RevokedKind};
use serde_json::json;

use super::{OTHER, devices};
use crate::clock::clock_of_ms;
use crate::layout::{Table, width};
use crate::output::{Output, Text};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// The user of this name, with the tokens that they have by now
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The device of this id, or of the one that begins so
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The token of this id, which `rejoin token inspect` shows as `jti`
    #[arg(long, value_name = "ID")]
    token: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    who: Who,
    /// Let them in again
    #[arg(long)]
    lift: bool,
}

pub(super) fn revoke(data: &Path, arguments: &RevokeArguments, output: Output) -> Result<()> {
    let Who { user, device, token } = &arguments.who;
    let (kind, name) = match (user, device, token) {
        (Some(user), _, _) => (RevokedKind::User, user.clone()),
        (_, Some(device), _) => (RevokedKind::Device, known(data, device)?),
        (_, _, Some(token)) => (RevokedKind::Token, token.clone()),
        (None, None, None) => bail!("name a user, a device or a token"),
    };
    let (lift, shown) = (arguments.lift, name.clone());
    let ask = Ask::Revoke { kind, name, lift };
    let Answer::Done(_) = admin::ask(data, &ask)? else { bail!(OTHER) };
    let done = if lift { "let in again" } else { "shut out" };
    output.result(&json!({ "kind": kind, "name": shown, "revoked": !lift }), || {
        format!("{} {shown} is {done}", word(kind))
    })
}

/// The whole id of a device that was ever here.
fn known(data: &Path, begin: &str) -> Result<String> {
    let ids = devices(data)?.into_iter().map(|it| it.device);
    let mut ids: Vec<_> = ids.filter(|id| id.starts_with(begin)).collect();
    match (ids.pop(), ids.len()) {
        (Some(id), 0) => Ok(id),
        (Some(_), others) => {
            bail!("{} devices begin with {begin}; write more of the id", others + 1)
        }
        (None, _) => {
            bail!("no device {begin} was ever here; `rejoin admin devices` lists those that were")
        }
    }
}

pub(super) fn list(data: &Path, output: Output) -> Result<()> {
    let Answer::Revoked(revoked) = admin::ask(data, &Ask::Revoked)? else { bail!(OTHER) };
    output.result(&json!({ "revoked": revoked }), || {
        if revoked.is_empty() {
            return Text::from("nobody is shut out");
        }
        let mut table = Table::new(["", "who", "since"]);
        for it in &revoked {
            let since = clock_of_ms(i64::try_from(it.since_s * 1000).unwrap_or(i64::MAX));
            table.row([word(it.kind).to_owned(), it.name.clone(), since]);
        }
        table.fit(width())
    })
}

fn word(kind: RevokedKind) -> &'static str {
    match kind {
        RevokedKind::User => "user",
        RevokedKind::Device => "device",
        RevokedKind::Token => "token",
        _ => "",
    }
}
