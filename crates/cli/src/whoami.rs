//! `rejoin whoami`: shows or sets the identity that the replica keeps.

use anyhow::{Context, Result};
use clap::Args;
use rejoin::Identity;
use serde_json::{Value, json};

use crate::identity::{person, whole};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::Output;
use crate::place::PlaceArguments;

#[derive(Debug, Args)]
#[command(after_help = "\
The replica keeps it, and everything edited from then on carries it: history, reviews and blame name \
people. Who signs in at a relay with a token edits as who that token names; otherwise it is a claim.")]
pub(crate) struct WhoamiArguments {
    /// The user, as people know them
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The role that rules speak of, such as dispatch; '' for none
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// This device, as people know it; '' for none
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Edit as nobody in particular
    #[arg(long, conflicts_with_all = ["user", "role", "device"])]
    pub(crate) nobody: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &WhoamiArguments,
    output: Output,
) -> Result<()> {
    let WhoamiArguments { user, role, device, nobody } = arguments;
    let sets = *nobody || user.is_some() || role.is_some() || device.is_some();
    let local = match sets {
        // The new identity builds on the one that the replica keeps, and not on the user that --as
        // names for one command.
        true => Local::open_or_create(&PlaceArguments { acts_as: None, ..place.clone() }).await?,
        false => Local::open(place).await?,
    };
    let mut identity = local.replica.identity()?;
    if sets {
        identity = if *nobody { None } else { Some(changed(identity, arguments)?) };
        local.replica.act_as(identity.clone()).await?;
        if let Some(acting) = &place.acts_as {
            let acting = person(Some(&acting.on_the_device_of(None)));
            output.note(&format!("kept; where --as or REJOIN_AS says {acting}, they act instead"));
        }
    }
    let mut json = json!({ "user": null, "role": null, "device": null });
    if let Some(identity) = &identity {
        json = identity.to_json();
    }
    let signed_in = local.replica.signed_in()?;
    json["signed_in"] = json!(signed_in);
    json["replica"] = Value::from(local.replica.device().to_string());
    output.result(&json, || match &identity {
        Some(identity) => whole(identity),
        None if let Some(user) = &signed_in => format!("{}, who is signed in", one_line(user)),
        None => "nobody in particular; `rejoin whoami --user NAME` says who edits here".to_owned(),
    })
}

fn changed(known: Option<Identity>, arguments: &WhoamiArguments) -> Result<Identity> {
    let WhoamiArguments { user, role, device, .. } = arguments;
    let known_user = || known.as_ref().map(|known| known.user.clone());
    let user = user.clone().or_else(known_user);
    let user = user.filter(|user| !user.is_empty()).context("whose? Give --user NAME, too")?;
    let or_known = |given: &Option<String>, known: Option<&String>| match given {
        Some(given) => Some(given.clone()).filter(|given| !given.is_empty()),
        None => known.cloned(),
    };
    let role = or_known(role, known.as_ref().and_then(|known| known.role.as_ref()));
    let device = or_known(device, known.as_ref().and_then(|known| known.device.as_ref()));
    Ok(Identity { user, role, device })
}
