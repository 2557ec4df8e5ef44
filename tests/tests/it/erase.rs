//! A document that an operator erases is gone everywhere, byte by byte, and stays gone.

use std::path::Path;

use rejoin_tests::processes::{Rejoin, RelayProcess};

/// What stands in the erased document, and in nothing else.
const CANARY: &str = "canary-gate-code-4711";

/// Its key.
const KEY: &str = "canary-key-0815";

/// What somebody wrote to it who did not know.
const LATE: &str = "late-edit-2342";

struct Company {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
    relay: RelayProcess,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        let relay = RelayProcess::start(folder.path().join("relay"));
        Self { folder, rejoin, relay }
    }

    fn at(&self, replica: &str, line: &str) -> String {
        self.rejoin.ok(["--replica", replica].into_iter().chain(line.split(' ')))
    }

    fn sync(&self, replica: &str) -> String {
        self.at(replica, &format!("sync {} --once", self.relay.url()))
    }

    fn digest(&self, replica: &str) -> String {
        self.at(replica, "digest")
    }

    /// Whether a file has a text anywhere.
    fn has(&self, file: impl AsRef<Path>, text: &str) -> bool {
        let bytes = std::fs::read(self.folder.path().join(file)).expect("a file");
        bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }

    /// The id of the document with the key, by a replica that has it.
    fn id(&self, replica: &str) -> String {
        let told = self.rejoin.json(["--replica", replica, "get", "jobs", KEY]);
        told["id"].as_str().expect("an id").to_owned()
    }

    /// Its key is free for another document than this, on every device the same.
    fn key_is_free(&self, id: &str) {
        self.rejoin.ok(["--replica", "b.redb", "set", "jobs", KEY, "note=anew"]);
        assert_ne!(self.id("b.redb"), id);
        self.sync("b.redb");
        self.rejoin.ok(["--replica", "a.redb", "set", "jobs", KEY, "status=open"]);
        for replica in ["a.redb", "b.redb", "c.redb", "d.redb"] {
            self.sync(replica);
        }
        self.sync("b.redb");
        let both = self.rejoin.json(["--replica", "b.redb", "get", "jobs", KEY]);
        assert_eq!(both["value"], serde_json::json!({ "note": "anew", "status": "open" }));
        for replica in ["c.redb", "d.redb"] {
            self.sync(replica);
            assert_eq!(self.digest(replica), self.digest("b.redb"));
        }
    }
}

#[test]
fn an_erased_document_is_in_no_file_any_more_and_its_key_is_free() {
    let mut company = Company::new();
    let note = format!("note={CANARY}");
    company.rejoin.ok(["--replica", "a.redb", "set", "jobs", KEY, &note]);
    company.at("a.redb", "set jobs other note=kept");
    for replica in ["a.redb", "b.redb", "c.redb"] {
        company.sync(replica);
        assert!(company.has(replica, CANARY));
    }
    assert!(company.has("relay/relay.redb", CANARY) && company.has("relay/relay.redb", KEY));
    let id = company.id("a.redb");

    // One edits it in a basement, and an operator erases it meanwhile.
    company.rejoin.ok(["--replica", "c.redb", "set", "jobs", KEY, &format!("late={LATE}")]);
    let admin = |line: &str| {
        let command = format!("admin --data relay {line}");
        company.rejoin.run(command.split(' '))
    };
    let asked = admin(&format!("erase {id}"));
    assert!(asked.code != 0 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    let erased = admin(&format!("erase {id} --yes"));
    assert!(erased.stdout.contains("is erased, with"), "{} {}", erased.stdout, erased.stderr);
    let key = admin(&format!("erase jobs/{KEY} --yes"));
    assert!(key.stderr.contains("nothing was erased"), "the key is nobody's now: {}", key.stderr);
    assert!(key.stdout.contains("it was erased before"), "{}", key.stdout);
    let again = admin(&format!("erase {id} --yes"));
    assert!(again.stdout.contains("it was erased before"), "{}", again.stdout);
    let nonsense = admin("erase nonsense --yes");
    assert!(nonsense.stdout.contains("COLLECTION/KEY"), "{}", nonsense.stdout);
    let unknown = admin("erase jobs/nobody --yes");
    assert!(unknown.stdout.contains("has no such document"), "{}", unknown.stdout);
    for text in [CANARY, KEY] {
        assert!(!company.has("relay/relay.redb", text), "{text} is in the relay's file");
    }
    let listed = admin("documents").stdout;
    assert!(listed.contains("  erased "), "{listed}");

    // Who had it removes it, and who never had it is not told that anything is missing.
    for replica in ["a.redb", "b.redb", "d.redb"] {
        let said = company.sync(replica);
        assert!(said.contains("both hold everything (1 document)"), "{said}");
        for text in [CANARY, KEY] {
            assert!(!company.has(replica, text), "{text} is in {replica}");
        }
        assert_eq!(company.digest(replica), company.digest("a.redb"));
    }
    let gone = company.rejoin.refused(["--replica", "b.redb", "get", "jobs", KEY]);
    assert!(gone.contains("no document"), "{gone}");

    // Who edited it keeps that, and nothing else.
    let sync = format!("--replica c.redb sync {} --once", company.relay.url());
    let said = company.rejoin.refused(sync.split(' '));
    assert!(said.contains("erased by an operator"), "{said}");
    assert!(!company.has("c.redb", CANARY) && company.has("c.redb", LATE));
    company.at("c.redb", "status --acknowledge");
    company.sync("c.redb");
    assert_eq!(company.digest("c.redb"), company.digest("a.redb"));

    // A crash changes nothing of it, and a backup knows it.
    company.relay.kill9();
    company.relay.restart();
    company.sync("e.redb");
    assert_eq!(company.digest("e.redb"), company.digest("a.redb"));
    company.rejoin.ok(["backup", "--data", "relay", "whole.backup"]);
    company.rejoin.ok(["backup", "verify", "whole.backup"]);
    assert!(!company.has("whole.backup", CANARY));

    company.key_is_free(&id);
}

/// A relay that never heard of the erasures, as one with a new disk, has nothing that these replicas wait
/// for: they find out that it does not know them, however many they are.
#[test]
fn a_relay_that_knows_nothing_of_erasures_has_the_last_word() {
    let company = Company::new();
    let rows: String = (0..350).map(|n| format!("k{n},booked\n")).collect();
    let csv = format!("key,status\n{rows}");
    std::fs::write(company.folder.path().join("jobs.csv"), csv).expect("a file");
    company.at("a.redb", "import jobs.csv --collection jobs --key key");
    company.sync("a.redb");
    let mut command: Vec<String> =
        ["admin", "--data", "relay", "erase", "--yes"].map(str::to_owned).into();
    command.extend((0..300).map(|n| format!("jobs/k{n}")));
    command.push("jobs/nobody".to_owned());
    let erased = company.rejoin.run(command.iter().map(String::as_str));
    assert!(erased.code != 0, "one was not erased: {}", erased.stdout);
    assert!(erased.stderr.contains("1 of 301 documents were not erased"), "{}", erased.stderr);
    assert!(company.sync("a.redb").contains("both hold everything (50 documents)"));

    let other = RelayProcess::start(company.folder.path().join("other"));
    let said = company.at("a.redb", &format!("sync {} --once", other.url()));
    assert!(said.contains("both hold everything (50 documents)"), "{said}");
    company.at("b.redb", &format!("sync {} --once", other.url()));
    assert_eq!(company.digest("a.redb"), company.digest("b.redb"));
}

#[test]
fn what_was_deleted_long_ago_is_erased_unless_somebody_wrote_since() {
    let company = Company::new();
    for key in ["gone", "back", "there"] {
        company.at("a.redb", &format!("set jobs {key} status=booked"));
    }
    company.at("a.redb", "delete jobs gone");
    company.at("a.redb", "delete jobs back");
    company.sync("a.redb");
    company.sync("b.redb");
    let erase = |more: &str| {
        let command = format!("--replica a.redb admin --data relay erase --deleted jobs {more}");
        company.rejoin.run(command.split(' '))
    };
    let young = erase("--yes");
    assert_eq!(young.code, 0, "{}", young.stderr);
    assert!(young.stdout.contains("nothing was deleted more than 90d ago"), "{}", young.stdout);

    // Nobody told this replica that one of them is back.
    company.at("b.redb", "restore jobs back");
    company.sync("b.redb");
    // Both are that old at some time.
    let mut asked = std::iter::repeat_with(|| erase("--older-than 1s").stderr);
    let both = "nothing was erased; --yes says that you mean it: 2 documents of jobs that were deleted \
                more than 1s ago";
    assert!(asked.any(|said| said.contains(both)));
    let erased = erase("--older-than 1s --yes");
    assert!(erased.stderr.contains("1 of 2 documents were not erased"), "{}", erased.stderr);
    assert!(erased.stdout.contains("sync that first"), "{}", erased.stdout);
    assert!(company.sync("a.redb").contains("both hold everything (2 documents)"));
    assert!(company.at("a.redb", "get jobs back").contains("booked"));
}
