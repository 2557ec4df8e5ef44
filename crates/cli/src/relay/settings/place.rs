//! The places that settings are written to, and the values they take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rejoin::{CollectionName, SpaceName};
use toml::Value;
use toml::de::DeValue;

use crate::units;

/// Where a setting is written to.
pub(in crate::relay) enum Place<'a> {
    Address(&'a mut SocketAddr),
    MaybeAddress(&'a mut Option<SocketAddr>),
    Folder(&'a mut Option<PathBuf>),
    /// Bytes.
    Size(&'a mut usize),
    MaybeSize(&'a mut Option<u64>),
    Count(&'a mut usize),
    MaybeCount(&'a mut Option<u64>),
    Time(&'a mut Duration),
    Flag(&'a mut bool),
    Names(&'a mut Vec<String>),
    Networks(&'a mut Vec<IpNet>),
    Space(&'a mut SpaceName),
    Collection(&'a mut CollectionName),
}

impl Place<'_> {
    /// The value there, as the file has it.
    pub(super) fn value(&self) -> Option<Value> {
        Some(match self {
            Self::Address(address) => address.to_string().into(),
            Self::MaybeAddress(address) => (**address)?.to_string().into(),
            Self::Folder(folder) => folder.as_ref()?.display().to_string().into(),
            Self::Size(bytes) => units::exact_bytes(**bytes as u64).into(),
            Self::MaybeSize(bytes) => units::exact_bytes((**bytes)?).into(),
            Self::Count(count) => whole(**count as u64),
            Self::MaybeCount(count) => whole((**count)?),
            Self::Time(time) => units::exact_duration(**time).into(),
            Self::Flag(flag) => (**flag).into(),
            Self::Names(names) if names.is_empty() => return None,
            Self::Names(names) => (**names).clone().into(),
            Self::Networks(networks) if networks.is_empty() => return None,
            Self::Networks(networks) => {
                networks.iter().map(ToString::to_string).collect::<Vec<_>>().into()
            }
            Self::Space(space) => space.as_str().into(),
            Self::Collection(collection) => collection.as_str().into(),
        })
    }

    /// Writes a value of the file to it.
    pub(super) fn write(self, value: &DeValue<'_>) -> Result<(), String> {
        match self {
            Self::Address(address) => *address = parsed(value, ADDRESS)?,
            Self::MaybeAddress(address) => *address = Some(parsed(value, ADDRESS)?),
            Self::Folder(folder) => match text(value)? {
                "" => return Err("name a folder or file".to_owned()),
                path => *folder = Some(PathBuf::from(path)),
            },
            Self::Size(bytes) => *bytes = at_least_one(units::bytes(text(value)?)?)?,
            Self::MaybeSize(bytes) => {
                *bytes = Some(at_least_one(units::bytes(text(value)?)?)? as u64);
            }
            Self::Count(count) => *count = at_least_one(number(value)?)?,
            Self::MaybeCount(count) => *count = Some(at_least_one(number(value)?)? as u64),
            Self::Time(time) => match units::duration(text(value)?)? {
                short if short < SHORTEST => return Err("write at least 1s".to_owned()),
                long => *time = long,
            },
            Self::Flag(flag) => *flag = value.as_bool().ok_or("write true or false")?,
            Self::Names(names) => *names = texts(value)?.map(str::to_owned).collect(),
            Self::Networks(networks) => {
                let parsed = texts(value)?.map(units::network);
                *networks = parsed.collect::<Result<_, _>>()?;
            }
            Self::Space(space) => {
                *space = SpaceName::new(text(value)?).map_err(|error| error.to_string())?;
            }
            Self::Collection(collection) => {
                *collection =
                    CollectionName::new(text(value)?).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

fn whole(count: u64) -> Value {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX))
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value
        .as_str()
        .ok_or_else(|| "write a text between quotes, a size or time with its unit".to_owned())
}

fn texts<'a>(value: &'a DeValue<'_>) -> Result<impl Iterator<Item = &'a str>, String> {
    let wrong = || "write texts between brackets, as [\"a\", \"b\"]".to_owned();
    let values = value.as_array().ok_or_else(wrong)?;
    let texts: Option<Vec<_>> = values.iter().map(|value| value.get_ref().as_str()).collect();
    texts.map(Vec::into_iter).ok_or_else(wrong)
}

fn number(value: &DeValue<'_>) -> Result<usize, String> {
    let digits = value.as_integer();
    let number = digits.and_then(|it| i64::from_str_radix(it.as_str(), it.radix()).ok());
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| "write a whole number".to_owned())
}

fn parsed<T: std::str::FromStr>(value: &DeValue<'_>, what: &str) -> Result<T, String> {
    text(value)?.parse().map_err(|_| what.to_owned())
}

/// A limit of zero would stop the relay rather than bound it, and somebody who writes it may mean
/// that there is no limit.
fn at_least_one(limit: usize) -> Result<usize, String> {
    match limit {
        0 => Err("it would let nothing through; leave it out for the default".to_owned()),
        limit => Ok(limit),
    }
}

/// No setting is meant for less, and a limit of nothing would stop the relay.
const SHORTEST: Duration = Duration::from_secs(1);

const ADDRESS: &str = "write an address and a port, as \"127.0.0.1:4455\"";
