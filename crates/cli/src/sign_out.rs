//! `rejoin sign-out`: who was signed in with a token is not any more.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::local::Local;
use crate::output::Output;
use crate::place::PlaceArguments;

#[derive(Debug, Args)]
#[command(after_help = "\
Edits are nobody's until the next `rejoin sync` with a token, and whoever signs in by that sends only what \
is theirs. It is refused while edits wait for a relay: sync first, or give them up with --discard, and \
`rejoin status --json` lists what was given up.")]
pub(crate) struct SignOutArguments {
    /// Give up the edits that no relay holds
    #[arg(long)]
    pub(crate) discard: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &SignOutArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let was = local.replica.signed_in()?;
    local.replica.sign_out(arguments.discard).await?;
    output.result(&json!({ "signed_out": was }), || match &was {
        Some(user) => format!("{user} is signed out"),
        None => "nobody was signed in".to_owned(),
    })
}
