//! Hostile peers against a relay: `cargo xtask siege`.

use anyhow::Result;
use clap::Args;

use crate::steps::cargo;

/// What the siege is asked for, as its own command line has it.
#[derive(Args)]
pub(crate) struct Options {
    /// How long all attacks together last
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Decides what attackers draw at random
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this attack, or `together`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// One JSON document for each attack
    #[arg(long)]
    json: bool,
}

/// Builds the relay that is attacked, as it is shipped, and who attacks it.
///
/// # Errors
///
/// As [`cargo`].
pub(crate) fn build() -> Result<()> {
    cargo(&["build", "--release", "--package", "rejoin-cli"])?;
    cargo(&["build", "--release", "--package", "rejoin-tests", "--bin", "siege"])
}

impl Options {
    /// Plays the siege.
    ///
    /// # Errors
    ///
    /// As [`cargo`]: when an honest edit is lost, the relay dies, or honest documents differ.
    pub(crate) fn play(&self) -> Result<()> {
        let options = self.to_arguments();
        let run = ["run", "--release", "--package", "rejoin-tests", "--bin", "siege", "--"];
        let arguments: Vec<_> = run.into_iter().chain(options.iter().map(String::as_str)).collect();
        cargo(&arguments)
    }

    /// The options as the `siege` binary takes them.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let number = |option: Option<u64>| option.map(|number| number.to_string());
        let options = [
            ("--minutes", number(self.minutes)),
            ("--seed", number(self.seed)),
            ("--only", self.only.clone()),
        ];
        let options = options.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        options.flatten().chain(self.json.then(|| "--json".to_owned())).collect()
    }
}
