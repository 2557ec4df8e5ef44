//! Which message broker, and where on it: what is written in the options of its sinks.

use reqwest::Url;

use super::SinkError;
use crate::delivery::Record;
use crate::option::Opt;

/// A text with places to fill in for every delivery: `{name}` and `{key}` of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Key,
}

impl Route {
    /// Reads the written form.
    pub(super) fn parse(text: &str) -> Result<Self, SinkError> {
        let wrong = |what: &str| SinkError::Setup {
            what: format!("{text:?} {what}; write {{name}} or {{key}}, or no braces"),
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (place, after) =
                after.split_once('}').ok_or_else(|| wrong("has a brace that is not closed"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match place {
                "name" => Part::Name,
                "key" => Part::Key,
                _ => return Err(wrong("has a place that nothing is known for")),
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Whether every record has a route of its own.
    #[cfg(feature = "kafka")]
    pub(super) fn has_key(&self) -> bool {
        self.0.contains(&Part::Key)
    }

    /// The route of a record, each filling written as `written` says.
    pub(super) fn fill(&self, record: &Record, written: impl Fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Name => written(&record.name),
            Part::Key => written(&record.key),
        };
        self.0.iter().map(part).collect()
    }

    /// The routes of records of this kind, for people: nobody is told keys.
    pub(super) fn shown(&self, record: &Record, written: impl Fn(&str) -> String) -> String {
        let any = Record { name: record.name.clone(), key: "*".to_owned() };
        self.fill(&any, |text| if text == "*" { text.to_owned() } else { written(text) })
    }
}

/// One word of a subject or routing key: letters, digits, `-` and `_` stand for themselves, other
/// bytes as `%` and two hexadecimal digits.
pub(super) fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => word.push(byte.into()),
            _ => word += &format!("%{byte:02X}"),
        }
    }
    word
}

/// Whether this is the address of a server, without a secret in it. The fault does not repeat it.
pub(super) fn check_address(url: &str, schemes: [&str; 2]) -> Result<(), SinkError> {
    let wrong = |what: &str| Err(SinkError::Setup { what: what.to_owned() });
    let form = schemes.map(|scheme| format!("{scheme}://HOST:PORT")).join(" or ");
    let Ok(parsed) = Url::parse(url) else {
        return wrong(&format!("the url is no address; write {form}"));
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return wrong(
            "secrets are not written into the url; set `user`, and `password` to `env:NAME` or \
             `file:PATH`",
        );
    }
    if !schemes.contains(&parsed.scheme()) || parsed.host().is_none() {
        return wrong(&format!("the url is not one of such a server; write {form}"));
    }
    Ok(())
}

/// Seconds a broker has to take deliveries, if the options do not say.
pub(super) fn timeout_s() -> u64 {
    20
}

/// The option for that.
pub(super) const TIMEOUT_S: Opt =
    Opt::with_default("timeout_s", "number", "20", "seconds the servers have to take deliveries");

/// Deliveries that are handed over before the first is confirmed.
pub(super) const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_is_one_word_whatever_is_in_it() {
        let route = Route::parse("rejoin.{name}.{key}").unwrap();
        let record = Record { name: "jobs".to_owned(), key: "W-1".to_owned() };
        assert_eq!(route.fill(&record, word), "rejoin.jobs.W-1");
        let record = Record { name: "a.b >".to_owned(), key: "*.ü{name}%2E".to_owned() };
        let filled = route.fill(&record, word);
        assert_eq!(filled, "rejoin.a%2Eb%20%3E.%2A%2E%C3%BC%7Bname%7D%252E");
        assert_eq!(route.shown(&record, word), "rejoin.a%2Eb%20%3E.*");
    }

    #[test]
    fn only_what_is_known_is_filled_in() {
        for wrong in ["rejoin.{row}", "rejoin.{name", "{}"] {
            let said = Route::parse(wrong).unwrap_err().to_string();
            assert!(said.contains(wrong) && said.contains("{name}"), "{said}");
        }
    }

    #[test]
    fn no_secret_stands_in_an_address() {
        let check = |url| check_address(url, ["nats", "tls"]);
        check("nats://127.0.0.1:4222").unwrap();
        check("tls://nats.example").unwrap();
        for wrong in ["nats://me:hush@localhost", "nats://hush@localhost", "http://localhost", "x"]
        {
            let said = check(wrong).unwrap_err().to_string();
            assert!(!said.contains("hush"), "{said}");
        }
    }
}
