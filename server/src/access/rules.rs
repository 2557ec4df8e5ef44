//! `access.toml`: whose tokens count, and what each role may do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rejoin_core::{CollectionName, Collections, SpaceName};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// What `access.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whose tokens count.
    pub token: TokenRules,
    /// What is allowed, each with the line at which it stands. What nothing allows is forbidden.
    allow: Vec<(usize, Allow)>,
}

/// Whose tokens count, and where they say what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRules {
    /// The login, as its tokens name it.
    pub issuer: String,
    /// This service, as tokens for it name it.
    pub audience: String,
    /// Files of public keys in PEM, from the folder of `access.toml`.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// A JSON Web Key Set: a file, or an address that begins with `https://`.
    pub jwks: Option<String>,
    /// The claim that names the user.
    #[serde(default = "user")]
    pub user: String,
    /// The claim that lists their roles.
    #[serde(default = "roles")]
    pub roles: String,
}

/// What some roles may do in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    roles: BTreeSet<String>,
    /// `None` for every space.
    space: Option<SpaceName>,
    pub(super) read: Collections,
    pub(super) write: Collections,
}

/// Something in `access.toml` that is not right, or may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct AccessFault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    token: TokenRules,
    #[serde(default)]
    allow: Vec<Spanned<AllowForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowForm {
    roles: BTreeSet<String>,
    space: String,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
}

impl Rules {
    /// Reads the text of a file. It counts as a whole or not at all.
    ///
    /// # Errors
    /// It is no TOML, has a key that there is not, or a value that does not fit.
    pub fn read(text: &str) -> Result<Self, AccessFault> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            AccessFault { line: line_of(text, at), what: error.message().to_owned() }
        })?;
        if file.token.keys.is_empty() && file.token.jwks.is_none() {
            let what = "[token] names no keys; write `keys` with the files of public keys, or `jwks` \
                        with the address of a key set";
            return Err(AccessFault { line: 1, what: what.to_owned() });
        }
        if let Some(jwks) = &file.token.jwks
            && jwks.contains("://")
            && !jwks.starts_with("https://")
        {
            let what =
                format!("{jwks} could be changed on its way; write an address with https://");
            return Err(AccessFault { line: 1, what });
        }
        let allow = file.allow.into_iter().map(|allow| {
            let line = line_of(text, allow.span().start);
            let allow = Allow::of(allow.into_inner()).map_err(|what| AccessFault { line, what })?;
            Ok((line, allow))
        });
        Ok(Self { token: file.token, allow: allow.collect::<Result<_, _>>()? })
    }

    /// What is allowed to any of these roles in a space, each with its line.
    pub(super) fn allowing<'a>(
        &'a self,
        roles: &'a BTreeSet<String>,
        space: &'a SpaceName,
    ) -> impl Iterator<Item = (usize, &'a Allow)> {
        let allow = self.allow.iter().map(|(line, allow)| (*line, allow));
        allow.filter(move |(_, allow)| {
            allow.space.as_ref().is_none_or(|it| it == space) && !allow.roles.is_disjoint(roles)
        })
    }

    /// What may not be meant so: what works, and leaves somebody with less than they need.
    pub fn doubts(&self) -> Vec<AccessFault> {
        let mut doubts = Vec::new();
        if self.allow.is_empty() {
            let what = "nothing is allowed to anybody; write [[allow]] for each role".to_owned();
            doubts.push(AccessFault { line: 1, what });
        }
        for (line, allow) in &self.allow {
            let mut doubt = |what: String| doubts.push(AccessFault { line: *line, what });
            let mut read = allow.read.clone();
            read.add(&allow.write);
            if read.is_empty() {
                doubt(
                    "it allows nothing: neither `read` nor `write` names a collection".to_owned(),
                );
                continue;
            }
            if allow.roles.is_empty() {
                doubt("it names no role, so it allows nobody anything".to_owned());
                continue;
            }
            for reserved in RESERVED {
                let is_read = CollectionName::new(reserved).is_ok_and(|it| read.contains(&it));
                let is_read_elsewhere = self.allow.iter().any(|(other, it)| {
                    other != line
                        && !it.roles.is_disjoint(&allow.roles)
                        && CollectionName::new(reserved).is_ok_and(|name| it.read.contains(&name))
                });
                if !is_read && !is_read_elsewhere {
                    doubt(format!(
                        "whoever reads {read} needs {reserved:?} in `read`, too: without it their \
                         devices merge without the schemas of the others"
                    ));
                }
            }
        }
        doubts
    }
}

impl Allow {
    fn of(form: AllowForm) -> Result<Self, String> {
        let space = match form.space.as_str() {
            "*" => None,
            name => Some(SpaceName::new(name).map_err(|error| error.to_string())?),
        };
        let (read, write) = (collections(&form.read)?, collections(&form.write)?);
        Ok(Self { roles: form.roles, space, read, write })
    }
}

fn collections(names: &[String]) -> Result<Collections, String> {
    if names.iter().any(|name| name == "*") {
        return Ok(Collections::All);
    }
    let names = names.iter().map(|name| CollectionName::new(name.as_str()));
    let names = names.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok(Collections::These(names))
}

/// The line of a byte of a text, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

fn user() -> String {
    "sub".to_owned()
}

fn roles() -> String {
    "roles".to_owned()
}

/// Collections of Rejoin's own that readers of others need.
const RESERVED: [&str; 1] = ["rejoin.schemas"];
