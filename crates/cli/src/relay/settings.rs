//! The settings of a relay, and the file `relay.toml` that sets them.
//!
//! One list has every setting with its meaning. The file is read by it, the names that somebody may
//! have meant come from it, and so does the file of defaults, `examples/relay.default.toml`.

mod place;
mod read;

use std::net::SocketAddr;
use std::path::PathBuf;

use rejoin::Key;
use rejoin::seal::KeyError;
use rejoin_relay::Config;

use crate::layout::wrap;

pub(super) use place::Place;
pub(super) use read::read;

/// Everything that a relay can be told, with defaults for all but the folder.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) data: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) store_key_file: Option<PathBuf>,
    pub(super) config: Config,
}

/// One setting of the file.
pub(super) struct Setting {
    /// The table that it stands in; empty for the beginning of the file.
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// A value, for a setting without a default.
    example: &'static str,
    meaning: &'static str,
    at: fn(&mut Settings) -> Place<'_>,
}

impl Settings {
    pub(super) fn new() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4455));
        let (data, certificate, key, store_key_file) = (None, None, None, None);
        Self { listen, data, certificate, key, store_key_file, config: Config::new("") }
    }

    /// The key of the store, if the file names one.
    pub(super) fn store_key(&self) -> Result<Option<Key>, KeyError> {
        self.store_key_file.as_deref().map(Key::file).transpose()
    }

    /// The path of every setting with its value as the file has it, in the order of the list. A
    /// setting without a value is not among them.
    pub(super) fn values(&mut self) -> Vec<(String, toml::Value)> {
        let values = SETTINGS.iter().map(|setting| (setting.path(), (setting.at)(self).value()));
        values.filter_map(|(path, value)| Some((path, value?))).collect()
    }
}

/// Whether a setting counts as soon as the file is read again, and not only at a start.
pub(super) fn is_read_again(path: &str) -> bool {
    READ_AGAIN.contains(&path)
}

impl Setting {
    /// `table.name`, as refusals name it.
    pub(super) fn path(&self) -> String {
        if self.table.is_empty() { self.name.to_owned() } else { self.table_path() }
    }

    fn table_path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }
}

/// The file of defaults: every setting with its meaning. Settings that have no default stand there
/// as comments.
pub(super) fn defaults() -> String {
    let mut settings = Settings::new();
    let mut text =
        "# Every setting of `rejoin relay --config relay.toml`, with its default. What a\n\
                    # file leaves out has the value that stands here.\n"
            .to_owned();
    let mut table = "";
    for setting in SETTINGS {
        text.push('\n');
        if setting.table != table {
            table = setting.table;
            text.push_str(&format!("[{table}]\n"));
        }
        let meaning = match READ_AGAIN.contains(&setting.path().as_str()) {
            true => format!("{} SIGHUP has it read again.", setting.meaning),
            false => setting.meaning.to_owned(),
        };
        for line in wrap(&meaning, COMMENT_COLUMNS) {
            text.push_str(&format!("# {line}\n"));
        }
        match (setting.at)(&mut settings).value() {
            Some(value) => text.push_str(&format!("{} = {value}\n", setting.name)),
            None => text.push_str(&format!("# {} = {}\n", setting.name, setting.example)),
        }
    }
    text
}

/// Columns of a comment in the file of defaults.
const COMMENT_COLUMNS: usize = 90;

/// The settings that are [limits](rejoin_relay::Limits).
const READ_AGAIN: [&str; 5] = [
    "limits.connections_per_address",
    "limits.messages_per_second",
    "limits.bytes_per_second",
    "limits.space_documents",
    "limits.space_size",
];

/// A setting with a default.
const fn setting(
    table: &'static str,
    name: &'static str,
    meaning: &'static str,
    at: fn(&mut Settings) -> Place<'_>,
) -> Setting {
    Setting { table, name, example: "", meaning, at }
}

/// A setting without a default, and a value that it may have.
const fn unset(
    table: &'static str,
    name: &'static str,
    example: &'static str,
    meaning: &'static str,
    at: fn(&mut Settings) -> Place<'_>,
) -> Setting {
    Setting { table, name, example, meaning, at }
}

/// Every setting, in the order of the file.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "",
        "listen",
        "The address at which replicas and peers connect: one that other machines reach takes \
         `access` and [tls]. Port 0 takes a free one, and the first line that the relay prints says \
         which.",
        |it| Place::Address(&mut it.listen),
    ),
    unset(
        "",
        "data",
        "\"/var/lib/rejoin\"",
        "The folder of the relay's files, made if there is none. The folder has to be named, here or \
         with --data.",
        |it| Place::Folder(&mut it.data),
    ),
    unset(
        "",
        "key_file",
        "\"/etc/rejoin/store.key\"",
        "The file with the key that encrypts relay.redb; `rejoin seal key` makes one. It does not encrypt \
         backups. Keep a copy of it elsewhere: without it the store cannot be read.",
        |it| Place::Folder(&mut it.store_key_file),
    ),
    unset(
        "",
        "access",
        "\"/etc/rejoin/access.toml\"",
        "The file that says whose tokens count, and what each role may read and write. It is read \
         again when it changes. Without it everybody who reaches the relay may do everything.",
        |it| Place::Folder(&mut it.config.access),
    ),
    unset(
        "",
        "hosts",
        "[\"relay.example\"]",
        "The names of the relay. With them it answers by these only, and by those of this machine.",
        |it| Place::Names(&mut it.config.hosts),
    ),
    unset(
        "",
        "origins",
        "[\"app.example\"]",
        "The hosts of sites whose pages may connect, beside the relay's own.",
        |it| Place::Names(&mut it.config.origins),
    ),
    unset(
        "",
        "behind_proxy",
        "[\"10.0.0.0/8\"]",
        "The networks of a proxy that ends TLS: nobody else is served. `hosts` is needed then.",
        |it| Place::Networks(&mut it.config.behind_proxy),
    ),
    setting(
        "",
        "cache",
        "Memory for pages of the database. The system keeps further pages by itself in what memory \
         is left.",
        |it| Place::Size(&mut it.config.cache_bytes),
    ),
    unset(
        "tls",
        "certificate",
        "\"/etc/rejoin/fullchain.pem\"",
        "The certificate by which the relay speaks TLS, with those that vouch for it, in PEM. It is \
         read again when it changes.",
        |it| Place::Folder(&mut it.certificate),
    ),
    unset(
        "tls",
        "key",
        "\"/etc/rejoin/privkey.pem\"",
        "The private key of the certificate, in PEM.",
        |it| Place::Folder(&mut it.key),
    ),
    unset(
        "monitor",
        "listen",
        "\"127.0.0.1:9465\"",
        "The address of /metrics, /healthz and /readyz, on a listener of their own. Without it \
         nothing listens for them but /healthz beside /sync.",
        |it| Place::MaybeAddress(&mut it.config.monitor),
    ),
    setting(
        "automerge",
        "space",
        "The space of automerge-repo's peers that connect to /automerge; /automerge/NAME is for \
         others.",
        |it| Place::Space(&mut it.config.automerge_space),
    ),
    setting(
        "automerge",
        "collection",
        "The collection of documents that automerge-repo's peers make.",
        |it| Place::Collection(&mut it.config.options.automerge_collection),
    ),
    setting(
        "automerge",
        "check_ephemeral_sender",
        "Whether ephemeral messages that name another author than the peer are dropped.",
        |it| Place::Flag(&mut it.config.options.checks_ephemeral_sender),
    ),
    setting(
        "limits",
        "connections",
        "Connections at once. A further one is asked to come back later.",
        |it| Place::Count(&mut it.config.options.sessions_max),
    ),
    setting(
        "limits",
        "connections_per_address",
        "Connections at once from one address. Behind a proxy all come from the proxy's.",
        |it| Place::Count(&mut it.config.connections_per_address),
    ),
    setting(
        "limits",
        "handshake",
        "The time that a connection may take to ask for its upgrade.",
        |it| Place::Time(&mut it.config.handshake_limit),
    ),
    setting(
        "limits",
        "write",
        "The time that a write may take, beside a second for every 4 KiB of it.",
        |it| Place::Time(&mut it.config.write_limit),
    ),
    unset(
        "limits",
        "messages_per_second",
        "1000",
        "Messages a second of one connection, on the average of some seconds. A connection that \
         sends more is read more slowly, and loses nothing.",
        |it| Place::MaybeCount(&mut it.config.messages_per_second),
    ),
    unset(
        "limits",
        "bytes_per_second",
        "\"4MiB\"",
        "Bytes of messages a second of one connection, likewise.",
        |it| Place::MaybeSize(&mut it.config.bytes_per_second),
    ),
    setting(
        "limits",
        "inbound",
        "Memory for messages that arrive or wait to be handled, of all connections together and \
         beyond 32 KiB of each. When it is used up, connections that send more are not read from \
         for a moment. At least 64MiB, the longest message of automerge-repo, always fit.",
        |it| Place::Size(&mut it.config.inbound_bytes_max),
    ),
    setting(
        "limits",
        "unread",
        "Memory for what waits until replicas read it, of all together. The one for which most \
         waits is closed.",
        |it| Place::Size(&mut it.config.options.unread_bytes_max),
    ),
    setting(
        "limits",
        "peers",
        "Memory that automerge-repo's peers may make the relay use, of all together: messages and \
         uploads that wait, and changes that wait for what they build on. The peer with the most \
         is closed.",
        |it| Place::Size(&mut it.config.options.peer_bytes_max),
    ),
    setting(
        "limits",
        "repairs",
        "Memory for repairs under way, some 56 bytes for every document of a space. The oldest \
         begins anew.",
        |it| Place::Size(&mut it.config.options.repair_bytes_max),
    ),
    setting(
        "limits",
        "graphs",
        "Memory for change graphs. A document whose graph is not there costs a read at its next \
         push.",
        |it| Place::Size(&mut it.config.options.graph_bytes_max),
    ),
    unset(
        "limits",
        "space_documents",
        "1000000",
        "Documents of one space. New ones beyond wait at their replicas, which are told why and try \
         again.",
        |it| Place::MaybeCount(&mut it.config.options.space_documents_max),
    ),
    unset(
        "limits",
        "space_size",
        "\"20GiB\"",
        "Bytes of all changes of one space as they are stored. Changes beyond wait at their \
         replicas, which are told why and try again.",
        |it| Place::MaybeSize(&mut it.config.options.space_bytes_max),
    ),
    setting(
        "pings",
        "replicas",
        "The time between two pings of a replica. A connection that is silent for two of them is \
         closed.",
        |it| Place::Time(&mut it.config.ping_interval),
    ),
    setting(
        "pings",
        "automerge",
        "The same for peers of automerge-repo, which have no pings of their own.",
        |it| Place::Time(&mut it.config.peer_ping_interval),
    ),
    setting(
        "stopping",
        "drain",
        "The time that connections have to end when the relay stops.",
        |it| Place::Time(&mut it.config.drain_limit),
    ),
    unset(
        "backup",
        "folder",
        "\"/mnt/backup/rejoin\"",
        "The folder of incremental backups, on another disk. Without it none are made.",
        |it| Place::Folder(&mut it.config.backup.folder),
    ),
    setting(
        "backup",
        "every",
        "The time between two incremental backups: what a lost disk can cost at most.",
        |it| Place::Time(&mut it.config.backup.every),
    ),
    setting(
        "backup",
        "full_every",
        "The time after which a whole backup is made again, beside which the incremental ones of \
         before count no more.",
        |it| Place::Time(&mut it.config.backup.full_every),
    ),
    setting(
        "backup",
        "keep",
        "The time for which whole backups and what follows them are kept. The last whole one stays \
         in any case.",
        |it| Place::Time(&mut it.config.backup.keep),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_defaults_has_every_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/relay.default.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, defaults(), "write it anew with `rejoin relay --defaults`");
        let mut read = read(&text).unwrap();
        assert_eq!(read.values(), Settings::new().values());
    }

    #[test]
    fn a_file_sets_what_it_names() {
        let mut settings = Settings::new();
        let mut text = String::new();
        let mut table = "";
        for setting in SETTINGS {
            if setting.table != table {
                table = setting.table;
                text.push_str(&format!("[{table}]\n"));
            }
            let value = (setting.at)(&mut settings).value();
            let other = match value {
                Some(toml::Value::Boolean(flag)) => toml::Value::from(!flag),
                Some(toml::Value::Integer(count)) => toml::Value::from(count + 1),
                Some(toml::Value::String(text)) => toml::Value::from(other_than(&text)),
                _ => setting.example.parse().unwrap(),
            };
            text.push_str(&format!("{} = {other}\n", setting.name));
        }
        let values = read(&text).unwrap().values();
        assert_eq!(values.len(), SETTINGS.len());
        let defaults = Settings::new().values();
        for (path, value) in &values {
            let default = defaults.iter().find(|(other, _)| path == other);
            assert!(default.is_none_or(|(_, default)| default != value), "{path}");
        }
    }

    fn other_than(text: &str) -> String {
        match text {
            "127.0.0.1:4455" => "[::1]:1".to_owned(),
            _ if text.starts_with(|it: char| it.is_ascii_digit()) => format!("1{text}"),
            _ => format!("{text}s"),
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let text = "listne = 1\ncache = \"16MB\"\n[limit]\nconnections = 3\n\
                    [limits]\nconnections = \"many\"\nhandshake = 5\nspace_size = \"0MiB\"\n\
                    [backup]\nfolder = 7\n";
        let Err(faults) = read(text) else { panic!("it is wrong") };
        let told = faults.to_string();
        for part in [
            "line 1: there is no setting `listne`; did you mean \"listen\"?",
            "line 2: `cache`: write a number and a unit",
            "line 3: there is no table [limit]; did you mean \"limits\"?",
            "line 6: `limits.connections`: write a whole number",
            "line 7: `limits.handshake`: write a text",
            "line 8: `limits.space_size`: it would let nothing through",
            "line 10: `backup.folder`: write a text",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert!(read("listen = ").is_err_and(|faults| faults.to_string().contains("line 1")));
    }
}
