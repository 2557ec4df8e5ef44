//! `rejoin token`: keys and tokens of one's own, and what a token says.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rejoin_relay::access::{Claims, NewKey, Rules, SigningKey};
use rejoin_relay::check_access;
use serde_json::{Value, json};

use crate::output::Output;
use crate::units::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a key that signs tokens, and its public half for the relay
    Keygen(KeygenArguments),
    /// Sign a token, where there is no login that gives them
    Mint(MintArguments),
    /// Show what a token says, without checking who signed it
    Inspect(InspectArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes FILE, which only its owner may read, and the public half beside it as FILE with the ending .pub. \
Name that one in access.toml. Whoever has FILE can sign in as anybody: it does not belong on the relay.")]
pub(crate) struct KeygenArguments {
    /// The file of the private key
    #[arg(default_value = "key.pem")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct MintArguments {
    /// The user that the token is for
    pub(crate) user: String,
    /// A role that the user has; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// The private key that signs
    #[arg(long, value_name = "FILE", default_value = "key.pem")]
    pub(crate) key: PathBuf,
    /// The relay's rules, which say who issues tokens for whom
    #[arg(long, value_name = "FILE", default_value = "access.toml")]
    pub(crate) access: PathBuf,
    /// How long it is good: 30m, 8h, 90d
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// The only device that it is good for, by its id
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The token; without one, the first line of standard input
    pub(crate) token: Option<String>,
}

pub(crate) fn run(command: &TokenCommand, output: Output) -> Result<()> {
    match command {
        TokenCommand::Keygen(arguments) => keygen(arguments, output),
        TokenCommand::Mint(arguments) => mint(arguments, output),
        TokenCommand::Inspect(arguments) => inspect(arguments, output),
    }
}

fn keygen(arguments: &KeygenArguments, output: Output) -> Result<()> {
    let seed: [u8; 32] = rand::random();
    let key = NewKey::of_seed(&seed).context("no key can be made of 32 random bytes")?;
    let private = &arguments.file;
    let public = private.with_extension("pub");
    ensure!(private != &public, "name the private key otherwise: .pub is for the public one");
    write_new(private, &key.private, true)?;
    write_new(&public, &key.public, false)?;
    let json = json!({ "private": private, "public": public });
    output.result(&json, || {
        let (private, public) = (private.display(), public.display());
        format!(
            "{private} signs tokens; keep it to yourself\n{public} is for the relay's access.toml"
        )
    })
}

/// Writes a file that is not there. Another key of the same name would be lost, and with it the
/// sign-in of everybody.
fn write_new(path: &Path, text: &str, is_secret: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let _ = is_secret;
    let mut file = options
        .open(path)
        .with_context(|| format!("{} cannot be made; is there one already?", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

fn mint(arguments: &MintArguments, output: Output) -> Result<()> {
    let path = &arguments.key;
    let key = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let key = SigningKey::of_pem(&key).with_context(|| format!("{}", path.display()))?;
    let Rules { token: rules, .. } = check_access(&arguments.access)?;
    ensure!(!arguments.user.trim().is_empty(), "name a user");
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = Claims {
        user: arguments.user.clone(),
        roles: arguments.roles.clone(),
        device: arguments.device.clone(),
        issuer: rules.issuer.clone(),
        audience: rules.audience.clone(),
        issued_s: now_s,
        expires_s: now_s + arguments.expires.as_secs(),
        id: HEXLOWER.encode(&rand::random::<[u8; 12]>()),
    };
    let token = key.sign(&claims, &rules.user, &rules.roles)?;
    output.result(&json!({ "token": token, "id": claims.id }), || token.clone())
}

fn inspect(arguments: &InspectArguments, output: Output) -> Result<()> {
    let token = match &arguments.token {
        Some(token) => token.clone(),
        None => std::io::stdin().lines().next().context("there is no token")??,
    };
    let mut parts = token.trim().split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("this is no JSON Web Token: it has three parts, with dots between them");
    };
    let read = |part: &str| -> Result<Value> {
        let bytes = BASE64URL_NOPAD.decode(part.as_bytes());
        let bytes = bytes.context("a part of the token is not base64url")?;
        serde_json::from_slice(&bytes).context("a part of the token is no JSON")
    };
    let json = json!({ "header": read(header)?, "claims": read(claims)? });
    output.result(&json, || {
        let shown = serde_json::to_string_pretty(&json).unwrap_or_default();
        format!("{shown}\nWho signed it was not checked; the relay does.")
    })
}
