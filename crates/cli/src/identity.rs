//! Who acts: `rejoin whoami`, `--as`, and people as they are shown.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use rejoin::Identity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arguments::{PlaceArguments, WhoamiArguments};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::Output;

/// `USER[:ROLE]`, as `--as` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acting {
    user: String,
    role: Option<String>,
}

impl FromStr for Acting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (user, role) = match text.split_once(':') {
            Some((user, role)) => (user, Some(role)),
            None => (text, None),
        };
        ensure!(!user.is_empty(), "name a user: USER or USER:ROLE");
        ensure!(role != Some(""), "name a role after the colon, or leave the colon out");
        Ok(Self { user: user.to_owned(), role: role.map(str::to_owned) })
    }
}

impl Acting {
    /// Whoever acts does so on the device that the replica is on.
    pub(crate) fn on_the_device_of(&self, known: Option<Identity>) -> Identity {
        let device = known.and_then(|known| known.device);
        Identity { user: self.user.clone(), role: self.role.clone(), device }
    }
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &WhoamiArguments,
    output: Output,
) -> Result<()> {
    let WhoamiArguments { user, role, device, nobody } = arguments;
    let sets = *nobody || user.is_some() || role.is_some() || device.is_some();
    let local = match sets {
        // What is kept builds on what was kept, and not on whoever acts in one command.
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
    json["replica"] = Value::from(local.replica.device().to_string());
    output.result(&json, || match &identity {
        Some(identity) => whole(identity),
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

/// The user and role, or that nobody said: `Ann (dispatch)`.
pub(crate) fn person(identity: Option<&Identity>) -> String {
    identity.map_or_else(|| "nobody in particular".to_owned(), |it| one_line(&it.to_string()))
}

/// With the device: `Ann (dispatch) on desk-2`.
pub(crate) fn whole(identity: &Identity) -> String {
    let person = person(Some(identity));
    match &identity.device {
        Some(device) => format!("{person} on {}", one_line(device)),
        None => person,
    }
}

/// Somebody as JSON, or null.
pub(crate) fn author_json(author: Option<&Identity>) -> Value {
    author.map_or(Value::Null, Identity::to_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_is_a_user_and_perhaps_a_role() {
        let acting = |text: &str| text.parse::<Acting>().ok();
        let known = Identity::user("Bo").with_role("technician").with_device("van");
        let ann = acting("Ann:dispatch").expect("a user and a role");
        let ann = ann.on_the_device_of(Some(known));
        assert_eq!(ann, Identity::user("Ann").with_role("dispatch").with_device("van"));
        let plain = acting("Ann Lee").expect("a user").on_the_device_of(None);
        assert_eq!(plain, Identity::user("Ann Lee"));
        for wrong in ["", ":", ":dispatch", "Ann:"] {
            assert_eq!(acting(wrong), None, "{wrong}");
        }
    }
}
