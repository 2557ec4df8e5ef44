//! Whom a command trusts and as whom it signs in when it connects to a relay.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use rejoin::{Credentials, Relay};

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SignInArguments {
    /// Sign in with this token. REJOIN_TOKEN keeps it out of the command line, which others on this
    /// machine can read
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// Sign in with the token in this file, which is read again before that one expires
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust this certificate too, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

impl SignInArguments {
    /// The relay at an address, with what these say and the environment.
    pub(crate) fn relay(&self, address: &str) -> Result<Relay> {
        let relay = Relay::at(address).with(self.credentials());
        let Some(path) = &self.ca else { return Ok(relay) };
        let roots = std::fs::read(path);
        let roots = roots.with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(relay.trusting(roots))
    }

    fn credentials(&self) -> Credentials {
        if let Some(path) = self.token_file.clone() {
            return Credentials::fetched(move || {
                let path = path.clone();
                async move {
                    let text = std::fs::read_to_string(&path);
                    text.map_err(|error| format!("{} cannot be read: {error}", path.display()))
                }
            });
        }
        let of_environment = || std::env::var("REJOIN_TOKEN").ok().filter(|it| !it.is_empty());
        self.token
            .clone()
            .or_else(of_environment)
            .map_or_else(Credentials::none, Credentials::token)
    }
}
