//! `rejoin status`: the content of a replica, the edits that wait for a relay, and the questions that
//! wait for people.

mod unsent;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use rejoin::sync::SetAside;
use rejoin::view::Unfit;
use rejoin::{CollectionName, Identity, SpaceName, Status};
use serde_json::{Value, json};

use crate::clock::clock;
use crate::identity::{author_json, person, whole};
use crate::layout::{one_line, width, wrap};
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::sync_status::{held_text, status_json};
use crate::{refused, unfit};

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// List the edits that wait for a relay instead: what was edited, when and by whom
    #[arg(long)]
    pub(crate) unsent: bool,
    /// Say that you know what is listed as set aside: `rejoin sync --once` fails for it no more. It
    /// stays in the file, and in the output of --json
    #[arg(long, conflicts_with = "unsent")]
    pub(crate) acknowledge: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &StatusArguments,
    output: Output,
) -> Result<()> {
    if arguments.unsent {
        return unsent::run(place, output).await;
    }
    let local = Local::open(place).await?;
    let found = Found::of(&local).await?;
    output.result(&found.to_json(), || found.to_text())?;
    // A person can only know of the refusals that were just printed.
    if arguments.acknowledge {
        local.replica.acknowledge(&found.set_aside).await?;
    }
    Ok(())
}

/// The state of a replica and of one of its spaces, read once and printed in either form.
struct Found {
    status: Status,
    device: String,
    identity: Option<Identity>,
    /// The user whom a relay last knew by a token.
    signed_in: Option<String>,
    space: SpaceName,
    /// The collections of the space, and how many documents each has.
    collections: Vec<(CollectionName, u64)>,
    open_reviews: usize,
    /// Open reviews that are assigned to the user the replica acts as.
    my_reviews: usize,
    unfit: Vec<Unfit>,
    set_aside: Vec<SetAside>,
}

impl Found {
    async fn of(local: &Local) -> Result<Self> {
        let status = local.replica.status();
        let set_aside = local.replica.set_aside()?;
        let collections = local.space.collections()?;
        let identity = local.replica.identity()?;
        let unfit = local.space.unfit().await?;
        let open = local.space.reviews().open().await?;
        let is_mine = |user: &Identity| {
            open.iter().filter(|review| review.assignee.as_ref() == Some(&user.user)).count()
        };
        Ok(Self {
            status,
            device: local.replica.device().to_string(),
            my_reviews: identity.as_ref().map_or(0, is_mine),
            identity,
            signed_in: local.replica.signed_in()?,
            space: local.space.name().clone(),
            collections,
            open_reviews: open.len(),
            unfit,
            set_aside,
        })
    }

    fn to_json(&self) -> Value {
        let mut json = status_json(&self.status);
        let named = self.collections.iter().map(|(name, documents)| (name.to_string(), *documents));
        json["collections"] = json!(named.collect::<BTreeMap<_, _>>());
        json["device"] = json!(self.device);
        json["acts_as"] = author_json(self.identity.as_ref());
        json["signed_in"] = json!(self.signed_in);
        json["reviews"] = json!({ "open": self.open_reviews, "mine": self.my_reviews });
        let mut unfit = BTreeMap::<String, u64>::new();
        self.unfit.iter().for_each(|it| *unfit.entry(it.collection.to_string()).or_default() += 1);
        json["unfit"] = json!(unfit);
        json["space"] = json!(self.space.as_str());
        json["set_aside"] = Value::from_iter(self.set_aside.iter().map(refused::json));
        json
    }

    /// Who is signed in edits as themselves, also where the replica names nobody.
    fn acts_as(&self) -> String {
        match (&self.identity, &self.signed_in) {
            (Some(identity), _) => whole(identity),
            (None, Some(user)) => one_line(user),
            (None, None) => person(None),
        }
    }

    fn to_text(&self) -> String {
        let mut lines =
            vec![format!("device      {}", self.device), format!("acts as     {}", self.acts_as())];
        lines.extend(self.signed_in.iter().map(|user| format!("signed in   {}", one_line(user))));
        lines.push(format!("space       {}", self.space));
        lines.extend(self.collections.iter().map(|(name, documents)| {
            format!("collection  {name}: {}", count(*documents, "document"))
        }));
        lines.extend(self.sync());
        lines.extend(self.reviews());
        let unfit = unfit::summary(&self.unfit);
        lines.extend(unfit.map(|unfit| format!("unfit       {unfit}")));
        lines.extend(self.refusals());
        let lines: Vec<_> = lines.iter().map(|line| fit(line)).collect();
        lines.join("\n")
    }

    /// The edits that a relay does not have yet, and the work that is left on this device.
    fn sync(&self) -> Vec<String> {
        let Status { waiting, edited_at_s, is_partial, behind, .. } = self.status;
        let mut lines = vec![match edited_at_s {
            Some(time_s) => format!(
                "to send     {}, the last of {}; --unsent lists them, `rejoin sync` sends them",
                count(waiting, "edit"),
                clock(time_s)
            ),
            None if self.set_aside.iter().all(|it| it.made_anew) => {
                "to send     nothing: a relay holds every edit made here".to_owned()
            }
            None => "to send     nothing".to_owned(),
        }];
        lines.extend(held_text(&self.status.waiting_for).map(|held| format!("            {held}")));
        if is_partial {
            let text = "to come     not all that the relay held is here yet; `rejoin sync` goes on";
            lines.push(text.to_owned());
        }
        if behind > 0 {
            let behind = count(behind, "document");
            lines.push(format!(
                "behind      {behind} to be looked at again, as their schema changed"
            ));
        }
        lines
    }

    fn reviews(&self) -> Option<String> {
        let mine = self.my_reviews;
        let yours = if mine > 0 { format!(", {mine} for you") } else { String::new() };
        let open = count(self.open_reviews as u64, "review");
        (self.open_reviews > 0)
            .then(|| format!("reviews     {open} open{yours}; `rejoin reviews` lists them"))
    }

    /// The edits that a relay refused and of which nobody has said that they know, and the way on if
    /// work was lost with one.
    fn refusals(&self) -> Vec<String> {
        let untold = self.set_aside.iter().filter(|it| !it.acknowledged);
        let mut lines: Vec<_> =
            untold.map(|it| format!("set aside   {}", refused::line(it))).collect();
        if self.set_aside.iter().any(SetAside::is_open) {
            let text = "make again what was refused, as the reasons say; `rejoin status \
                        --acknowledge` then keeps it out of here and of `rejoin sync`";
            lines.push(format!("            {text}"));
        }
        lines
    }
}

/// A line in as many lines as the terminal needs, below its label.
fn fit(line: &str) -> String {
    let (label, text) = line.split_at(LABEL_COLUMNS);
    let room = width().saturating_sub(LABEL_COLUMNS);
    let indent = format!("\n{}", " ".repeat(LABEL_COLUMNS));
    format!("{label}{}", wrap(text, room).join(&indent))
}

/// Columns of the label before each line.
const LABEL_COLUMNS: usize = 12;
