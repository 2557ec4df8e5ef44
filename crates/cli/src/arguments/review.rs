//! The command line of what people decide.

use clap::{ArgGroup, Args};
use rejoin::CollectionName;

use crate::values::{Condition, NewValue};

#[derive(Debug, Args)]
pub(crate) struct ReviewsArguments {
    /// Only those assigned to the user this replica acts as
    #[arg(long)]
    pub(crate) mine: bool,
    /// Also those that are settled or dismissed
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReviewArguments {
    /// Which review; the first characters of its id do
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true), after_help = "\
A decision is an ordinary edit, made offline, too. Two that differ are a new review.
--value takes a value as `set` does behind the name of the field: TEXT sets a string, :=JSON any plain \
value, and nothing ('') clears the field.
Many at once: `settle --field Status --where City=Bern --take newest` takes in each review what was written \
last, `mine` what you wrote, `standing` what stands until somebody decides.
Reviews about two documents, such as double bookings, are settled by changing one of them, or \
dismissed.")]
pub(crate) struct SettleArguments {
    /// Which review; the first characters of its id do
    #[arg(required_unless_present = "field")]
    pub(crate) id: Option<String>,
    /// All open reviews about this field instead, a settlement each
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["id", "value"])]
    pub(crate) field: Option<String>,
    /// Of those only the ones about documents with this value in this field; repeat for more
    #[arg(long = "where", value_name = "FIELD=VALUE", requires = "field")]
    pub(crate) conditions: Vec<Condition>,
    /// Of those only the ones about documents of this collection
    #[arg(long, value_name = "COLLECTION", requires = "field")]
    pub(crate) collection: Option<CollectionName>,
    /// Take what this change wrote, or what stands under this number in `rejoin review`; for many
    /// reviews `newest`, `mine` or `standing`
    #[arg(long, value_name = "CHANGE|N|WHICH", group = "decision")]
    pub(crate) take: Option<String>,
    /// Write this value instead
    #[arg(long, value_name = "VALUE", group = "decision", allow_hyphen_values = true)]
    pub(crate) value: Option<NewValue>,
    /// Leave what stands, and say why
    #[arg(long, value_name = "WHY", group = "decision", allow_hyphen_values = true)]
    pub(crate) dismiss: Option<String>,
    /// Why, for those who look back
    #[arg(long, value_name = "WHY", conflicts_with = "dismiss", allow_hyphen_values = true)]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("assignee").required(true))]
pub(crate) struct AssignArguments {
    /// Which review; the first characters of its id do
    pub(crate) id: String,
    /// The user who is to decide it
    #[arg(group = "assignee")]
    pub(crate) who: Option<String>,
    /// Until when, in your own words
    #[arg(long, value_name = "WHEN", conflicts_with = "nobody")]
    pub(crate) due: Option<String>,
    /// Take it from whoever has it
    #[arg(long, group = "assignee")]
    pub(crate) nobody: bool,
}
